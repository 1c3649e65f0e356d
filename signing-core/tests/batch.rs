//! Batch signers: each leaf of a batch is proved by itself, whatever is changed in a proof is refused,
//! and others read what we make (the crates `signed_note` and `tlog_tiles` share no code with us).

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use signed_note::{Note, StandardVerifier, VerifierList};
use signing_core::batch::{
    Batch, BatchId, BatchProof, KeyName, Salt, SignedBatch, is_proof, stated_deployment,
    verifier_key,
};
use signing_core::key::Batching;
use signing_core::{
    Algorithm, Digest, Hash, Input, Kid, Reason, Registry, SignatureFormat, Signer, ToBeSigned,
};

use key_pairs::{ed25519, p256};

mod key_pairs;

const DEPLOYMENT: &str = "payments-eu";
const ID: BatchId = BatchId::new([0x5a; 16]);

/// What signs a note.
type Sign = Box<dyn Fn(&ToBeSigned) -> Vec<u8>>;

fn batch_signer(signer: &Signer) -> Signer {
    Signer { batch: Batching::Unnamed, ..signer.clone() }.in_deployment(DEPLOYMENT).unwrap()
}

/// Both kinds of batch signers.
fn signers() -> [(Signer, Sign); 2] {
    let ((edwards, first), (weierstrass, second)) = (ed25519(1), p256(2));
    let by_edwards = move |note: &ToBeSigned| edwards.sign(note.bytes()).to_bytes().to_vec();
    let by_weierstrass = move |note: &ToBeSigned| {
        use p256::ecdsa::signature::hazmat::PrehashSigner as _;
        let signed: p256::ecdsa::Signature =
            weierstrass.sign_prehash(note.digest().unwrap()).unwrap();
        signed.to_der().as_bytes().to_vec()
    };
    [
        (batch_signer(&first), Box::new(by_edwards)),
        (batch_signer(&second), Box::new(by_weierstrass)),
    ]
}

fn message(at: u64) -> Input {
    Input::Message(format!("order {at}").into_bytes())
}

fn salt(at: u64) -> Salt {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&at.to_be_bytes());
    Salt::new(bytes)
}

fn prepared(signer: &Signer, input: &Input) -> ToBeSigned {
    signer.prepare(input, signer.algorithm()).unwrap()
}

/// A signed batch of that many messages.
fn signed(signer: &Signer, sign: &Sign, size: u64, id: BatchId) -> SignedBatch {
    let leaves: Vec<_> = (0..size)
        .map(|at| signer.leaf(&prepared(signer, &message(at)), &salt(at)).unwrap())
        .collect();
    let batch = Batch::new(signer, id, leaves).unwrap();
    let signature = sign(batch.to_be_signed());
    batch.signed(signer, signature).unwrap()
}

fn proof(signer: &Signer, batch: &SignedBatch, at: u64) -> String {
    let input = prepared(signer, &message(at));
    let verified = batch.prove((&input, salt(at)), at).unwrap();
    String::from_utf8(verified.bytes().to_vec()).unwrap()
}

fn verifies(signer: &Signer, input: &Input, proof: &str) -> bool {
    signer.verify(&prepared(signer, input), proof.as_bytes().to_vec()).is_ok()
}

#[test]
fn each_leaf_of_every_size_is_proved_by_itself_and_no_other() {
    for (signer, sign) in signers() {
        for size in (1..=20).chain([63, 64, 65]) {
            let batch = signed(&signer, &sign, size, ID);
            for at in 0..size {
                let text = proof(&signer, &batch, at);
                assert!(verifies(&signer, &message(at), &text), "{at} of {size}");
                assert!(!verifies(&signer, &message(at + 1), &text), "{at} of {size}");
                // Another's place or random bytes prove nothing, before anything leaves.
                let input = prepared(&signer, &message(at));
                assert!(batch.prove((&input, salt(at)), (at + 1) % size.max(2)).is_err());
                assert!(batch.prove((&input, salt(at + 1)), at).is_err());
            }
            assert!(batch.prove((&prepared(&signer, &message(0)), salt(0)), size).is_err());
        }
    }
}

#[test]
fn a_proof_says_what_its_record_needs_and_has_one_form() {
    for (signer, sign) in signers() {
        let batch = signed(&signer, &sign, 5, ID);
        let input = prepared(&signer, &message(3));
        let verified = batch.prove((&input, salt(3)), 3).unwrap();
        let proved = verified.proved().unwrap();
        assert_eq!((proved.index, proved.size), (3, 5));
        assert_eq!(*proved.origin, *format!("{DEPLOYMENT}/batch/{}/{ID}", signer.kid));
        assert_eq!(verified.own_format(), SignatureFormat::TlogProof);
        assert_eq!(
            verified.bytes_in(SignatureFormat::TlogProof).as_deref(),
            Some(verified.bytes())
        );
        for other in [SignatureFormat::Der, SignatureFormat::P1363] {
            assert_eq!(verified.bytes_in(other), None);
            let refused = signer.format(Some(other), signer.algorithm()).unwrap_err();
            assert_eq!(refused.reason, Reason::InvalidRequest);
        }
        assert!(is_proof(verified.bytes()));
        assert_eq!(stated_deployment(verified.bytes(), &signer.kid), Some(DEPLOYMENT));
        let read = BatchProof::parse(verified.bytes(), signer.batch.key_name().unwrap()).unwrap();
        assert_eq!(read.to_text().as_bytes(), verified.bytes());
    }
}

/// A proof with one thing changed, each of which another check has to find.
fn forged(signer: &Signer, sign: &Sign) -> Vec<(&'static str, String)> {
    let batch = signed(signer, sign, 5, ID);
    let good = proof(signer, &batch, 3);
    let lines: Vec<&str> = good.split('\n').collect();
    let with = |at: usize, line: &str| {
        let mut changed = lines.clone();
        changed[at] = line;
        changed.join("\n")
    };
    let (mut cut, mut longer) = (lines.clone(), lines.clone());
    cut.remove(4);
    longer.insert(4, lines[3]);
    let other = signed(signer, sign, 6, BatchId::new([0x11; 16]));
    let other = proof(signer, &other, 3);
    let (proof_of, note_of) =
        (good.split_once("\n\n").unwrap().0, other.split_once("\n\n").unwrap().1);
    let zeros = STANDARD.encode([0; 32]);
    let (from, to) = (format!("{DEPLOYMENT}/batch/"), "payments-us/batch/");
    let signature = lines.len() - 2;
    let encoded = lines[signature].rsplit_once(' ').unwrap();
    let mut bytes = STANDARD.decode(encoded.1).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let broken = format!("{} {}", encoded.0, STANDARD.encode(&bytes));
    bytes[last] ^= 1;
    bytes[0] ^= 1;
    let other_key = format!("{} {}", encoded.0, STANDARD.encode(&bytes));
    vec![
        ("random bytes", with(1, &format!("extra {zeros}"))),
        ("no random bytes", with(1, "extra ")),
        ("index", with(2, "index 2")),
        ("index >= size", with(2, "index 5")),
        ("a second spelling of the index", with(2, "index 03")),
        ("index of a sign", with(2, "index +3")),
        ("a hash of the path", with(3, &zeros)),
        ("cut path", cut.join("\n")),
        ("lengthened path", longer.join("\n")),
        ("another batch's note", format!("{proof_of}\n\n{note_of}")),
        ("size", good.replacen("\n5\n", "\n6\n", 1)),
        ("deployment", good.replace(&from, to)),
        ("deployment in the note's origin", good.replacen(&from, to, 1)),
        ("title", with(0, "c2sp.org/tlog-proof@v2")),
        ("signature", with(signature, &broken)),
        ("key id", with(signature, &other_key)),
        ("two signatures", format!("{good}{}\n", lines[signature])),
        ("bytes after it", format!("{good}\n")),
        ("carriage returns", good.replace('\n', "\r\n")),
        ("nothing", String::new()),
    ]
}

#[test]
fn whatever_is_changed_in_a_proof_it_is_none() {
    for (signer, sign) in signers() {
        let good = proof(&signer, &signed(&signer, &sign, 5, ID), 3);
        assert!(verifies(&signer, &message(3), &good));
        for (what, forged) in forged(&signer, &sign) {
            assert_ne!(forged, good, "{what}: nothing was changed");
            assert!(!verifies(&signer, &message(3), &forged), "{what}: {forged}");
        }
        // Every byte counts.
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= 1;
            let input = prepared(&signer, &message(3));
            assert!(signer.verify(&input, bytes).is_err(), "byte {at}");
        }
    }
}

#[test]
fn a_raw_signature_under_a_batch_key_and_a_proof_under_any_other_are_refused() {
    let (private, plain) = ed25519(1);
    let signer = batch_signer(&plain);
    let input = Input::Message(b"order 3".to_vec());
    let raw = private.sign(b"order 3").to_bytes().to_vec();
    let as_plain = ToBeSigned::prepare(&input, Algorithm::Ed25519Sha512).unwrap();
    // It is the key's, and it counts for nothing: a batch signer signs batches and nothing else.
    assert!(plain.verify(&as_plain, raw.clone()).is_ok());
    assert!(signer.verify(&as_plain, raw.clone()).is_err());
    assert!(signer.verify(&prepared(&signer, &input), raw).is_err());
    // Nor is the note's own signature one over the note as a message.
    let [(_, sign), _] = signers();
    let batch = signed(&signer, &sign, 1, ID);
    let good = proof(&signer, &batch, 0);
    let note = good.split_once("\n\n").unwrap().1;
    let text = note.split_once("\n\n").unwrap().0.to_owned() + "\n";
    let line = note.trim_end().rsplit(' ').next().unwrap();
    let signature = STANDARD.decode(line).unwrap()[4..].to_vec();
    let over_note = Input::Message(text.into_bytes());
    assert!(signer.prepare(&over_note, signer.algorithm()).is_err());
    let digest = Input::Digest(Hash::Sha256.of(b"of the note"));
    assert!(signer.verify(&prepared(&signer, &digest), signature).is_err());
    // A proof under the same key without the mode, and under a kid of the same key.
    let of_plain = ToBeSigned::prepare(&message(0), Algorithm::Ed25519Sha512).unwrap();
    assert!(plain.verify(&of_plain, good.clone().into_bytes()).is_err());
    let other = Signer { kid: Kid::parse("other").unwrap(), ..signer.clone() };
    let other = other.in_deployment(DEPLOYMENT).unwrap();
    assert!(!verifies(&other, &message(0), &good));
    // Swapped in the text too, the leaf is another's.
    let swapped = good.replace("/batch/ledger", "/batch/other");
    assert!(!verifies(&other, &message(0), &swapped));
    // Without a deployment nothing verifies.
    let unnamed = Signer { batch: Batching::Unnamed, ..signer.clone() };
    assert!(!verifies(&unnamed, &message(0), &good));
    assert!(Batch::of_one(&unnamed, ID, &salt(0), &prepared(&signer, &message(0))).is_none());
    assert!(Batch::new(&signer, ID, []).is_none(), "a batch has a leaf");
}

#[test]
fn a_message_and_its_digest_are_two_inputs() {
    for (signer, sign) in signers() {
        let batch = signed(&signer, &sign, 1, ID);
        let text = proof(&signer, &batch, 0);
        let digest = Hash::Sha256.of(b"order 0");
        assert!(!verifies(&signer, &Input::Digest(digest.clone()), &text));
        let input = prepared(&signer, &Input::Digest(digest.clone()));
        assert_eq!(input.fingerprint(), digest);
        assert_ne!(input.identity(), prepared(&signer, &message(0)).identity());
        let sha384 = Input::Digest(Digest::new(Hash::Sha384, &[1; 48]).unwrap());
        let refused = signer.prepare(&sha384, signer.algorithm()).unwrap_err();
        assert_eq!(refused.reason, Reason::InvalidDigest);
        // A long message too: its hash is in the leaf.
        assert!(signer.prepare(&Input::Message(vec![1; 100_000]), signer.algorithm()).is_ok());
        // A leaf is no bytes that a key could sign by itself.
        assert_eq!((input.digest(), input.bytes()), (None, &[][..]));
    }
}

#[test]
fn the_registry_says_which_signers_sign_batches() {
    let (_, plain) = p256(1);
    let entry = |kid: &str, more: &str| {
        let pem = serde_json::to_string(&plain.public_key.to_pem()).unwrap();
        format!(
            r#"{{"signers":[{{"signer_kid":"{kid}","algorithm":"ecdsa-p256-sha256","public_key_pem":{pem}{more}}}]}}"#
        )
    };
    let registry = Registry::from_json(&entry("b", r#","mode":"batch""#)).unwrap();
    assert_eq!(registry.get("b").unwrap().batch, Batching::Unnamed);
    let written = serde_json::to_value(registry.to_document()).unwrap();
    assert_eq!(written["signers"][0]["mode"], "batch");
    let named = registry.of_deployment(DEPLOYMENT).unwrap();
    let name = KeyName::new(DEPLOYMENT, &Kid::parse("b").unwrap()).unwrap();
    assert_eq!(named.get("b").unwrap().batch.key_name(), Some(&name));
    for (text, said) in [
        (entry("b", r#","mode":"batched""#), "is unknown; write \"batch\""),
        (entry("b", r#","Mode":"batch""#), "write \"mode\""),
        (entry("b", r#","mode":"batch","purpose":"audit""#), "checkpoints"),
    ] {
        let mistakes = Registry::from_json(&text).unwrap_err();
        assert!(mistakes.iter().any(|mistake| mistake.contains(said)), "{mistakes:?}");
    }
    for deployment in ["", "a b", "a+b", "pay\u{e9}", &"x".repeat(129)] {
        let registry = Registry::from_json(&entry("b", r#","mode":"batch""#)).unwrap();
        let mistakes = registry.of_deployment(deployment).unwrap_err();
        assert!(mistakes[0].contains("deployment.name"), "{mistakes:?}");
    }
    let registry = Registry::from_json(&entry("b+c", r#","mode":"batch""#)).unwrap();
    assert!(registry.of_deployment(DEPLOYMENT).unwrap_err()[0].contains("kid has no"));
    let registry = Registry::from_json(&entry("b+c", "")).unwrap();
    assert!(registry.of_deployment("any name").is_ok(), "others are not named so");
}

#[test]
fn others_verify_our_notes_and_our_paths() {
    let [(signer, sign), (other, other_sign)] = signers();
    let name = signer.batch.key_name().unwrap();
    let key = verifier_key(name, &signer.public_key).unwrap();
    assert_eq!(verifier_key(other.batch.key_name().unwrap(), &other.public_key), None);
    let verifier = || VerifierList::new(vec![Box::new(StandardVerifier::new(&key).unwrap())]);
    for size in [1, 2, 3, 7, 64, 100] {
        let batch = signed(&signer, &sign, size, ID);
        for at in 0..size {
            let text = proof(&signer, &batch, at);
            let (head, note) = text.split_once("\n\n").unwrap();
            let note = Note::from_bytes(note.as_bytes()).unwrap();
            let (verified, unverified) = note.verify(&verifier()).unwrap();
            assert_eq!((verified.len(), unverified.len()), (1, 0));
            let read = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
            assert_eq!((read.origin(), read.size()), (format!("{name}/{ID}").as_str(), size));
            let path: Vec<_> = head.split('\n').skip(3).map(their_hash).collect();
            let leaf = signer.leaf(&prepared(&signer, &message(at)), &salt(at)).unwrap();
            let leaf = tlog_tiles::Hash(*leaf.as_bytes());
            tlog_tiles::check_record(&path, size, *read.hash(), at, leaf).unwrap();
        }
    }
    // A note of P-256 is one too, of a key kind that this crate does not verify.
    let text = proof(&other, &signed(&other, &other_sign, 3, ID), 1);
    let note = Note::from_bytes(text.split_once("\n\n").unwrap().1.as_bytes()).unwrap();
    assert!(tlog_tiles::Checkpoint::from_bytes(note.text()).is_ok());
}

fn their_hash(line: &str) -> tlog_tiles::Hash {
    tlog_tiles::Hash(STANDARD.decode(line).unwrap().try_into().unwrap())
}

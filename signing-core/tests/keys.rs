//! What one implementation signs, another verifies, bit for bit, over exactly
//! the bytes that each algorithm is given (I1).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use ed25519_dalek::Signer as _;
use p256::ecdsa::Signature as P256Signature;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use proptest::prelude::*;
use signing_core::key::{BadSignature, RAW_MESSAGE_MAX_BYTES};
use signing_core::{Algorithm, Canary, Digest, Hash, Input, Kid, Reason, Signer, ToBeSigned};

use key_pairs::{ed25519, p256};

mod key_pairs;

const ED25519: Algorithm = Algorithm::Ed25519Sha512;
const ECDSA: Algorithm = Algorithm::EcdsaSha256;

/// SHA-256 of `abc` (FIPS 180-2, appendix B.1).
const ABC_SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn message(bytes: &[u8], algorithm: Algorithm) -> ToBeSigned {
    ToBeSigned::prepare(&Input::Message(bytes.to_vec()), algorithm).unwrap()
}

fn digest(bytes: &[u8], algorithm: Algorithm) -> ToBeSigned {
    let digest = Digest::new(Hash::Sha256, bytes).unwrap();
    ToBeSigned::prepare(&Input::Digest(digest), algorithm).unwrap()
}

fn refusal(input: Input, algorithm: Algorithm) -> Reason {
    ToBeSigned::prepare(&input, algorithm).unwrap_err().reason
}

/// Each algorithm's signer, an input, and its signature by another implementation.
fn signatures() -> [(Signer, ToBeSigned, Vec<u8>); 2] {
    let (edwards, edwards_signer) = ed25519(1);
    let (weierstrass, weierstrass_signer) = p256(1);
    let by_weierstrass: P256Signature = weierstrass.sign(b"abc");
    [
        (edwards_signer, message(b"abc", ED25519), edwards.sign(b"abc").to_vec()),
        (weierstrass_signer, message(b"abc", ECDSA), by_weierstrass.to_der().as_bytes().to_vec()),
    ]
}

fn assert_bad(signer: &Signer, input: &ToBeSigned, signature: &[u8], what: &str) {
    let bad = BadSignature { signature_bytes: signature.len() };
    assert_eq!(signer.verify(input, signature.to_vec()).unwrap_err(), bad, "{what}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn i1_what_ed25519_dalek_signs_verifies(
        seed in any::<u8>(),
        said in proptest::collection::vec(any::<u8>(), 1..=RAW_MESSAGE_MAX_BYTES),
        hash in any::<[u8; 32]>(),
    ) {
        let (private, signer) = ed25519(seed);
        let over_message = private.sign(&said).to_vec();
        prop_assert!(signer.verify(&message(&said, ED25519), over_message.clone()).is_ok());
        prop_assert!(signer.verify(&digest(&hash, ED25519), over_message).is_err());
        let over_digest = private.sign(&hash).to_vec();
        prop_assert!(signer.verify(&digest(&hash, ED25519), over_digest).is_ok());
    }

    #[test]
    fn i1_what_p256_signs_verifies(
        seed in 1..=u8::MAX,
        said in proptest::collection::vec(any::<u8>(), 0..10_000),
        hash in any::<[u8; 32]>(),
    ) {
        let (private, signer) = p256(seed % 254 + 1);
        let over_message: P256Signature = private.sign(&said);
        let over_message = over_message.to_der().as_bytes().to_vec();
        prop_assert!(signer.verify(&message(&said, ECDSA), over_message.clone()).is_ok());
        prop_assert!(signer.verify(&digest(&hash, ECDSA), over_message).is_err());
        let over_digest: P256Signature = private.sign_prehash(&hash).unwrap();
        let over_digest = over_digest.to_der().as_bytes().to_vec();
        prop_assert!(signer.verify(&digest(&hash, ECDSA), over_digest).is_ok());
    }
}

#[test]
fn i1_the_proof_names_the_signer_and_carries_the_signature() {
    for (signer, input, signature) in signatures() {
        let verified = signer.verify(&input, signature.clone()).unwrap();
        assert_eq!(verified.kid(), &signer.kid);
        assert_eq!(verified.algorithm(), signer.algorithm());
        assert_eq!(verified.bytes(), signature);
    }
}

#[test]
fn i1_one_flipped_bit_anywhere_is_a_bad_signature() {
    for (signer, input, signature) in signatures() {
        for bit in 0..signature.len() * 8 {
            let mut flipped = signature.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_bad(&signer, &input, &flipped, &format!("bit {bit}"));
        }
    }
}

#[test]
fn i10_a_signature_of_another_length_is_bad() {
    for (signer, input, signature) in signatures() {
        for shorter in 0..signature.len() {
            assert_bad(&signer, &input, &signature[..shorter], "cut at the end");
            assert_bad(&signer, &input, &signature[signature.len() - shorter..], "cut in front");
        }
        for extra in [&[0][..], &[0xff], &[0; 64], &[0x30; 1_000]] {
            assert_bad(&signer, &input, &[&signature, extra].concat(), "extended at the end");
            assert_bad(&signer, &input, &[extra, &signature].concat(), "extended in front");
        }
    }
}

#[test]
fn i1_another_key_verifies_nothing() {
    let [(_, edwards_input, edwards_signature), (_, weierstrass_input, weierstrass_signature)] =
        signatures();
    assert_bad(&ed25519(2).1, &edwards_input, &edwards_signature, "another Ed25519 key");
    assert_bad(&p256(2).1, &weierstrass_input, &weierstrass_signature, "another P-256 key");
}

#[test]
fn i1_another_input_is_not_what_was_signed() {
    for (signer, _, signature) in signatures() {
        let algorithm = signer.algorithm();
        for other in [&b"\0"[..], b"ab", b"abd", b"abc\0"] {
            assert_bad(&signer, &message(other, algorithm), &signature, "another message");
        }
        assert_bad(&signer, &digest(&[0; 32], algorithm), &signature, "another digest");
    }
}

#[test]
fn i1_what_was_prepared_for_another_algorithm_verifies_under_no_key() {
    let [(edwards, edwards_input, first), (weierstrass, weierstrass_input, second)] = signatures();
    assert_bad(&edwards, &weierstrass_input, &first, "Ed25519 key");
    assert_bad(&weierstrass, &edwards_input, &second, "P-256 key");
}

#[test]
fn ecdsa_signs_the_digest_and_ed25519_the_bytes() {
    let hash = hex::decode(ABC_SHA256).unwrap();
    for (prepared, is_digest, bytes) in [
        (message(b"abc", ECDSA), true, hash.as_slice()),
        (digest(&hash, ECDSA), true, &hash),
        (message(b"abc", ED25519), false, b"abc"),
        (digest(&hash, ED25519), false, &hash),
    ] {
        assert_eq!(prepared.digest(), is_digest.then_some(bytes), "{prepared:?}");
        assert_eq!(prepared.bytes(), bytes);
    }
}

#[test]
fn a_fingerprint_is_the_digest_that_is_signed_else_the_messages_sha256() {
    let hash = hex::decode(ABC_SHA256).unwrap();
    for prepared in [message(b"abc", ECDSA), digest(&hash, ECDSA), message(b"abc", ED25519)] {
        assert_eq!(prepared.fingerprint().to_string(), format!("sha256:{ABC_SHA256}"));
    }
    let sha384 = message(b"abc", Algorithm::EcdsaSha384).fingerprint();
    assert_eq!(sha384, Hash::Sha384.of(b"abc"));
    assert!(sha384.to_string().starts_with("sha384:cb00753f"), "{sha384}");
}

#[test]
fn a_digest_has_the_length_of_its_hash() {
    for hash in Hash::ALL {
        for length in (0..70).chain([4_096]).filter(|length| *length != hash.digest_bytes()) {
            let refused = Digest::new(hash, &vec![1; length]).unwrap_err();
            assert_eq!(refused.reason, Reason::InvalidDigest, "{hash:?} {length}");
        }
        assert_eq!(Digest::new(hash, &vec![1; hash.digest_bytes()]).unwrap().hash(), hash);
    }
}

#[test]
fn an_algorithm_takes_the_digest_of_its_own_hash_only() {
    for algorithm in Algorithm::ALL {
        for hash in Hash::ALL {
            let prepared = ToBeSigned::prepare(&Input::Digest(hash.of(b"abc")), *algorithm);
            match prepared {
                Ok(prepared) => {
                    assert_eq!(hash, algorithm.digest_hash(), "{algorithm}");
                    assert_eq!(prepared.bytes(), hash.of(b"abc").bytes());
                    assert_eq!(prepared.algorithm(), *algorithm);
                }
                Err(refused) => {
                    assert_ne!(hash, algorithm.digest_hash(), "{algorithm}");
                    assert_eq!(refused.reason, Reason::InvalidDigest);
                    assert!(refused.detail.contains(algorithm.name()), "{refused}");
                }
            }
        }
    }
}

#[test]
fn i8_an_ed25519_message_is_as_long_as_kms_takes_it_and_no_longer() {
    assert_eq!(message(&[1; 4_096], ED25519).bytes().len(), 4_096);
    for length in [4_097, 1 << 20] {
        assert_eq!(refusal(Input::Message(vec![1; length]), ED25519), Reason::MessageTooLarge);
    }
}

#[test]
fn an_empty_message_is_refused_by_ed25519_only() {
    assert_eq!(refusal(Input::Message(vec![]), ED25519), Reason::InvalidRequest);
    assert_eq!(message(b"", ECDSA).bytes().len(), 32);
}

#[test]
fn an_ecdsa_message_of_a_mebibyte_is_signed_by_its_digest() {
    let said = vec![0x5a; 1 << 20];
    let (private, signer) = p256(1);
    let signature: P256Signature = private.sign(&said);
    let signature = signature.to_der().as_bytes().to_vec();
    assert!(signer.verify(&message(&said, ECDSA), signature).is_ok());
}

#[test]
fn a_message_that_begins_like_a_canary_is_refused() {
    let prefix = b"signing-proxy canary v1\0";
    for algorithm in [ED25519, ECDSA] {
        for rest in [&b""[..], b"ledger", &[7; 5_000]] {
            let said = [prefix, rest].concat();
            assert_eq!(refusal(Input::Message(said), algorithm), Reason::InvalidRequest);
        }
        for near in [&prefix[..prefix.len() - 1], &prefix[1..], b"signing-proxy canary v1 "] {
            assert_eq!(message(near, algorithm).algorithm(), algorithm);
        }
    }
}

#[test]
fn no_caller_signs_what_could_be_the_note_of_a_batch() {
    let id = "0123456789abcdef0123456789abcdef";
    let root = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
    let note = |name: &str, id: &str| format!("{name}/{id}\n3\n{root}\n");
    let long = format!("{}/batch/{}", "d".repeat(128), "k".repeat(128));
    for algorithm in [ED25519, ECDSA] {
        for name in ["test/batch/bulk", "a/b/batch/c/d", "x/batch//batch/y", &long] {
            let said = note(name, id).into_bytes();
            assert_eq!(refusal(Input::Message(said), algorithm), Reason::InvalidRequest, "{name}");
        }
        // Whatever follows the first line.
        let said = format!("test/batch/bulk/{id}\n").into_bytes();
        assert_eq!(refusal(Input::Message(said), algorithm), Reason::InvalidRequest);
        for near in [
            note("test/batches/bulk", id),
            note("test/batch/bulk", &id.to_uppercase()),
            note("test/batch/bulk", &id[1..]),
            format!("test/batch/bulk/{id}"),
            format!("\n{}", note("test/batch/bulk", id)),
        ] {
            assert_eq!(message(near.as_bytes(), algorithm).algorithm(), algorithm, "{near}");
        }
    }
}

#[test]
fn a_canary_is_signed_and_verified_like_a_message() {
    let canary = Canary::new(&Kid::parse("ledger").unwrap(), [7; 48]);
    let (edwards, edwards_signer) = ed25519(1);
    let over = canary.to_be_signed(&edwards_signer);
    assert!(over.bytes().starts_with(b"signing-proxy canary v1\0ledger\x07"));
    assert!(edwards_signer.verify(&over, edwards.sign(over.bytes()).to_vec()).is_ok());
    let (weierstrass, weierstrass_signer) = p256(1);
    let over = canary.to_be_signed(&weierstrass_signer);
    let signature: P256Signature = weierstrass.sign_prehash(over.digest().unwrap()).unwrap();
    let signature = signature.to_der().as_bytes().to_vec();
    assert!(weierstrass_signer.verify(&over, signature).is_ok());
}

#[test]
fn no_caller_signs_the_prefix_of_a_canary_as_a_digest() {
    let digest = [&b"signing-proxy canary v1\0"[..], &[0; 8]].concat();
    let digest = Digest::new(Hash::Sha256, &digest).unwrap();
    let refused = refusal(Input::Digest(digest), Algorithm::Ed25519Sha512);
    assert_eq!(refused, Reason::InvalidRequest);
}

#[test]
fn an_empty_message_is_refused_where_kms_would_refuse_it() {
    let refused = refusal(Input::Message(Vec::new()), Algorithm::Ed25519Sha512);
    assert_eq!(refused, Reason::InvalidRequest);
    assert!(ToBeSigned::prepare(&Input::Message(Vec::new()), Algorithm::EcdsaSha256).is_ok());
}

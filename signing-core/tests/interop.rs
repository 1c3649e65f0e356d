//! Checkpoints and proofs as others read them: the crates `signed_note` and `tlog_tiles`, which share
//! no code with us, verify what we make and make what we verify.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use signed_note::{Note, StandardSigner, StandardVerifier, VerifierList};
use signing_core::journal::AuditKeys;
use signing_core::tree::{
    Checkpoint, Frontier, Inclusion, LogId, Recent, SignedCheckpoint, Signs, TreeHash,
};
use tlog_tiles::{Hash, HashReader};

use key_pairs::ed25519;

#[expect(dead_code, reason = "another test takes the other one")]
mod key_pairs;

const LOG: LogId = LogId::new([0x5a; 16]);
const SIZE: u64 = 100;

fn record(number: u64) -> Vec<u8> {
    format!("{{\"record\":{number}}}").into_bytes()
}

fn signed(size: u64, root: TreeHash) -> SignedCheckpoint {
    let (private, signer) = ed25519(1);
    let sign = |text: &[u8]| private.sign(text).to_bytes();
    Checkpoint { log: LOG, size, root }.sign(&[(&signer.public_key, &sign)])
}

/// The key as a line (c2sp.org/signed-note): name, id, and 1 for Ed25519 with its bytes.
fn vkey(private: &SigningKey) -> String {
    let (name, public) = (LOG.origin(), private.verifying_key().to_bytes());
    let key = [&[1][..], &public].concat();
    format!("{name}+{:08x}+{}", signed_note::key_id(&name, &key), STANDARD.encode(key))
}

/// Their tree of the same records, hash by hash.
struct Theirs(Vec<Hash>);

impl HashReader for Theirs {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        let hash = |index: &u64| *self.0.get(usize::try_from(*index).unwrap()).unwrap();
        Ok(indexes.iter().map(hash).collect())
    }
}

impl Theirs {
    fn push(&mut self, number: u64) {
        let more = tlog_tiles::stored_hashes(number, &record(number), self).unwrap();
        self.0.extend(more);
    }
}

fn theirs(hash: TreeHash) -> Hash {
    Hash(*hash.as_bytes())
}

#[test]
fn others_read_and_verify_our_checkpoints() {
    let root = TreeHash::leaf(b"x");
    let checkpoint = signed(1, root);
    let (private, _) = ed25519(1);
    let verifier = StandardVerifier::new(&vkey(&private)).unwrap();
    let note = Note::from_bytes(checkpoint.note().as_bytes()).unwrap();
    let known = VerifierList::new(vec![Box::new(verifier)]);
    let (verified, unverified) = note.verify(&known).unwrap();
    assert_eq!((verified.len(), unverified.len()), (1, 0));
    let read = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!((read.origin(), read.size()), (LOG.origin().as_str(), 1));
    assert_eq!((read.hash(), read.extension()), (&theirs(root), ""));
    // Another key, or a byte changed: refused there too.
    let (other, _) = ed25519(2);
    let known = VerifierList::new(vec![Box::new(StandardVerifier::new(&vkey(&other)).unwrap())]);
    assert!(note.verify(&known).is_err());
}

#[test]
fn others_see_both_keys_of_a_handover() {
    let pairs = [ed25519(2), ed25519(1)];
    let signs: Vec<_> =
        pairs.iter().map(|(private, _)| |text: &[u8]| private.sign(text).to_bytes()).collect();
    let signers: Vec<Signs<'_>> = pairs
        .iter()
        .zip(&signs)
        .map(|((_, signer), sign)| (&signer.public_key, sign as &dyn Fn(&[u8]) -> [u8; 64]))
        .collect();
    let checkpoint = Checkpoint { log: LOG, size: 1, root: TreeHash::leaf(b"x") }.sign(&signers);
    let note = Note::from_bytes(checkpoint.note().as_bytes()).unwrap();
    let verifier = |at: usize| StandardVerifier::new(&vkey(&pairs[at].0)).unwrap();
    let both = VerifierList::new(vec![Box::new(verifier(0)), Box::new(verifier(1))]);
    let (verified, unverified) = note.verify(&both).unwrap();
    assert_eq!((verified.len(), unverified.len()), (2, 0));
    let new_only = VerifierList::new(vec![Box::new(verifier(0))]);
    let (verified, unverified) = note.verify(&new_only).unwrap();
    assert_eq!((verified.len(), unverified.len()), (1, 1));
}

#[test]
fn what_others_sign_has_our_bytes_and_verifies_here() {
    let (private, signer) = ed25519(1);
    let mut known = AuditKeys::default();
    known.add(signer.public_key.clone());
    let (name, public) = (LOG.origin(), private.verifying_key().to_bytes());
    let id = signed_note::key_id(&name, &[&[1][..], &public].concat());
    let secret = STANDARD.encode([&[1][..], private.as_bytes()].concat());
    let theirs_signs =
        StandardSigner::new(&format!("PRIVATE+KEY+{name}+{id:08x}+{secret}")).unwrap();
    for size in 0..=SIZE {
        let root = TreeHash::leaf(&record(size));
        let text = tlog_tiles::Checkpoint::new(&name, size, theirs(root), "").unwrap().to_bytes();
        let mut note = Note::new(&text, &[]).unwrap();
        note.add_sigs(&[&theirs_signs]).unwrap();
        let note = String::from_utf8(note.to_bytes()).unwrap();
        let ours = signed(size, root);
        // Ed25519 has one signature of one text, so there is one note.
        assert_eq!(note, ours.note(), "size {size}");
        let read = SignedCheckpoint::parse(&note).unwrap();
        assert!(known.verify(&read).is_ok(), "size {size}");
    }
}

#[test]
fn others_have_the_same_roots_and_each_proves_to_the_other() {
    let mut tree = Theirs(Vec::new());
    let mut recent = Recent::since(Frontier::default());
    for size in 1..=SIZE {
        tree.push(size - 1);
        recent.push(TreeHash::leaf(&record(size - 1)));
        let root = recent.now().root();
        assert_eq!(tlog_tiles::tree_hash(size, &tree).unwrap(), theirs(root), "{size} records");
        for index in 0..size {
            let leaf = TreeHash::leaf(&record(index));
            let path = recent.path(index).unwrap();
            let ours: Vec<Hash> = path.iter().copied().map(theirs).collect();
            let check = |path: &Vec<Hash>, leaf| {
                tlog_tiles::check_record(path, size, theirs(root), index, leaf)
            };
            check(&ours, theirs(leaf)).unwrap();
            assert!(check(&ours, theirs(root)).is_err() || size == 1, "{index} of {size}");
            let proof = tlog_tiles::prove_record(size, index, &tree).unwrap();
            let path = proof.iter().map(|hash| TreeHash::new(hash.0)).collect();
            let proof = Inclusion { index, path, checkpoint: signed(size, root) };
            assert_eq!(proof.proves(&leaf), Ok(()), "{index} of {size}");
        }
    }
}

//! The note of a batch: its tree's size and root, signed by the batch signer's key
//! (c2sp.org/tlog-checkpoint, c2sp.org/signed-note).

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::name::{BETWEEN, BatchId, DEPLOYMENT_MAX_BYTES, KeyName};
use crate::key::{PublicKey, ToBeSigned};
use crate::tree::TreeHash;

const KEY_ID_BYTES: usize = 4;
/// Names Ed25519 in a key id (c2sp.org/signed-note).
const ED25519: u8 = 1;
/// An ECDSA signature on P-256 in DER has at most 72 bytes.
const SIGNATURE_MAX_BYTES: usize = 72;
/// No first line of a note is longer: a deployment, a kid of at most 128 bytes, and a batch id.
const ORIGIN_MAX_BYTES: usize = DEPLOYMENT_MAX_BYTES + BETWEEN.len() + 128 + 33;

/// What a note states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) name: KeyName,
    pub(super) id: BatchId,
    pub(super) size: u64,
    pub(super) root: TreeHash,
}

/// A note with one signature. Whether that verifies is for [`SignedNote::verifies`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignedNote {
    pub(super) note: Note,
    key: [u8; KEY_ID_BYTES],
    pub(super) signature: Vec<u8>,
}

impl Note {
    /// The text that is signed.
    pub(super) fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin(), self.size, self.root.to_base64())
    }

    /// Its first line.
    pub(super) fn origin(&self) -> String {
        self.name.origin(self.id)
    }

    /// What the key is given.
    pub(super) fn to_be_signed(&self, key: &PublicKey) -> Option<ToBeSigned> {
        ToBeSigned::from_message(self.text().as_bytes(), key.algorithm()).ok()
    }

    pub(super) fn signed(self, key: &PublicKey, signature: Vec<u8>) -> SignedNote {
        SignedNote { key: key_id(&self.name, key), note: self, signature }
    }

    /// Reads the text, which has to name its key so.
    fn parse(text: &str, name: &KeyName) -> Option<Self> {
        let mut lines = text.split('\n');
        let id = lines.next()?.strip_prefix(name.as_str())?.strip_prefix('/')?;
        let id = BatchId::parse(id)?;
        let size = lines.next()?.parse().ok()?;
        let root = TreeHash::parse_base64(lines.next()?)?;
        let note = Self { name: name.clone(), id, size, root };
        (note.text() == text).then_some(note)
    }
}

impl SignedNote {
    /// The whole note as text.
    pub(super) fn to_text(&self) -> String {
        let line = STANDARD.encode([self.key.as_slice(), &self.signature].concat());
        format!("{}\n\u{2014} {} {line}\n", self.note.text(), self.note.name)
    }

    /// Reads a note of the key with this name: one signature, and no other text for it.
    pub(super) fn parse(text: &str, name: &KeyName) -> Option<Self> {
        let at = text.find("\n\n")? + 1;
        let (signed, rest) = text.split_at_checked(at)?;
        let line = rest.strip_prefix("\n\u{2014} ")?.strip_prefix(name.as_str())?;
        let line = STANDARD.decode(line.strip_prefix(' ')?.strip_suffix('\n')?).ok()?;
        let (key, signature) = line.split_first_chunk()?;
        let note = Note::parse(signed, name)?;
        let parsed = Self { note, key: *key, signature: signature.to_vec() };
        let is_whole = signature.len() <= SIGNATURE_MAX_BYTES && parsed.to_text() == text;
        is_whole.then_some(parsed)
    }

    /// Whether it names `key`, and the signature is that key's.
    pub(super) fn verifies(&self, key: &PublicKey) -> bool {
        let input = self.note.to_be_signed(key);
        self.key == key_id(&self.note.name, key)
            && input.is_some_and(|input| key.verifies(&input, &self.signature))
    }
}

/// Whether a message begins as the note of a batch does, of whatever key in whatever deployment: a key that
/// signed it could have signed a batch. A verifier takes no note with another first line.
pub(crate) fn begins_like_a_note(message: &[u8]) -> bool {
    let Some(end) = message.iter().take(ORIGIN_MAX_BYTES + 1).position(|b| *b == b'\n') else {
        return false;
    };
    let origin = message.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    let parts = origin.and_then(|origin| origin.rsplit_once('/'));
    parts.is_some_and(|(name, id)| name.contains(BETWEEN) && BatchId::parse(id).is_some())
}

/// What a note names a key by. For Ed25519 the name is hashed too; for ECDSA it is not, as clients
/// in the field have it (c2sp.org/signed-note).
fn key_id(name: &KeyName, key: &PublicKey) -> [u8; KEY_ID_BYTES] {
    let mut hash = digest::Context::new(&digest::SHA256);
    match key.ed25519_bytes() {
        Some(raw) => {
            hash.update(name.as_str().as_bytes());
            hash.update(&[b'\n', ED25519]);
            hash.update(raw);
        }
        None => hash.update(key.spki_der()),
    }
    let mut id = [0; KEY_ID_BYTES];
    for (to, from) in id.iter_mut().zip(hash.finish().as_ref()) {
        *to = *from;
    }
    id
}

/// The key as a line for clients of signed notes: `<name>+<key id in hex>+<base64 of 01 and the raw
/// key>`. None for another key than an Ed25519 one.
#[must_use]
pub fn verifier_key(name: &KeyName, key: &PublicKey) -> Option<String> {
    let raw = [&[ED25519], key.ed25519_bytes()?].concat();
    Some(format!("{name}+{}+{}", hex::encode(key_id(name, key)), STANDARD.encode(raw)))
}

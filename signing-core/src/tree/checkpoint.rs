//! A log's size and root, signed by the audit key as a signed note (c2sp.org/tlog-checkpoint,
//! c2sp.org/signed-note).

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::hash::TreeHash;
use super::log_id::LogId;
use crate::key::PublicKey;

/// Longest note: two signatures.
pub const NOTE_MAX_BYTES: usize = 416;
/// So many signatures at most: when the audit key is renewed, the old one signs too.
const SIGNATURES_MAX: usize = 2;

const KEY_ID_BYTES: usize = 4;
const SIGNATURE_BYTES: usize = 64;
/// Names Ed25519 in a key id (c2sp.org/signed-note).
const ED25519: u8 = 1;

/// An Ed25519 key, and what signs with it.
pub type Signs<'s> = (&'s PublicKey, &'s dyn Fn(&[u8]) -> [u8; SIGNATURE_BYTES]);

/// How large a log is, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub log: LogId,
    /// How many records; the number of the newest.
    pub size: u64,
    /// The root of the tree of all of them.
    pub root: TreeHash,
}

/// A checkpoint and its signatures, as text. Whose they are is for
/// [`crate::journal::AuditKeys::verify`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: String,
    /// The text that is signed ends here.
    signed: usize,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    key: [u8; KEY_ID_BYTES],
    bytes: [u8; SIGNATURE_BYTES],
}

/// The text is not a signed checkpoint of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a signed checkpoint of a journal")]
pub struct NoCheckpoint;

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.log.origin(), self.size, self.root.to_base64())
    }

    /// Signs it with each of `signers`.
    #[must_use]
    pub fn sign(self, signers: &[Signs<'_>]) -> SignedCheckpoint {
        let mut note = self.text();
        let signed = note.len();
        let origin = self.log.origin();
        note.push('\n');
        let mut signatures = Vec::with_capacity(signers.len());
        for (key, sign) in signers {
            let key = note_key_id(self.log, key);
            let bytes = sign(note.as_bytes().get(..signed).unwrap_or_default());
            let encoded = STANDARD.encode([key.as_slice(), &bytes].concat());
            note.push_str(&format!("\u{2014} {origin} {encoded}\n"));
            signatures.push(Signature { key, bytes });
        }
        SignedCheckpoint { checkpoint: self, note, signed, signatures }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let log = LogId::parse_origin(lines.next()?)?;
        let size = lines.next()?.parse().ok()?;
        let root = TreeHash::parse_base64(lines.next()?)?;
        let checkpoint = Self { log, size, root };
        (checkpoint.text() == text).then_some(checkpoint)
    }
}

impl SignedCheckpoint {
    /// Reads a note.
    ///
    /// # Errors
    /// [`NoCheckpoint`].
    pub fn parse(note: &str) -> Result<Self, NoCheckpoint> {
        Self::read(note).ok_or(NoCheckpoint)
    }

    fn read(note: &str) -> Option<Self> {
        if note.len() > NOTE_MAX_BYTES {
            return None;
        }
        let signed = note.find("\n\n")? + 1;
        let (text, rest) = note.split_at_checked(signed)?;
        let checkpoint = Checkpoint::parse(text)?;
        let before = format!("\u{2014} {} ", checkpoint.log.origin());
        let lines = rest.strip_prefix('\n')?.strip_suffix('\n')?.split('\n');
        let signatures: Vec<_> = lines
            .map(|line| Signature::parse(line.strip_prefix(&before)?))
            .collect::<Option<_>>()?;
        let is_one = (1..=SIGNATURES_MAX).contains(&signatures.len());
        is_one.then(|| Self { checkpoint, note: note.to_owned(), signed, signatures })
    }

    /// What it states.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// All of it, as text.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }

    /// How many keys signed it.
    #[must_use]
    pub fn signatures(&self) -> usize {
        self.signatures.len()
    }

    /// What its first signature says of its key: the key that signs from here on. Nothing is verified.
    #[must_use]
    pub fn signed_as(&self) -> Option<[u8; KEY_ID_BYTES]> {
        self.signatures.first().map(|signature| signature.key)
    }

    /// Whether the signature at this place is that key's. None: it says that another key made it.
    #[must_use]
    pub fn is_signed_by(&self, at: usize, key: &PublicKey) -> Option<bool> {
        let signature = self.signatures.get(at)?;
        let is_named = note_key_id(self.checkpoint.log, key) == signature.key;
        let text = self.note.as_bytes().get(..self.signed).unwrap_or_default();
        is_named.then(|| key.verifies_note(text, &signature.bytes))
    }
}

impl Signature {
    fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        let (key, bytes) = bytes.split_first_chunk()?;
        Some(Self { key: *key, bytes: bytes.try_into().ok()? })
    }
}

/// What a log's note names an Ed25519 key by (c2sp.org/signed-note).
#[must_use]
pub fn note_key_id(log: LogId, key: &PublicKey) -> [u8; KEY_ID_BYTES] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(log.origin().as_bytes());
    hash.update(&[b'\n', ED25519]);
    hash.update(key.ed25519_bytes().unwrap_or_default());
    let mut id = [0; KEY_ID_BYTES];
    for (to, from) in id.iter_mut().zip(hash.finish().as_ref()) {
        *to = *from;
    }
    id
}

/// The audit key as a line for clients of such logs: `<origin>+<key id in hex>+<base64 of 01 and the
/// raw key>` (c2sp.org/signed-note). None if it is not an Ed25519 key.
#[must_use]
pub fn verifier_key(log: LogId, key: &PublicKey) -> Option<String> {
    let raw = [&[ED25519], key.ed25519_bytes()?].concat();
    let id = hex::encode(note_key_id(log, key));
    Some(format!("{}+{id}+{}", log.origin(), STANDARD.encode(raw)))
}

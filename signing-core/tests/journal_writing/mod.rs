//! A journal that is written in memory, signed with whatever keys a test likes.

use ed25519_dalek::{Signer as _, SigningKey};
use signing_core::Signer;
use signing_core::journal::{AuditKeys, Freeze, Layout, Record};
use signing_core::key::PublicKey;
use signing_core::tree::{Checkpoint, Frontier, LogId, SignedCheckpoint, Signs};
use time::OffsetDateTime;

use crate::key_pairs::ed25519;

pub(crate) const LOG: LogId = LogId::new([7; 16]);
pub(crate) const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// An audit key.
pub(crate) struct Audit {
    pub(crate) private: SigningKey,
    pub(crate) public: PublicKey,
}

impl Audit {
    pub(crate) fn new(seed: u8) -> Self {
        let (private, Signer { public_key: public, .. }) = ed25519(seed);
        Self { private, public }
    }
}

pub(crate) fn trusting<'k>(keys: impl IntoIterator<Item = &'k Audit>) -> AuditKeys {
    let mut trusted = AuditKeys::default();
    keys.into_iter().for_each(|key| trusted.add(key.public.clone()));
    trusted
}

pub(crate) fn freeze(reason: &str) -> Vec<u8> {
    Record::Freeze(Freeze { by: "uid 0", id: None, reason }).encode(AT).unwrap()
}

pub(crate) fn with_signers<T>(keys: &[&Audit], sign: impl FnOnce(&[Signs<'_>]) -> T) -> T {
    let signs: Vec<_> =
        keys.iter().map(|key| |text: &[u8]| key.private.sign(text).to_bytes()).collect();
    let signers: Vec<Signs<'_>> = keys
        .iter()
        .zip(&signs)
        .map(|(key, sign)| (&key.public, sign as &dyn Fn(&[u8]) -> [u8; 64]))
        .collect();
    sign(&signers)
}

pub(crate) fn signed_by(checkpoint: Checkpoint, keys: &[&Audit]) -> SignedCheckpoint {
    with_signers(keys, |signers| checkpoint.sign(signers))
}

/// A journal in memory.
pub(crate) struct Writing {
    pub(crate) log: LogId,
    pub(crate) tree: Frontier,
    pub(crate) durable: u64,
    pub(crate) frames: Vec<Vec<u8>>,
}

impl Writing {
    pub(crate) fn new(log: LogId) -> Self {
        Self { log, tree: Frontier::default(), durable: 0, frames: Vec::new() }
    }

    pub(crate) fn record(&mut self, body: &[u8]) {
        let mut out = Vec::new();
        let leaf = Layout::new(self.log).record(self.tree.size() + 1, body, &mut out);
        self.tree.push(leaf.hash);
        self.frames.push(out);
    }

    /// Ends a write; it is on disk from here on.
    pub(crate) fn checkpoint(&mut self, keys: &[&Audit]) {
        let mut out = Vec::new();
        let layout = Layout::new(self.log);
        with_signers(keys, |signers| {
            layout.checkpoint(&self.tree, self.durable, signers, &mut out)
        });
        self.durable = self.tree.size();
        self.frames.push(out);
    }
}

//! The audit keys under which records verify.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest;

use super::frame::{Frame, FrameError};
use crate::key::{Algorithm, PublicKey, Purpose};
use crate::registry::Registry;

/// Names an audit key in a frame: the first 8 bytes of the SHA-256 of its DER
/// SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

/// Audit keys by their ids.
#[derive(Clone, Debug, Default)]
pub struct AuditKeys(BTreeMap<KeyId, PublicKey>);

impl KeyId {
    /// An id of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The id of that key.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        let hash = digest::digest(&digest::SHA256, key.spki_der());
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(hash.as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl AuditKeys {
    /// The keys that `registry` has for audit records. One that was revoked still
    /// verifies what it signed before: records say when, and who reads them decides.
    #[must_use]
    pub fn of_registry(registry: &Registry) -> Self {
        let mut keys = Self::default();
        for signer in registry.iter().filter(|signer| signer.purpose == Purpose::Audit) {
            keys.add(signer.public_key.clone());
        }
        keys
    }

    /// Adds an Ed25519 key; others sign no records.
    pub fn add(&mut self, key: PublicKey) {
        if key.algorithm() == Algorithm::Ed25519Sha512 {
            self.0.insert(KeyId::of(&key), key);
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that the key that `frame` names signed its hash.
    ///
    /// # Errors
    /// [`FrameError::UnknownKey`], [`FrameError::Signature`].
    pub fn verify(&self, frame: &Frame<'_>) -> Result<(), FrameError> {
        let key = self.0.get(&frame.key).ok_or(FrameError::UnknownKey(frame.key))?;
        let verified = key.verifies_record(frame.hash.as_bytes(), frame.signature);
        if verified { Ok(()) } else { Err(FrameError::Signature) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

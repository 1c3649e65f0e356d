//! The audit keys under which records verify.

use std::collections::BTreeMap;

use super::frame::{Frame, FrameError};
use super::key_id::KeyId;
use crate::key::{Algorithm, PublicKey, Purpose};
use crate::registry::Registry;

/// Audit keys by their ids.
#[derive(Clone, Debug, Default)]
pub struct AuditKeys(BTreeMap<KeyId, PublicKey>);

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

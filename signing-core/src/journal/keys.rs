//! The audit keys under which checkpoints verify.

use std::collections::BTreeMap;

use super::frame::FrameError;
use super::key_id::KeyId;
use crate::key::{Algorithm, PublicKey, Purpose};
use crate::registry::Registry;
use crate::tree::SignedCheckpoint;

/// Audit keys by their ids.
#[derive(Clone, Debug, Default)]
pub struct AuditKeys(BTreeMap<KeyId, PublicKey>);

/// Who signed a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedBy {
    /// The key that signs from here on.
    pub key: KeyId,
    /// The one that it takes over from, which signed beside it.
    pub before: Option<KeyId>,
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

    /// Adds an Ed25519 key; others sign no checkpoints.
    pub fn add(&mut self, key: PublicKey) {
        if key.algorithm() == Algorithm::Ed25519Sha512 {
            self.0.insert(KeyId::of(&key), key);
        }
    }

    /// The key of that id.
    #[must_use]
    pub fn get(&self, id: KeyId) -> Option<&PublicKey> {
        self.0.get(&id)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that known keys signed `checkpoint`, and which.
    ///
    /// # Errors
    /// [`FrameError::UnknownKey`] if any of its signatures is of no key here,
    /// [`FrameError::Signature`] if one does not verify.
    pub fn verify(&self, checkpoint: &SignedCheckpoint) -> Result<SignedBy, FrameError> {
        let mut signed = Vec::new();
        for at in 0..checkpoint.signatures() {
            let (id, verifies) = self
                .0
                .iter()
                .find_map(|(id, key)| Some((*id, checkpoint.is_signed_by(at, key)?)))
                .ok_or(FrameError::UnknownKey)?;
            if !verifies {
                return Err(FrameError::Signature);
            }
            signed.push(id);
        }
        let mut signed = signed.into_iter();
        let key = signed.next().ok_or(FrameError::UnknownKey)?;
        Ok(SignedBy { key, before: signed.next() })
    }
}

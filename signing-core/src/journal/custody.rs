//! Whose audit key signs a journal: one at a time, handed over by the one before.

use std::collections::BTreeSet;

use super::frame::FrameError;
use super::key_id::KeyId;
use super::keys::{AuditKeys, SignedBy};
use crate::tree::SignedCheckpoint;

/// Whose checkpoints a journal has at this place: the first key is the header's, and another
/// follows only with its signature beside it. One that was replaced never comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Custody {
    now: Option<KeyId>,
    /// No more than there are audit keys.
    replaced: BTreeSet<KeyId>,
}

impl Custody {
    /// Goes on to the header of the next segment: keys may have been handed over inside the segment
    /// before it, which is not read.
    ///
    /// # Errors
    /// [`FrameError::OtherKey`] if its key was replaced before.
    pub fn pass(&mut self, signed: SignedBy) -> Result<(), FrameError> {
        let SignedBy { key, before } = signed;
        self.replaced.extend(self.now.filter(|now| *now != key));
        self.replaced.extend(before);
        self.now = Some(key);
        if self.was_replaced(key) { Err(FrameError::OtherKey(key)) } else { Ok(()) }
    }

    /// Checks who signed the next checkpoint.
    ///
    /// # Errors
    /// [`FrameError::UnknownKey`], [`FrameError::Signature`], [`FrameError::OtherKey`].
    pub fn take(
        &mut self,
        keys: &AuditKeys,
        checkpoint: &SignedCheckpoint,
    ) -> Result<(), FrameError> {
        self.follow(keys.verify(checkpoint)?)
    }

    /// The same for signatures that are checked already.
    ///
    /// # Errors
    /// [`FrameError::OtherKey`].
    pub fn follow(&mut self, signed: SignedBy) -> Result<(), FrameError> {
        let SignedBy { key, before } = signed;
        let goes_on = self.now.is_none_or(|known| known == before.unwrap_or(key));
        if !goes_on || before == Some(key) || self.was_replaced(key) {
            return Err(FrameError::OtherKey(key));
        }
        self.replaced.extend(before);
        self.now = Some(key);
        Ok(())
    }

    /// The key that signs now.
    #[must_use]
    pub const fn key(&self) -> Option<KeyId> {
        self.now
    }

    /// Whether that key signed once and was replaced, as far as what was taken shows.
    #[must_use]
    pub fn was_replaced(&self, key: KeyId) -> bool {
        self.replaced.contains(&key)
    }
}

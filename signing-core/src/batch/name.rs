//! What a batch and the key that signs it are named by.

use std::fmt;

use crate::hex_text::write_hex;
use crate::key::Kid;

/// Between a deployment and a kid.
pub(super) const BETWEEN: &str = "/batch/";

/// Longest deployment of a batch signer.
pub const DEPLOYMENT_MAX_BYTES: usize = 128;

/// What a note names its key by: `<deployment>/batch/<kid>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName(String);

/// Names a batch: 16 random bytes, as 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchId([u8; 16]);

/// Why a batch signer has no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyNameError {
    /// A deployment that cannot stand in a note.
    #[error(
        "deployment.name {0:?} cannot stand in the name of a batch signer's key: it has to have 1 to \
         {DEPLOYMENT_MAX_BYTES} visible ASCII characters, and no \"+\""
    )]
    Deployment(String),
    /// A kid that cannot.
    #[error("a batch signer's kid has no \"+\" in it (c2sp.org/signed-note); name it without")]
    Kid,
}

impl KeyName {
    /// The name of `kid`'s key in that deployment.
    ///
    /// # Errors
    /// [`KeyNameError`].
    pub fn new(deployment: &str, kid: &Kid) -> Result<Self, KeyNameError> {
        // A name has neither white space nor a plus sign (c2sp.org/signed-note).
        let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b'+');
        if !(1..=DEPLOYMENT_MAX_BYTES).contains(&deployment.len()) || !is_name(deployment) {
            return Err(KeyNameError::Deployment(deployment.chars().take(64).collect()));
        }
        if !is_name(kid.as_str()) {
            return Err(KeyNameError::Kid);
        }
        Ok(Self(format!("{deployment}{BETWEEN}{kid}")))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The origin of that batch's note.
    pub(super) fn origin(&self, id: BatchId) -> String {
        format!("{}/{id}", self.0)
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BatchId {
    /// Takes random bytes.
    #[must_use]
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// Reads 32 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        // Capitals would be a second spelling.
        Some(Self(bytes)).filter(|parsed| parsed.to_string() == text)
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

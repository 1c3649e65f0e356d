//! What a record names its audit key by.

use std::fmt;

use aws_lc_rs::digest;

use crate::key::PublicKey;

/// Names an audit key in a frame: the first 8 bytes of the SHA-256 of its DER
/// SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

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

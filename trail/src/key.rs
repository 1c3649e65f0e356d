//! The trail's own audit key: signs the hashes of rows and nothing else (I4). A hash has 32 bytes, so no
//! signature of it is one of a checkpoint.

use std::fmt;
use std::path::Path;

use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use ed25519_dalek::{Signer as _, SigningKey};
use host::secret::{self, Fault, SecretError, Wanted};
use signing_core::Algorithm;
use signing_core::key::PublicKey;

/// An Ed25519 key. Its private part is wiped on drop and never printed.
pub struct RowKey {
    private: SigningKey,
    public: PublicKey,
}

impl RowKey {
    /// Reads a PKCS#8 PEM.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn load(file: &Path) -> Result<Self, SecretError> {
        let wanted = Wanted::AuditKey;
        let key = secret::private_key(file, wanted)?;
        Self::from_der(&key.der).ok_or_else(|| SecretError::new(file, wanted, Fault::Damaged))
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        let private = SigningKey::from_pkcs8_der(der).ok()?;
        let der = private.verifying_key().to_public_key_der().ok()?;
        let public = PublicKey::from_spki_der(der.as_bytes(), Algorithm::Ed25519Sha512).ok()?;
        Some(Self { private, public })
    }

    /// Its public part.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs the hash of a row.
    #[must_use]
    pub fn sign(&self, hash: &[u8; 32]) -> [u8; 64] {
        self.private.sign(hash).to_bytes()
    }

    /// A key for tests of the core.
    #[cfg(test)]
    pub(crate) fn of_seed(seed: [u8; 32]) -> Self {
        let private = SigningKey::from_bytes(&seed);
        let der = private.verifying_key().to_public_key_der().unwrap();
        let public = PublicKey::from_spki_der(der.as_bytes(), Algorithm::Ed25519Sha512).unwrap();
        Self { private, public }
    }
}

impl fmt::Debug for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowKey(..)")
    }
}

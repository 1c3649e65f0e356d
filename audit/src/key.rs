//! The audit key: signs records and nothing else.

use std::fmt;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use ed25519_dalek::{Signer as _, SigningKey};
use signing_core::Algorithm;
use signing_core::journal::KeyId;
use signing_core::key::PublicKey;
use zeroize::Zeroizing;

/// An Ed25519 key of a process that signs its audit records (I4). Its private part is
/// wiped on drop and never printed.
pub struct AuditKey {
    private: SigningKey,
    public: PublicKey,
    id: KeyId,
}

/// Why there is no audit key.
#[derive(Debug, thiserror::Error)]
pub enum AuditKeyError {
    /// The file can not be read.
    #[error("{}: {error}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is no Ed25519 key.
    #[error("{} is not a PKCS#8 PEM of an Ed25519 key (what `openssl genpkey -algorithm ed25519` makes)", .0.display())]
    NoKey(PathBuf),
}

impl AuditKey {
    /// Reads a PKCS#8 PEM.
    ///
    /// # Errors
    /// [`AuditKeyError`].
    pub fn load(file: &Path) -> Result<Self, AuditKeyError> {
        let read = std::fs::read_to_string(file).map(Zeroizing::new);
        let pem = read.map_err(|error| AuditKeyError::Read { file: file.to_owned(), error })?;
        Self::from_pem(&pem).ok_or_else(|| AuditKeyError::NoKey(file.to_owned()))
    }

    /// Reads a PKCS#8 PEM. None if it is no Ed25519 key.
    #[must_use]
    pub fn from_pem(pem: &str) -> Option<Self> {
        let private = SigningKey::from_pkcs8_pem(pem).ok()?;
        let der = private.verifying_key().to_public_key_der().ok()?;
        let public = PublicKey::from_spki_der(der.as_bytes(), Algorithm::Ed25519Sha512).ok()?;
        let id = KeyId::of(&public);
        Some(Self { private, public, id })
    }

    /// Its public part.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Its name in frames.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Signs the hash of a record.
    pub(crate) fn sign(&self, hash: &[u8; 32]) -> [u8; 64] {
        self.private.sign(hash).to_bytes()
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditKey({})", self.id)
    }
}

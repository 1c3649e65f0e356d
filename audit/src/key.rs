//! The audit key: signs checkpoints and nothing else.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use ed25519_dalek::{Signer as _, SigningKey};
use host::secret::{self, Fault, SecretError, Wanted};
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

impl AuditKey {
    /// Reads a PKCS#8 PEM.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn load(file: &Path) -> Result<Self, SecretError> {
        let wanted = Wanted::AuditKey;
        let key = secret::private_key(file, wanted)?;
        Self::from_der(&key.der).ok_or_else(|| SecretError::new(file, wanted, Fault::Damaged))
    }

    /// Makes a key in a new file of this user alone. When it returns, the file is on disk; dying before
    /// may leave a part of it, which [`Self::load`] refuses.
    ///
    /// # Errors
    /// If it cannot be made; a file that is there stays as it is.
    pub fn create(file: &Path) -> io::Result<()> {
        let mut seed = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *seed)
            .map_err(|_| io::Error::other("the system gives no randomness"))?;
        let pem = SigningKey::from_bytes(&seed)
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| io::Error::other("the key cannot be encoded"))?;
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        out.write_all(pem.as_bytes())?;
        out.sync_all()?;
        let directory = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(directory)?.sync_all()
    }

    /// Reads a PKCS#8 PEM.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, Fault> {
        let key = secret::private_key_of(pem, Wanted::AuditKey)?;
        Self::from_der(&key.der).ok_or(Fault::Damaged)
    }

    /// Reads PKCS#8 in DER. None if it is no Ed25519 key.
    fn from_der(der: &[u8]) -> Option<Self> {
        let private = SigningKey::from_pkcs8_der(der).ok()?;
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

    /// Signs the text of a checkpoint.
    pub(crate) fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.private.sign(text).to_bytes()
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditKey({})", self.id)
    }
}

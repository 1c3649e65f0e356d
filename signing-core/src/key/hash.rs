//! Hashes, and digests that say which hash made them.

use std::fmt;

use aws_lc_rs::digest;

use crate::hex_text::write_hex;
use crate::refusal::{Reason, Refusal};

/// A hash of the SHA-2 family (FIPS 180-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hash {
    /// SHA-256: 32 bytes.
    Sha256,
    /// SHA-384: 48 bytes.
    Sha384,
    /// SHA-512: 64 bytes.
    Sha512,
}

impl Hash {
    /// Every hash.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// Its name in requests and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.name() == name)
    }

    /// Bytes of its digests.
    #[must_use]
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of `message`.
    #[must_use]
    pub fn of(self, message: &[u8]) -> Digest {
        Digest { hash: self, bytes: digest::digest(self.implementation(), message) }
    }

    /// Its digest of a message that comes in pieces.
    #[must_use]
    pub fn hasher(self) -> Hasher {
        Hasher { hash: self, context: digest::Context::new(self.implementation()) }
    }

    fn implementation(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

/// A digest of a message that comes in pieces.
#[derive(Clone)]
pub struct Hasher {
    hash: Hash,
    context: digest::Context,
}

impl Hasher {
    /// The next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.context.update(piece);
    }

    /// The digest of all pieces.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest { hash: self.hash, bytes: self.context.finish() }
    }
}

/// A digest of the length that its hash has.
#[derive(Clone)]
pub struct Digest {
    hash: Hash,
    bytes: digest::Digest,
}

impl Digest {
    /// A digest that a caller computed.
    ///
    /// # Errors
    /// `invalid_digest` if it has not the length that `hash` gives.
    pub fn new(hash: Hash, bytes: &[u8]) -> Result<Self, Refusal> {
        let wrong_length = |_| {
            Refusal::new(
                Reason::InvalidDigest,
                format!(
                    "the digest has {} bytes; {} has {}",
                    bytes.len(),
                    hash.name(),
                    hash.digest_bytes()
                ),
            )
        };
        digest::Digest::import_less_safe(bytes, hash.implementation())
            .map(|bytes| Self { hash, bytes })
            .map_err(wrong_length)
    }

    /// Which hash made it.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    pub(super) fn imported(&self) -> &digest::Digest {
        &self.bytes
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.bytes() == other.bytes()
    }
}

impl Eq for Digest {}

/// `sha256:` and lower-case hex, as records and logs name an input.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hash.name())?;
        f.write_str(":")?;
        write_hex(self.bytes(), f)
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.hash.name())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

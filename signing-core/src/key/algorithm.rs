//! Signing algorithms, under the names that AWS KMS gives them.

use std::fmt;

/// No signature of any algorithm here is longer (a DER-encoded P-256 signature
/// has at most 72 bytes; RSA-4096 has 512).
pub const SIGNATURE_MAX_BYTES: usize = 512;

/// A signing algorithm. Names are those of AWS KMS (`SigningAlgorithmSpec`,
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032, pure: not the prehashed variant).
    Ed25519Sha512,
    /// ECDSA on P-256 with SHA-256 (FIPS 186-5), signature in ASN.1 DER.
    EcdsaSha256,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: &[Self] = &[Self::Ed25519Sha512, Self::EcdsaSha256];

    /// The AWS KMS name, used in the native surface, policies and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519Sha512 => "ED25519_SHA_512",
            Self::EcdsaSha256 => "ECDSA_SHA_256",
        }
    }

    /// The name that registries use in the field.
    #[must_use]
    pub const fn registry_name(self) -> &'static str {
        match self {
            Self::Ed25519Sha512 => "ed25519",
            Self::EcdsaSha256 => "ecdsa-p256-sha256",
        }
    }

    /// Reads the AWS KMS name, the registry's name, or an alias of the field.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|algorithm| name == algorithm.name() || name == algorithm.registry_name())
    }

    /// The names of all algorithms, for messages: `A, B`.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>().join(", ")
    }

    /// Bytes of the digest this algorithm takes when it is given one.
    #[must_use]
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Ed25519Sha512 | Self::EcdsaSha256 => 32,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

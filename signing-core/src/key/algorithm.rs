//! Signing algorithms, under the names that AWS KMS gives them.

use std::fmt;

use super::Hash;

/// No signature of any algorithm here is longer (RSA-4096 has 512 bytes, a
/// DER-encoded P-384 signature at most 104).
pub const SIGNATURE_MAX_BYTES: usize = 512;

/// A signing algorithm. Names are those of AWS KMS (`SigningAlgorithmSpec`,
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032, pure: not the prehashed variant).
    Ed25519Sha512,
    /// ECDSA on P-256 with SHA-256 (FIPS 186-5), signature in ASN.1 DER.
    EcdsaSha256,
    /// ECDSA on P-384 with SHA-384 (FIPS 186-5), signature in ASN.1 DER.
    EcdsaSha384,
    /// RSASSA-PKCS1-v1_5 (RFC 8017 8.2).
    RsaPkcs1(Hash),
    /// RSASSA-PSS (RFC 8017 8.1): MGF1 with the same hash, a salt as long as it.
    RsaPss(Hash),
}

/// What kind of key an algorithm takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// NIST P-256 (RFC 5480).
    P256,
    /// NIST P-384 (RFC 5480).
    P384,
    /// RSA of 2048 to 4096 bits (RFC 3279): one key, several algorithms.
    Rsa,
}

/// One algorithm's names: in AWS KMS, in registries, and others in the field.
struct Names {
    kms: &'static str,
    registry: &'static str,
    others: &'static [&'static str],
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: &[Self] = &[
        Self::Ed25519Sha512,
        Self::EcdsaSha256,
        Self::EcdsaSha384,
        Self::RsaPkcs1(Hash::Sha256),
        Self::RsaPkcs1(Hash::Sha384),
        Self::RsaPkcs1(Hash::Sha512),
        Self::RsaPss(Hash::Sha256),
        Self::RsaPss(Hash::Sha384),
        Self::RsaPss(Hash::Sha512),
    ];

    const fn names(self) -> Names {
        const fn names(
            kms: &'static str,
            registry: &'static str,
            others: &'static [&'static str],
        ) -> Names {
            Names { kms, registry, others }
        }
        match self {
            Self::Ed25519Sha512 => names("ED25519_SHA_512", "ed25519", &[]),
            Self::EcdsaSha256 => names("ECDSA_SHA_256", "ecdsa-p256-sha256", &[]),
            Self::EcdsaSha384 => names("ECDSA_SHA_384", "ecdsa-p384-sha384", &[]),
            Self::RsaPkcs1(Hash::Sha256) => {
                names("RSASSA_PKCS1_V1_5_SHA_256", "rsa-sha256", &["RSA_PKCS1_SHA_256"])
            }
            Self::RsaPkcs1(Hash::Sha384) => {
                names("RSASSA_PKCS1_V1_5_SHA_384", "rsa-sha384", &["RSA_PKCS1_SHA_384"])
            }
            Self::RsaPkcs1(Hash::Sha512) => {
                names("RSASSA_PKCS1_V1_5_SHA_512", "rsa-sha512", &["RSA_PKCS1_SHA_512"])
            }
            Self::RsaPss(Hash::Sha256) => {
                names("RSASSA_PSS_SHA_256", "rsa-pss-sha256", &["RSA_PSS_SHA_256"])
            }
            Self::RsaPss(Hash::Sha384) => {
                names("RSASSA_PSS_SHA_384", "rsa-pss-sha384", &["RSA_PSS_SHA_384"])
            }
            Self::RsaPss(Hash::Sha512) => {
                names("RSASSA_PSS_SHA_512", "rsa-pss-sha512", &["RSA_PSS_SHA_512"])
            }
        }
    }

    /// The AWS KMS name, used in the native surface, policies and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.names().kms
    }

    /// The name that registries use in the field.
    #[must_use]
    pub const fn registry_name(self) -> &'static str {
        self.names().registry
    }

    /// Reads the AWS KMS name, the registry's name, or an alias of the field.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| {
            let Names { kms, registry, others } = algorithm.names();
            name == kms || name == registry || others.contains(&name)
        })
    }

    /// The names of all algorithms, for messages: `A, B`.
    #[must_use]
    pub fn all_names() -> String {
        names_of(Self::ALL)
    }

    /// The kind of key it takes.
    #[must_use]
    pub const fn key_kind(self) -> KeyKind {
        match self {
            Self::Ed25519Sha512 => KeyKind::Ed25519,
            Self::EcdsaSha256 => KeyKind::P256,
            Self::EcdsaSha384 => KeyKind::P384,
            Self::RsaPkcs1(_) | Self::RsaPss(_) => KeyKind::Rsa,
        }
    }

    /// The hash of the digests it takes when it is given one. Ed25519 hashes by
    /// itself: a SHA-256 digest is its message.
    #[must_use]
    pub const fn digest_hash(self) -> Hash {
        match self {
            Self::Ed25519Sha512 | Self::EcdsaSha256 => Hash::Sha256,
            Self::EcdsaSha384 => Hash::Sha384,
            Self::RsaPkcs1(hash) | Self::RsaPss(hash) => hash,
        }
    }
}

impl KeyKind {
    /// The algorithms that a key of this kind signs with.
    pub fn algorithms(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.iter().copied().filter(move |algorithm| algorithm.key_kind() == self)
    }
}

/// The names of some algorithms, for messages: `A, B`.
#[must_use]
pub fn names_of(algorithms: &[Algorithm]) -> String {
    algorithms.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_every_algorithm_reads_back_as_it_and_none_is_shared() {
        let mut seen = std::collections::BTreeSet::new();
        for algorithm in Algorithm::ALL {
            let Names { kms, registry, others } = algorithm.names();
            for name in [kms, registry].iter().chain(others) {
                assert_eq!(Algorithm::parse(name), Some(*algorithm), "{name}");
                assert!(seen.insert(*name), "{name} names two algorithms");
            }
        }
        // P-521 is refused by name.
        for name in ["ECDSA_SHA_512", "ecdsa-p521-sha512", "SM2DSA", "", "ed25519 "] {
            assert_eq!(Algorithm::parse(name), None, "{name}");
        }
    }
}

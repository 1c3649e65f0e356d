//! Signing algorithms, under the names that AWS KMS gives them.

use std::fmt;

use super::{Hash, KeyKind};

/// No signature of any algorithm here is longer (ML-DSA-87: 4627 bytes; RSA-4096 has 512, a
/// DER-encoded P-521 signature at most 139).
pub const SIGNATURE_MAX_BYTES: usize = 4627;

/// A signing algorithm. Names are those of AWS KMS (`SigningAlgorithmSpec`,
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html>). As in KMS, one algorithm
/// may be that of keys of several kinds: which of them it is, the key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032, pure: not the prehashed variant).
    Ed25519Sha512,
    /// ECDSA with SHA-256 on P-256 (FIPS 186-5) or on secp256k1 (SEC 2), signature in ASN.1 DER.
    EcdsaSha256,
    /// ECDSA on P-384 with SHA-384 (FIPS 186-5), signature in ASN.1 DER.
    EcdsaSha384,
    /// ECDSA on P-521 with SHA-512 (FIPS 186-5), signature in ASN.1 DER.
    EcdsaSha512,
    /// RSASSA-PKCS1-v1_5 (RFC 8017 8.2).
    RsaPkcs1(Hash),
    /// RSASSA-PSS (RFC 8017 8.1): MGF1 with the same hash, a salt as long as it.
    RsaPss(Hash),
    /// ML-DSA (FIPS 204, pure, without a context; not HashML-DSA), with a key of any of its three
    /// parameter sets.
    MlDsaShake256,
}

/// One algorithm's names: in AWS KMS, in registries by the kind of key, and others in the field.
struct Names {
    kms: &'static str,
    registry: &'static [(KeyKind, &'static str)],
    others: &'static [&'static str],
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: &[Self] = &[
        Self::Ed25519Sha512,
        Self::EcdsaSha256,
        Self::EcdsaSha384,
        Self::EcdsaSha512,
        Self::RsaPkcs1(Hash::Sha256),
        Self::RsaPkcs1(Hash::Sha384),
        Self::RsaPkcs1(Hash::Sha512),
        Self::RsaPss(Hash::Sha256),
        Self::RsaPss(Hash::Sha384),
        Self::RsaPss(Hash::Sha512),
        Self::MlDsaShake256,
    ];

    const fn names(self) -> Names {
        use KeyKind::{Ed25519, MlDsa44, MlDsa65, MlDsa87, P256, P384, P521, Rsa, Secp256k1};
        const fn names(
            kms: &'static str,
            registry: &'static [(KeyKind, &'static str)],
            others: &'static [&'static str],
        ) -> Names {
            Names { kms, registry, others }
        }
        match self {
            Self::Ed25519Sha512 => names("ED25519_SHA_512", &[(Ed25519, "ed25519")], &[]),
            Self::EcdsaSha256 => names(
                "ECDSA_SHA_256",
                &[(P256, "ecdsa-p256-sha256"), (Secp256k1, "ecdsa-secp256k1-sha256")],
                &[],
            ),
            Self::EcdsaSha384 => names("ECDSA_SHA_384", &[(P384, "ecdsa-p384-sha384")], &[]),
            Self::EcdsaSha512 => names("ECDSA_SHA_512", &[(P521, "ecdsa-p521-sha512")], &[]),
            Self::RsaPkcs1(Hash::Sha256) => {
                names("RSASSA_PKCS1_V1_5_SHA_256", &[(Rsa, "rsa-sha256")], &["RSA_PKCS1_SHA_256"])
            }
            Self::RsaPkcs1(Hash::Sha384) => {
                names("RSASSA_PKCS1_V1_5_SHA_384", &[(Rsa, "rsa-sha384")], &["RSA_PKCS1_SHA_384"])
            }
            Self::RsaPkcs1(Hash::Sha512) => {
                names("RSASSA_PKCS1_V1_5_SHA_512", &[(Rsa, "rsa-sha512")], &["RSA_PKCS1_SHA_512"])
            }
            Self::RsaPss(Hash::Sha256) => {
                names("RSASSA_PSS_SHA_256", &[(Rsa, "rsa-pss-sha256")], &["RSA_PSS_SHA_256"])
            }
            Self::RsaPss(Hash::Sha384) => {
                names("RSASSA_PSS_SHA_384", &[(Rsa, "rsa-pss-sha384")], &["RSA_PSS_SHA_384"])
            }
            Self::RsaPss(Hash::Sha512) => {
                names("RSASSA_PSS_SHA_512", &[(Rsa, "rsa-pss-sha512")], &["RSA_PSS_SHA_512"])
            }
            Self::MlDsaShake256 => names(
                "ML_DSA_SHAKE_256",
                &[(MlDsa44, "ml-dsa-44"), (MlDsa65, "ml-dsa-65"), (MlDsa87, "ml-dsa-87")],
                &[],
            ),
        }
    }

    /// The AWS KMS name, used in the native surface, policies and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.names().kms
    }

    /// The name that registries use in the field, for a key of `kind`.
    #[must_use]
    pub fn registry_name(self, kind: KeyKind) -> &'static str {
        let names = self.names();
        let of_kind = names.registry.iter().find(|(other, _)| *other == kind);
        of_kind.map_or(names.kms, |(_, name)| *name)
    }

    /// Reads the AWS KMS name, the registry's name, or an alias of the field.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::parse_with_kind(name).map(|(algorithm, _)| algorithm)
    }

    /// The same, and the kind of key that the name is about: a registry's name has one, such as
    /// `ecdsa-secp256k1-sha256`; KMS's names have none, such as `ECDSA_SHA_256`.
    #[must_use]
    pub fn parse_with_kind(name: &str) -> Option<(Self, Option<KeyKind>)> {
        Self::ALL.iter().find_map(|algorithm| {
            let Names { kms, registry, others } = algorithm.names();
            if name == kms || others.contains(&name) {
                return Some((*algorithm, None));
            }
            let (kind, _) = registry.iter().find(|(_, word)| *word == name)?;
            Some((*algorithm, Some(*kind)))
        })
    }

    /// The names of all algorithms, for messages: `A, B`.
    #[must_use]
    pub fn all_names() -> String {
        names_of(Self::ALL)
    }

    /// The kinds of keys that it takes: any one of them.
    pub fn key_kinds(self) -> impl Iterator<Item = KeyKind> {
        self.names().registry.iter().map(|(kind, _)| *kind)
    }

    /// Whether its keys sign messages as they are and hash by themselves, so that the bytes of a
    /// digest are a message too.
    #[must_use]
    pub const fn signs_messages(self) -> bool {
        match self {
            Self::Ed25519Sha512 | Self::MlDsaShake256 => true,
            Self::EcdsaSha256
            | Self::EcdsaSha384
            | Self::EcdsaSha512
            | Self::RsaPkcs1(_)
            | Self::RsaPss(_) => false,
        }
    }

    /// The hash of the digests it takes when it is given one. Ed25519 and ML-DSA hash by
    /// themselves: a SHA-256 digest is their message.
    #[must_use]
    pub const fn digest_hash(self) -> Hash {
        match self {
            Self::Ed25519Sha512 | Self::EcdsaSha256 | Self::MlDsaShake256 => Hash::Sha256,
            Self::EcdsaSha384 => Hash::Sha384,
            Self::EcdsaSha512 => Hash::Sha512,
            Self::RsaPkcs1(hash) | Self::RsaPss(hash) => hash,
        }
    }
}

impl KeyKind {
    /// The algorithms that a key of this kind signs with.
    pub fn algorithms(self) -> impl Iterator<Item = Algorithm> {
        let is_its = move |algorithm: &Algorithm| algorithm.key_kinds().any(|kind| kind == self);
        Algorithm::ALL.iter().copied().filter(is_its)
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
            let of_kinds = registry.iter().map(|(_, name)| name);
            for name in [kms].iter().chain(of_kinds).chain(others) {
                assert_eq!(Algorithm::parse(name), Some(*algorithm), "{name}");
                assert!(seen.insert(*name), "{name} names two algorithms");
            }
            for (kind, name) in registry {
                assert_eq!(Algorithm::parse_with_kind(name), Some((*algorithm, Some(*kind))));
                assert_eq!(algorithm.registry_name(*kind), *name);
            }
        }
        for name in ["ECDSA_SHA_224", "ml-dsa", "SM2DSA", "", "ed25519 "] {
            assert_eq!(Algorithm::parse(name), None, "{name}");
        }
    }

    #[test]
    fn every_kind_of_key_has_an_algorithm_and_every_algorithm_a_kind() {
        for kind in KeyKind::ALL {
            assert!(kind.algorithms().next().is_some(), "{kind:?}");
        }
        let of_all = Algorithm::ALL.iter().flat_map(|algorithm| algorithm.key_kinds());
        let kinds: std::collections::BTreeSet<_> = of_all.collect();
        assert_eq!(kinds, KeyKind::ALL.into_iter().collect());
    }

    #[test]
    fn no_kind_of_key_has_longer_signatures_than_the_longest() {
        let longest = KeyKind::ALL.into_iter().map(KeyKind::signature_max_bytes).max();
        assert_eq!(longest, Some(SIGNATURE_MAX_BYTES));
    }
}

//! Kinds of keys, as a SubjectPublicKeyInfo names them.

use spki::ObjectIdentifier;
use spki::der::asn1::AnyRef;

use super::SIGNATURE_MAX_BYTES;

/// id-Ed25519 (RFC 8410).
pub(super) const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// id-ecPublicKey (RFC 5480).
pub(super) const EC_PUBLIC_KEY: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// secp256r1 (RFC 5480).
pub(super) const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// secp384r1 (RFC 5480).
pub(super) const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// secp521r1 (RFC 5480).
pub(super) const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
/// secp256k1 (SEC 2, A.2.1).
pub(super) const SECP256K1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.10");
/// id-ml-dsa-44 (RFC 9881).
const ML_DSA_44: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.17");
/// id-ml-dsa-65 (RFC 9881).
const ML_DSA_65: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18");
/// id-ml-dsa-87 (RFC 9881).
const ML_DSA_87: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.19");
/// rsaEncryption (RFC 3279 2.3.1).
pub(super) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// What kind of key an algorithm takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// NIST P-256 (RFC 5480).
    P256,
    /// secp256k1 (SEC 2), the curve of Bitcoin and Ethereum.
    Secp256k1,
    /// NIST P-384 (RFC 5480).
    P384,
    /// NIST P-521 (RFC 5480).
    P521,
    /// RSA of 2048 to 4096 bits (RFC 3279): one key, several algorithms.
    Rsa,
    /// ML-DSA-44 (RFC 9881).
    MlDsa44,
    /// ML-DSA-65 (RFC 9881).
    MlDsa65,
    /// ML-DSA-87 (RFC 9881).
    MlDsa87,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Ed25519,
        Self::P256,
        Self::Secp256k1,
        Self::P384,
        Self::P521,
        Self::Rsa,
        Self::MlDsa44,
        Self::MlDsa65,
        Self::MlDsa87,
    ];

    /// Its name for people, such as `P-256`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "Ed25519",
            Self::P256 => "P-256",
            Self::Secp256k1 => "secp256k1",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
            Self::Rsa => "RSA",
            Self::MlDsa44 => "ML-DSA-44",
            Self::MlDsa65 => "ML-DSA-65",
            Self::MlDsa87 => "ML-DSA-87",
        }
    }

    /// How long a signature of such a key is at most, in bytes: ECDSA's in DER, RSA's of 4096 bits.
    #[must_use]
    pub const fn signature_max_bytes(self) -> usize {
        match self {
            Self::Ed25519 => 64,
            Self::P256 | Self::Secp256k1 => 72,
            Self::P384 => 104,
            Self::P521 => 139,
            Self::Rsa => 512,
            Self::MlDsa44 => 2420,
            Self::MlDsa65 => 3309,
            Self::MlDsa87 => SIGNATURE_MAX_BYTES,
        }
    }

    /// Whether a PKCS#11 token is asked for such keys.
    ///
    /// # Errors
    /// Why not, and what to do, as a sentence for a person.
    pub fn signs_on_tokens(self) -> Result<(), String> {
        if !self.is_ml_dsa() {
            return Ok(());
        }
        Err(format!(
            "the registered key is of kind {}, which a PKCS#11 upstream does not sign with (PKCS#11 has \
             ML-DSA from version 3.2 on only); use the provider aws-kms",
            self.name()
        ))
    }

    pub(super) const fn is_ml_dsa(self) -> bool {
        matches!(self, Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87)
    }

    /// Whether an AlgorithmIdentifier is that of its keys; `curve` is what the parameters name, if
    /// they name one.
    pub(super) fn is_said_by(
        self,
        oid: ObjectIdentifier,
        parameters: Option<AnyRef<'_>>,
        curve: Option<ObjectIdentifier>,
    ) -> bool {
        let on = |wanted| oid == EC_PUBLIC_KEY && curve == Some(wanted);
        let bare = |wanted| oid == wanted && parameters.is_none();
        match self {
            Self::Ed25519 => bare(ED25519),
            Self::P256 => on(P256),
            Self::Secp256k1 => on(SECP256K1),
            Self::P384 => on(P384),
            Self::P521 => on(P521),
            Self::Rsa => oid == RSA && parameters.is_some_and(AnyRef::is_null),
            Self::MlDsa44 => bare(ML_DSA_44),
            Self::MlDsa65 => bare(ML_DSA_65),
            Self::MlDsa87 => bare(ML_DSA_87),
        }
    }

    /// The kind of a key, with where it is specified, for messages.
    pub(super) const fn described(self) -> &'static str {
        match self {
            Self::Ed25519 => "an Ed25519 key (RFC 8410)",
            Self::P256 => "a P-256 key (RFC 5480)",
            Self::Secp256k1 => "a secp256k1 key (SEC 2)",
            Self::P384 => "a P-384 key (RFC 5480)",
            Self::P521 => "a P-521 key (RFC 5480)",
            Self::Rsa => "an RSA key (rsaEncryption, RFC 3279)",
            Self::MlDsa44 => "an ML-DSA-44 key (RFC 9881)",
            Self::MlDsa65 => "an ML-DSA-65 key (RFC 9881)",
            Self::MlDsa87 => "an ML-DSA-87 key (RFC 9881)",
        }
    }
}

/// What kind of key an AlgorithmIdentifier names, for messages.
pub(super) fn describe(oid: ObjectIdentifier, curve: Option<ObjectIdentifier>) -> String {
    match (oid, curve) {
        (ED25519, _) => "Ed25519".into(),
        (EC_PUBLIC_KEY, Some(P256)) => "P-256".into(),
        (EC_PUBLIC_KEY, Some(SECP256K1)) => "secp256k1".into(),
        (EC_PUBLIC_KEY, Some(P384)) => "P-384".into(),
        (EC_PUBLIC_KEY, Some(P521)) => "P-521".into(),
        (EC_PUBLIC_KEY, Some(curve)) => format!("EC curve {curve}"),
        (RSA, _) => "RSA".into(),
        (ML_DSA_44, _) => "ML-DSA-44".into(),
        (ML_DSA_65, _) => "ML-DSA-65".into(),
        (ML_DSA_87, _) => "ML-DSA-87".into(),
        (oid, _) => oid.to_string(),
    }
}

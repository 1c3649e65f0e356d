//! What checks a signature, for each algorithm and kind of key.

use aws_lc_rs::signature::{self, VerificationAlgorithm};

use super::{Algorithm, Hash, KeyKind};

/// What checks signatures of `algorithm` by a key of `kind`, which is one of the algorithm's own.
pub(super) fn verifier(algorithm: Algorithm, kind: KeyKind) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        Algorithm::Ed25519Sha512 => &signature::ED25519,
        Algorithm::EcdsaSha256 if matches!(kind, KeyKind::Secp256k1) => {
            &signature::ECDSA_P256K1_SHA256_ASN1
        }
        Algorithm::EcdsaSha256 => &signature::ECDSA_P256_SHA256_ASN1,
        Algorithm::EcdsaSha384 => &signature::ECDSA_P384_SHA384_ASN1,
        Algorithm::EcdsaSha512 => &signature::ECDSA_P521_SHA512_ASN1,
        Algorithm::MlDsaShake256 if matches!(kind, KeyKind::MlDsa87) => &signature::ML_DSA_87,
        Algorithm::MlDsaShake256 if matches!(kind, KeyKind::MlDsa65) => &signature::ML_DSA_65,
        Algorithm::MlDsaShake256 => &signature::ML_DSA_44,
        Algorithm::RsaPkcs1(Hash::Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RsaPkcs1(Hash::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RsaPkcs1(Hash::Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::RsaPss(Hash::Sha256) => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::RsaPss(Hash::Sha384) => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::RsaPss(Hash::Sha512) => &signature::RSA_PSS_2048_8192_SHA512,
    }
}

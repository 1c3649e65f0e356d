//! The keys of the KMS for tests: what each kind is called, and how it signs.

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};

/// What AWS allows as `RAW`.
const MESSAGE_MAX_BYTES: usize = 4096;

/// Kinds of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ECC_NIST_EDWARDS25519`.
    Ed25519,
    /// `ECC_NIST_P256`.
    P256,
    /// `ECC_NIST_P384`.
    P384,
    /// `RSA_2048`.
    Rsa2048,
    /// `RSA_3072`.
    Rsa3072,
    /// `RSA_4096`.
    Rsa4096,
}

impl Kind {
    /// Its own algorithm's name in KMS: what its signer is registered for.
    #[must_use]
    pub fn algorithm(self) -> &'static str {
        self.algorithms()[0]
    }

    /// Every algorithm it signs with, its own first.
    #[must_use]
    pub fn algorithms(self) -> &'static [&'static str] {
        match self {
            Self::Ed25519 => &["ED25519_SHA_512"],
            Self::P256 => &["ECDSA_SHA_256"],
            Self::P384 => &["ECDSA_SHA_384"],
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => &[
                "RSASSA_PKCS1_V1_5_SHA_256",
                "RSASSA_PKCS1_V1_5_SHA_384",
                "RSASSA_PKCS1_V1_5_SHA_512",
                "RSASSA_PSS_SHA_256",
                "RSASSA_PSS_SHA_384",
                "RSASSA_PSS_SHA_512",
            ],
        }
    }

    /// Its own algorithm's name in registries.
    #[must_use]
    pub fn registry_algorithm(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::P256 => "ecdsa-p256-sha256",
            Self::P384 => "ecdsa-p384-sha384",
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => "rsa-sha256",
        }
    }

    /// Its `KeySpec` in KMS.
    pub(crate) fn key_spec(self) -> &'static str {
        match self {
            Self::Ed25519 => "ECC_NIST_EDWARDS25519",
            Self::P256 => "ECC_NIST_P256",
            Self::P384 => "ECC_NIST_P384",
            Self::Rsa2048 => "RSA_2048",
            Self::Rsa3072 => "RSA_3072",
            Self::Rsa4096 => "RSA_4096",
        }
    }
}

#[derive(Debug)]
pub(super) enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair, &'static digest::Algorithm),
    Rsa(rsa::KeyPair),
}

impl Pair {
    pub(super) fn generate(kind: Kind) -> Self {
        let rsa = |size| Self::Rsa(rsa::KeyPair::generate(size).unwrap());
        let ecdsa = |curve, hash| Self::Ecdsa(EcdsaKeyPair::generate(curve).unwrap(), hash);
        match kind {
            Kind::Ed25519 => Self::Ed25519(Ed25519KeyPair::generate().unwrap()),
            Kind::P256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, &digest::SHA256),
            Kind::P384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING, &digest::SHA384),
            Kind::Rsa2048 => rsa(KeySize::Rsa2048),
            Kind::Rsa3072 => rsa(KeySize::Rsa3072),
            Kind::Rsa4096 => rsa(KeySize::Rsa4096),
        }
    }

    pub(super) fn public_key_der(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::Ecdsa(pair, _) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        }
    }

    /// PKCS#8, which no KMS gives: for a token that is to hold the same key.
    pub(super) fn private_key_der(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(pair) => pair.to_pkcs8().unwrap().as_ref().to_vec(),
            Self::Ecdsa(pair, _) => pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => pair.as_der().unwrap().as_ref().to_vec(),
        }
    }

    /// As AWS does: `RAW` is limited, `DIGEST` has the hash's length, and pure
    /// Ed25519 takes no digest.
    pub(super) fn sign(
        &self,
        algorithm: &str,
        message: &[u8],
        is_digest: bool,
    ) -> Result<Vec<u8>, &'static str> {
        if !is_digest && message.len() > MESSAGE_MAX_BYTES {
            return Err("ValidationException");
        }
        let hashed = |hash: &'static digest::Algorithm| {
            if is_digest {
                Digest::import_less_safe(message, hash).map_err(|_| "ValidationException")
            } else {
                Ok(digest::digest(hash, message))
            }
        };
        match self {
            Self::Ed25519(_) if is_digest => Err("ValidationException"),
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            // The bare hash of a message is signed as the message itself would be.
            Self::Ecdsa(pair, hash) if is_digest => {
                Ok(pair.sign_digest(&hashed(hash)?).unwrap().as_ref().to_vec())
            }
            Self::Ecdsa(pair, _) => {
                Ok(pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec())
            }
            Self::Rsa(pair) => {
                let (padding, hash) = padding(algorithm).ok_or("InvalidKeyUsageException")?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign_digest(padding, &hashed(hash)?, &mut signature).unwrap();
                Ok(signature)
            }
        }
    }
}

fn padding(algorithm: &str) -> Option<(&'static dyn RsaEncoding, &'static digest::Algorithm)> {
    Some(match algorithm {
        "RSASSA_PKCS1_V1_5_SHA_256" => (&RSA_PKCS1_SHA256, &digest::SHA256),
        "RSASSA_PKCS1_V1_5_SHA_384" => (&RSA_PKCS1_SHA384, &digest::SHA384),
        "RSASSA_PKCS1_V1_5_SHA_512" => (&RSA_PKCS1_SHA512, &digest::SHA512),
        "RSASSA_PSS_SHA_256" => (&RSA_PSS_SHA256, &digest::SHA256),
        "RSASSA_PSS_SHA_384" => (&RSA_PSS_SHA384, &digest::SHA384),
        "RSASSA_PSS_SHA_512" => (&RSA_PSS_SHA512, &digest::SHA512),
        _ => return None,
    })
}

//! The keys of the KMS for tests: what each kind is called, and how it signs.

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING,
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};
use ml_dsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};
use ml_dsa::{Keypair as _, MlDsa44, MlDsa65, MlDsa87, MlDsaParams, Signer as _, SigningKey};

/// What AWS allows as `RAW`.
const MESSAGE_MAX_BYTES: usize = 4096;

/// Kinds of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ECC_NIST_EDWARDS25519`.
    Ed25519,
    /// `ECC_NIST_P256`.
    P256,
    /// `ECC_SECG_P256K1`.
    Secp256k1,
    /// `ECC_NIST_P384`.
    P384,
    /// `ECC_NIST_P521`.
    P521,
    /// `RSA_2048`.
    Rsa2048,
    /// `RSA_3072`.
    Rsa3072,
    /// `RSA_4096`.
    Rsa4096,
    /// `ML_DSA_44`.
    MlDsa44,
    /// `ML_DSA_65`.
    MlDsa65,
    /// `ML_DSA_87`.
    MlDsa87,
}

/// What `MessageType` says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    Raw,
    Digest,
    ExternalMu,
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
            Self::P256 | Self::Secp256k1 => &["ECDSA_SHA_256"],
            Self::P384 => &["ECDSA_SHA_384"],
            Self::P521 => &["ECDSA_SHA_512"],
            Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87 => &["ML_DSA_SHAKE_256"],
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
            Self::Secp256k1 => "ecdsa-secp256k1-sha256",
            Self::P384 => "ecdsa-p384-sha384",
            Self::P521 => "ecdsa-p521-sha512",
            Self::MlDsa44 => "ml-dsa-44",
            Self::MlDsa65 => "ml-dsa-65",
            Self::MlDsa87 => "ml-dsa-87",
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => "rsa-sha256",
        }
    }

    /// Whether it signs messages as they are, and a digest's bytes as a message.
    #[must_use]
    pub fn signs_messages(self) -> bool {
        matches!(self, Self::Ed25519 | Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87)
    }

    /// Its `KeySpec` in KMS.
    #[must_use]
    pub fn key_spec(self) -> &'static str {
        match self {
            Self::Ed25519 => "ECC_NIST_EDWARDS25519",
            Self::P256 => "ECC_NIST_P256",
            Self::Secp256k1 => "ECC_SECG_P256K1",
            Self::P384 => "ECC_NIST_P384",
            Self::P521 => "ECC_NIST_P521",
            Self::MlDsa44 => "ML_DSA_44",
            Self::MlDsa65 => "ML_DSA_65",
            Self::MlDsa87 => "ML_DSA_87",
            Self::Rsa2048 => "RSA_2048",
            Self::Rsa3072 => "RSA_3072",
            Self::Rsa4096 => "RSA_4096",
        }
    }
}

pub(super) enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair, &'static digest::Algorithm),
    Rsa(rsa::KeyPair),
    // Of another implementation than the one that verifies; it signs mu too.
    MlDsa44(SigningKey<MlDsa44>),
    MlDsa65(SigningKey<MlDsa65>),
    MlDsa87(SigningKey<MlDsa87>),
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(..)")
    }
}

impl Pair {
    pub(super) fn generate(kind: Kind) -> Self {
        let rsa = |size| Self::Rsa(rsa::KeyPair::generate(size).unwrap());
        let seed = || {
            let mut seed = [0_u8; 32];
            aws_lc_rs::rand::fill(&mut seed).unwrap();
            ml_dsa::Seed::from(seed)
        };
        let ecdsa = |curve, hash| Self::Ecdsa(EcdsaKeyPair::generate(curve).unwrap(), hash);
        match kind {
            Kind::Ed25519 => Self::Ed25519(Ed25519KeyPair::generate().unwrap()),
            Kind::P256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, &digest::SHA256),
            Kind::Secp256k1 => ecdsa(&ECDSA_P256K1_SHA256_ASN1_SIGNING, &digest::SHA256),
            Kind::P384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING, &digest::SHA384),
            Kind::P521 => ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING, &digest::SHA512),
            Kind::MlDsa44 => Self::MlDsa44(SigningKey::from_seed(&seed())),
            Kind::MlDsa65 => Self::MlDsa65(SigningKey::from_seed(&seed())),
            Kind::MlDsa87 => Self::MlDsa87(SigningKey::from_seed(&seed())),
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
            Self::MlDsa44(pair) => pair.verifying_key().to_public_key_der().unwrap().into_vec(),
            Self::MlDsa65(pair) => pair.verifying_key().to_public_key_der().unwrap().into_vec(),
            Self::MlDsa87(pair) => pair.verifying_key().to_public_key_der().unwrap().into_vec(),
        }
    }

    /// PKCS#8, which no KMS gives: for a token that is to hold the same key.
    pub(super) fn private_key_der(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(pair) => pair.to_pkcs8().unwrap().as_ref().to_vec(),
            Self::Ecdsa(pair, _) => pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => pair.as_der().unwrap().as_ref().to_vec(),
            Self::MlDsa44(pair) => pair.to_pkcs8_der().unwrap().as_bytes().to_vec(),
            Self::MlDsa65(pair) => pair.to_pkcs8_der().unwrap().as_bytes().to_vec(),
            Self::MlDsa87(pair) => pair.to_pkcs8_der().unwrap().as_bytes().to_vec(),
        }
    }

    /// As AWS does: `RAW` is limited, `DIGEST` has the hash's length, pure Ed25519 and ML-DSA take
    /// no digest, and only ML-DSA takes `EXTERNAL_MU`, of 64 bytes.
    pub(super) fn sign(
        &self,
        algorithm: &str,
        message: &[u8],
        given: Given,
    ) -> Result<Vec<u8>, &'static str> {
        let is_digest = given == Given::Digest;
        if given == Given::Raw && message.len() > MESSAGE_MAX_BYTES {
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
            Self::MlDsa44(pair) => ml_dsa(pair, message, given),
            Self::MlDsa65(pair) => ml_dsa(pair, message, given),
            Self::MlDsa87(pair) => ml_dsa(pair, message, given),
            _ if given == Given::ExternalMu => Err("ValidationException"),
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

/// The message or, of one that is too long, what stands for it.
fn ml_dsa<P: MlDsaParams>(
    pair: &SigningKey<P>,
    message: &[u8],
    given: Given,
) -> Result<Vec<u8>, &'static str> {
    let signature = match given {
        Given::Raw => pair.sign(message),
        Given::Digest => return Err("ValidationException"),
        Given::ExternalMu => {
            let mu = <[u8; 64]>::try_from(message).map_err(|_| "ValidationException")?;
            pair.expanded_key().sign_mu_deterministic(&mu.into())
        }
    };
    Ok(signature.encode().to_vec())
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

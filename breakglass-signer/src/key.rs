//! An emergency key that is open: it signs what a permit allows, and is wiped on drop (I4).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::KeyPair as _;
use clap::ValueEnum;
use ed25519_dalek::Signer as _;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use pkcs8::SecretDocument;
use signing_core::batch::{Batch, BatchId, SALT_BYTES, Salt};
use signing_core::breakglass::SignPermit;
use signing_core::canary::NONCE_BYTES;
use signing_core::journal::BatchLeaf;
use signing_core::key::{Hash, PublicKey};
use signing_core::{Algorithm, Canary, Signer, ToBeSigned, VerifiedSignature};
use zeroize::Zeroizing;

/// An open key that has proven to be the registered one.
pub struct EmergencyKey {
    private: Private,
    registered: Arc<Signer>,
}

/// A key that was not compared with anything yet.
pub struct Unproven {
    private: Private,
}

/// On the heap, in one place that is locked and wiped.
///
/// RSA is aws-lc-rs's: its private operation is constant-time, blinded, and checked against the
/// public key before it returns (a fault in one half of the CRT gives the factors away), and its
/// allocator wipes whatever it frees. The pure-Rust crate is not constant-time (RUSTSEC-2023-0071).
enum Private {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    P256(Box<p256::ecdsa::SigningKey>),
    Rsa(Box<rsa::KeyPair>),
}

/// The kinds of emergency keys that are made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Ed25519.
    Ed25519,
    /// NIST P-256.
    P256,
    /// RSA of 2048 bits.
    #[value(name = "rsa-2048")]
    Rsa2048,
    /// RSA of 3072 bits.
    #[value(name = "rsa-3072")]
    Rsa3072,
    /// RSA of 4096 bits.
    #[value(name = "rsa-4096")]
    Rsa4096,
}

/// Why a key cannot be used. Nothing of the key is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmergencyKeyError {
    /// The file holds another kind of key.
    #[error("it is no PKCS#8 private key of Ed25519, P-256 or RSA (2048 to 4096 bits)")]
    Kind,
    /// It is not the registered one.
    #[error("its public key is not the one that the registry has for {0}")]
    Other(String),
    /// What it signed does not verify.
    #[error("what it signed does not verify under the registered key")]
    SelfTest,
    /// It signs nothing of that algorithm.
    #[error("it does not sign with {0}")]
    Algorithm(Algorithm),
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
    /// An RSA key could not be made.
    #[error("the key cannot be made")]
    Generation,
}

impl Unproven {
    /// Reads the DER of a PKCS#8 private key, of a size that the registry takes.
    ///
    /// # Errors
    /// [`EmergencyKeyError::Kind`].
    pub fn from_der(der: &SecretDocument) -> Result<Self, EmergencyKeyError> {
        let bytes = der.as_bytes();
        let ed25519 = || ed25519_dalek::SigningKey::from_pkcs8_der(bytes).ok();
        let p256 = || p256::ecdsa::SigningKey::from_pkcs8_der(bytes).ok();
        let rsa = || rsa::KeyPair::from_pkcs8(bytes).ok();
        let private = ed25519()
            .map(|key| Private::Ed25519(Box::new(key)))
            .or_else(|| p256().map(|key| Private::P256(Box::new(key))))
            .or_else(|| rsa().map(|key| Private::Rsa(Box::new(key))))
            .ok_or(EmergencyKeyError::Kind)?;
        let key = Self { private };
        key.public().map(|_| key)
    }

    /// A fresh key.
    ///
    /// # Errors
    /// [`EmergencyKeyError`].
    pub fn generate(kind: Kind) -> Result<Self, EmergencyKeyError> {
        let rsa = |size| {
            let key = rsa::KeyPair::generate(size).map_err(|_| EmergencyKeyError::Generation)?;
            Ok(Self { private: Private::Rsa(Box::new(key)) })
        };
        match kind {
            Kind::Ed25519 => {
                let key = ed25519_dalek::SigningKey::from_bytes(&*seed()?);
                Ok(Self { private: Private::Ed25519(Box::new(key)) })
            }
            // One seed in 2^32 is no scalar of the curve: then another is drawn.
            Kind::P256 => loop {
                if let Ok(key) = p256::ecdsa::SigningKey::from_slice(seed()?.as_slice()) {
                    return Ok(Self { private: Private::P256(Box::new(key)) });
                }
            },
            Kind::Rsa2048 => rsa(rsa::KeySize::Rsa2048),
            Kind::Rsa3072 => rsa(rsa::KeySize::Rsa3072),
            Kind::Rsa4096 => rsa(rsa::KeySize::Rsa4096),
        }
    }

    /// The DER of the private key, to be sealed.
    ///
    /// # Errors
    /// [`EmergencyKeyError::Kind`].
    pub fn to_der(&self) -> Result<SecretDocument, EmergencyKeyError> {
        let der = match &self.private {
            // Without its public key, which makes it a version 2 that openssl 3 does not read.
            Private::Ed25519(key) => {
                ed25519_dalek::pkcs8::KeypairBytes { secret_key: key.to_bytes(), public_key: None }
                    .to_pkcs8_der()
            }
            Private::P256(key) => key.to_pkcs8_der(),
            Private::Rsa(key) => {
                let der = key.as_der().map_err(|_| EmergencyKeyError::Kind)?;
                return SecretDocument::try_from(der.as_ref()).map_err(|_| EmergencyKeyError::Kind);
            }
        };
        der.map_err(|_| EmergencyKeyError::Kind)
    }

    /// Its public key.
    ///
    /// # Errors
    /// [`EmergencyKeyError::Kind`].
    pub fn public(&self) -> Result<PublicKey, EmergencyKeyError> {
        let der = match &self.private {
            Private::Ed25519(key) => key.verifying_key().to_public_key_der(),
            Private::P256(key) => key.verifying_key().to_public_key_der(),
            Private::Rsa(key) => {
                let der = key.public_key().as_der().map_err(|_| EmergencyKeyError::Kind)?;
                return self.registrable(der.as_ref());
            }
        };
        self.registrable(der.map_err(|_| EmergencyKeyError::Kind)?.as_bytes())
    }

    /// The public key, if its size and exponent are ones that the registry takes.
    fn registrable(&self, spki_der: &[u8]) -> Result<PublicKey, EmergencyKeyError> {
        let algorithm = match &self.private {
            Private::Ed25519(_) => Algorithm::Ed25519Sha512,
            Private::P256(_) => Algorithm::EcdsaSha256,
            // What most clients ask for; the registry may say another one of its six.
            Private::Rsa(_) => Algorithm::RsaPkcs1(Hash::Sha256),
        };
        PublicKey::from_spki_der(spki_der, algorithm).map_err(|_| EmergencyKeyError::Kind)
    }

    /// The same for a batch key, which signs a canary as a batch of one leaf.
    fn prove_batch(&self, registered: &Signer, canary: &Canary) -> Result<(), EmergencyKeyError> {
        let input = canary.to_be_signed(registered);
        self.private.sign_leaf(registered, &input).map(drop)
    }

    /// Proves it: it is the registered key, and a canary that it signs verifies with each algorithm of
    /// its. For Ed25519 and P-256 another implementation says so (`aws-lc-rs`, in signing-core).
    ///
    /// # Errors
    /// [`EmergencyKeyError`].
    pub fn prove(self, registered: &Arc<Signer>) -> Result<EmergencyKey, EmergencyKeyError> {
        if self.public()?.spki_der() != registered.public_key.spki_der() {
            return Err(EmergencyKeyError::Other(registered.kid.to_string()));
        }
        let mut nonce = [0; NONCE_BYTES];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| EmergencyKeyError::NoRandomness)?;
        let canary = Canary::new(&registered.kid, nonce);
        if registered.batch.is_batch() {
            self.prove_batch(registered, &canary)?;
            return Ok(EmergencyKey { private: self.private, registered: Arc::clone(registered) });
        }
        for algorithm in registered.public_key.algorithms() {
            let canary = canary.to_be_signed_with(algorithm);
            let signature = self.private.sign(&canary)?;
            registered.verify(&canary, signature).map_err(|_| EmergencyKeyError::SelfTest)?;
        }
        Ok(EmergencyKey { private: self.private, registered: Arc::clone(registered) })
    }
}

/// An emergency signature.
#[derive(Debug)]
pub struct Made {
    /// What leaves: of a batch key, the text of a proof.
    pub signature: Vec<u8>,
    /// What a record holds: of a batch key, the signature over the note.
    pub recorded: Vec<u8>,
    /// What was signed.
    pub input: ToBeSigned,
    /// Of a batch key: which leaf it is.
    pub leaf: Option<BatchLeaf>,
}

impl EmergencyKey {
    /// What the registry says of it.
    #[must_use]
    pub fn registered(&self) -> &Signer {
        &self.registered
    }

    /// Whether a signature takes milliseconds: RSA does. Others may have something urgent meanwhile.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        matches!(self.private, Private::Rsa(_))
    }

    /// Signs what the permit allows, which uses it up. A batch key signs a tree of that one leaf.
    ///
    /// # Errors
    /// [`EmergencyKeyError::Algorithm`], if that was prepared for another kind of key.
    pub fn sign(&self, permit: SignPermit) -> Result<Made, EmergencyKeyError> {
        let input = permit.into_input();
        if !self.registered.batch.is_batch() {
            let signature = self.private.sign(&input)?;
            return Ok(Made { recorded: signature.clone(), signature, input, leaf: None });
        }
        let signed = self.private.sign_leaf(&self.registered, &input)?;
        let proved = signed.proved().ok_or(EmergencyKeyError::SelfTest)?;
        Ok(Made {
            signature: signed.bytes().to_vec(),
            recorded: proved.note_signature.clone(),
            leaf: Some(BatchLeaf::of(proved)),
            input,
        })
    }
}

impl Private {
    /// Signs the batch of that one leaf, and proves the leaf.
    fn sign_leaf(
        &self,
        registered: &Signer,
        input: &ToBeSigned,
    ) -> Result<VerifiedSignature, EmergencyKeyError> {
        let (mut id, mut salt) = ([0; 16], [0; SALT_BYTES]);
        let drawn = aws_lc_rs::rand::fill(&mut id).and_then(|()| aws_lc_rs::rand::fill(&mut salt));
        drawn.map_err(|_| EmergencyKeyError::NoRandomness)?;
        let (id, salt) = (BatchId::new(id), Salt::new(salt));
        let batch = Batch::of_one(registered, id, &salt, input);
        let batch = batch.ok_or(EmergencyKeyError::Algorithm(input.algorithm()))?;
        let signature = self.sign(batch.to_be_signed())?;
        let signed =
            batch.signed(registered, signature).map_err(|_| EmergencyKeyError::SelfTest)?;
        signed.prove((input, salt), 0).map_err(|_| EmergencyKeyError::SelfTest)
    }

    fn sign(&self, input: &ToBeSigned) -> Result<Vec<u8>, EmergencyKeyError> {
        let other = || EmergencyKeyError::Algorithm(input.algorithm());
        if input.leaf().is_some() {
            return Err(other());
        }
        match (self, input.algorithm(), input.digest()) {
            (Self::Ed25519(key), Algorithm::Ed25519Sha512, None) => {
                Ok(key.sign(input.bytes()).to_bytes().to_vec())
            }
            (Self::P256(key), Algorithm::EcdsaSha256, Some(digest)) => {
                let signature: p256::ecdsa::Signature =
                    key.sign_prehash(digest).map_err(|_| other())?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            (Self::Rsa(key), _, Some(_)) => {
                let (padding, digest) = input.for_rsa().ok_or_else(other)?;
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign_digest(padding, digest, &mut signature).map_err(|_| other())?;
                Ok(signature)
            }
            _ => Err(other()),
        }
    }
}

fn seed() -> Result<Zeroizing<[u8; 32]>, EmergencyKeyError> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    aws_lc_rs::rand::fill(seed.as_mut_slice()).map_err(|_| EmergencyKeyError::NoRandomness)?;
    Ok(seed)
}

impl fmt::Debug for EmergencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmergencyKey(..)")
    }
}

impl fmt::Debug for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unproven(..)")
    }
}

//! An emergency key that is open: it signs what a permit allows, and is wiped on drop (I4).

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::Signer as _;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use pkcs8::SecretDocument;
use signing_core::breakglass::SignPermit;
use signing_core::canary::NONCE_BYTES;
use signing_core::key::PublicKey;
use signing_core::{Algorithm, Canary, Signer, ToBeSigned};
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

/// Large enough to live on the heap, in one place that is locked and wiped.
enum Private {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    P256(Box<p256::ecdsa::SigningKey>),
}

/// Why a key cannot be used. Nothing of the key is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTrouble {
    /// The file holds another kind of key.
    #[error("it is no PKCS#8 private key of Ed25519 or P-256")]
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
}

impl Unproven {
    /// Reads the DER of a PKCS#8 private key.
    ///
    /// # Errors
    /// [`KeyTrouble::Kind`].
    pub fn from_der(der: &SecretDocument) -> Result<Self, KeyTrouble> {
        let bytes = der.as_bytes();
        let ed25519 = ed25519_dalek::SigningKey::from_pkcs8_der(bytes).ok();
        let p256 = || p256::ecdsa::SigningKey::from_pkcs8_der(bytes).ok();
        let private = match ed25519 {
            Some(key) => Private::Ed25519(Box::new(key)),
            None => Private::P256(Box::new(p256().ok_or(KeyTrouble::Kind)?)),
        };
        Ok(Self { private })
    }

    /// A fresh key.
    ///
    /// # Errors
    /// [`KeyTrouble`].
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyTrouble> {
        loop {
            let mut seed = Zeroizing::new([0_u8; 32]);
            aws_lc_rs::rand::fill(seed.as_mut_slice()).map_err(|_| KeyTrouble::NoRandomness)?;
            match algorithm {
                Algorithm::Ed25519Sha512 => {
                    let key = ed25519_dalek::SigningKey::from_bytes(&seed);
                    return Ok(Self { private: Private::Ed25519(Box::new(key)) });
                }
                // One seed in 2^32 is no scalar of the curve: then another is drawn.
                Algorithm::EcdsaSha256 => {
                    if let Ok(key) = p256::ecdsa::SigningKey::from_slice(seed.as_slice()) {
                        return Ok(Self { private: Private::P256(Box::new(key)) });
                    }
                }
                other
                @ (Algorithm::EcdsaSha384 | Algorithm::RsaPkcs1(_) | Algorithm::RsaPss(_)) => {
                    return Err(KeyTrouble::Algorithm(other));
                }
            }
        }
    }

    /// The DER of the private key, to be sealed.
    ///
    /// # Errors
    /// [`KeyTrouble::Kind`].
    pub fn to_der(&self) -> Result<SecretDocument, KeyTrouble> {
        let der = match &self.private {
            // Without its public key, which makes it a version 2 that openssl 3 does not read.
            Private::Ed25519(key) => {
                ed25519_dalek::pkcs8::KeypairBytes { secret_key: key.to_bytes(), public_key: None }
                    .to_pkcs8_der()
            }
            Private::P256(key) => key.to_pkcs8_der(),
        };
        der.map_err(|_| KeyTrouble::Kind)
    }

    /// Its public key.
    ///
    /// # Errors
    /// [`KeyTrouble::Kind`].
    pub fn public(&self) -> Result<PublicKey, KeyTrouble> {
        let (der, algorithm) = match &self.private {
            Private::Ed25519(key) => {
                (key.verifying_key().to_public_key_der(), Algorithm::Ed25519Sha512)
            }
            Private::P256(key) => (key.verifying_key().to_public_key_der(), Algorithm::EcdsaSha256),
        };
        let der = der.map_err(|_| KeyTrouble::Kind)?;
        PublicKey::from_spki_der(der.as_bytes(), algorithm).map_err(|_| KeyTrouble::Kind)
    }

    /// Proves it: it is the registered key, and a canary that it signs verifies by another
    /// implementation (`aws-lc-rs`, in signing-core).
    ///
    /// # Errors
    /// [`KeyTrouble`].
    pub fn prove(self, registered: &Arc<Signer>) -> Result<EmergencyKey, KeyTrouble> {
        if self.public()?.spki_der() != registered.public_key.spki_der() {
            return Err(KeyTrouble::Other(registered.kid.to_string()));
        }
        let mut nonce = [0; NONCE_BYTES];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| KeyTrouble::NoRandomness)?;
        let canary = Canary::new(&registered.kid, nonce).to_be_signed(registered);
        let signature = self.private.sign(&canary)?;
        registered.verify(&canary, signature).map_err(|_| KeyTrouble::SelfTest)?;
        Ok(EmergencyKey { private: self.private, registered: Arc::clone(registered) })
    }
}

impl EmergencyKey {
    /// What the registry says of it.
    #[must_use]
    pub fn registered(&self) -> &Signer {
        &self.registered
    }

    /// Signs what the permit allows, which uses it up.
    ///
    /// # Errors
    /// [`KeyTrouble::Algorithm`], if that was prepared for another kind of key.
    pub fn sign(&self, permit: SignPermit) -> Result<(Vec<u8>, ToBeSigned), KeyTrouble> {
        let input = permit.into_input();
        Ok((self.private.sign(&input)?, input))
    }
}

impl Private {
    fn sign(&self, input: &ToBeSigned) -> Result<Vec<u8>, KeyTrouble> {
        let other = || KeyTrouble::Algorithm(input.algorithm());
        match (self, input.algorithm(), input.digest()) {
            (Self::Ed25519(key), Algorithm::Ed25519Sha512, None) => {
                Ok(key.sign(input.bytes()).to_bytes().to_vec())
            }
            (Self::P256(key), Algorithm::EcdsaSha256, Some(digest)) => {
                let signature: p256::ecdsa::Signature =
                    key.sign_prehash(digest).map_err(|_| other())?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            _ => Err(other()),
        }
    }
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

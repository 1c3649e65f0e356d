//! A signing key in a plain file.

use std::fmt;
use std::path::Path;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::KeyPair as _;
use ed25519_dalek::Signer as _;
use host::secret::{self, Fault, Form, Found, SecretError, Wanted};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::pkcs8::{
    DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding, SecretDocument,
};
use signing_core::{Algorithm, ToBeSigned};
use zeroize::Zeroizing;

/// A key of the development provider. The private part is wiped on drop and
/// never printed.
#[derive(Clone)]
pub struct DevelopmentKey {
    private: Private,
    public_key_der: Vec<u8>,
}

#[derive(Clone)]
enum Private {
    Ed25519(ed25519_dalek::SigningKey),
    P256(p256::ecdsa::SigningKey),
    Rsa(rsa::KeyPair),
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file holds no key of a kind known here.
    #[error(transparent)]
    File(#[from] SecretError),
    /// The system gives no randomness.
    #[error("the system gives no randomness for a key")]
    NoRandomness,
    /// A key cannot be written down.
    #[error("the key cannot be encoded")]
    Encoding,
    /// There is no such development key, or the input was prepared for another one.
    #[error("no development key signs so with {0}; they are Ed25519, P-256 and RSA")]
    OtherAlgorithm(Algorithm),
}

impl DevelopmentKey {
    /// A fresh key; an RSA key has 2048 bits, which are made soonest.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`], [`KeyError::Encoding`],
    /// [`KeyError::OtherAlgorithm`] unless it is Ed25519, P-256 or RSA.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        loop {
            let mut seed = Zeroizing::new([0_u8; 32]);
            aws_lc_rs::rand::fill(seed.as_mut_slice()).map_err(|_| KeyError::NoRandomness)?;
            let private = match algorithm {
                Algorithm::Ed25519Sha512 => {
                    Some(Private::Ed25519(ed25519_dalek::SigningKey::from_bytes(&seed)))
                }
                // One seed in 2^32 is no scalar of the curve: then another is drawn.
                Algorithm::EcdsaSha256 => {
                    p256::ecdsa::SigningKey::from_slice(seed.as_slice()).ok().map(Private::P256)
                }
                Algorithm::RsaPkcs1(_) | Algorithm::RsaPss(_) => {
                    let key = rsa::KeyPair::generate(rsa::KeySize::Rsa2048);
                    Some(Private::Rsa(key.map_err(|_| KeyError::NoRandomness)?))
                }
                Algorithm::EcdsaSha384 => return Err(KeyError::OtherAlgorithm(algorithm)),
            };
            if let Some(private) = private {
                return Self::new(private);
            }
        }
    }

    /// Reads a PKCS#8 PEM.
    ///
    /// # Errors
    /// [`KeyError::File`].
    pub fn load(file: &Path) -> Result<Self, KeyError> {
        let wanted = Wanted::DevelopmentKey;
        let key = secret::private_key(file, wanted)?;
        let der = key.der.as_slice();
        let ed25519 = ed25519_dalek::SigningKey::from_pkcs8_der(der).ok().map(Private::Ed25519);
        let p256 = || p256::ecdsa::SigningKey::from_pkcs8_der(der).ok().map(Private::P256);
        let rsa = || rsa::KeyPair::from_pkcs8(der).ok().map(Private::Rsa);
        let fault = match key.form {
            Form::Pkcs8 => Fault::Damaged,
            Form::Pkcs1 | Form::Sec1 | Form::Sealed => Fault::Holds(Found::PrivateKey),
        };
        let other = || SecretError::new(file, wanted, fault);
        Self::new(ed25519.or_else(p256).or_else(rsa).ok_or_else(other)?)
    }

    fn new(private: Private) -> Result<Self, KeyError> {
        let der = match &private {
            Private::Ed25519(key) => key.verifying_key().to_public_key_der(),
            Private::P256(key) => key.verifying_key().to_public_key_der(),
            Private::Rsa(key) => {
                let der = key.public_key().as_der().map_err(|_| KeyError::Encoding)?;
                let public_key_der = der.as_ref().to_vec();
                return Ok(Self { private, public_key_der });
            }
        };
        let public_key_der = der.map_err(|_| KeyError::Encoding)?.into_vec();
        Ok(Self { private, public_key_der })
    }

    /// The PKCS#8 PEM of the private key.
    ///
    /// # Errors
    /// [`KeyError::Encoding`].
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let pem = match &self.private {
            Private::Ed25519(key) => key.to_pkcs8_pem(LineEnding::LF),
            Private::P256(key) => key.to_pkcs8_pem(LineEnding::LF),
            Private::Rsa(key) => {
                let der = key.as_der().map_err(|_| KeyError::Encoding)?;
                let document = SecretDocument::try_from(der.as_ref());
                return document
                    .and_then(|document| document.to_pem("PRIVATE KEY", LineEnding::LF))
                    .map_err(|_| KeyError::Encoding);
            }
        };
        pem.map_err(|_| KeyError::Encoding)
    }

    /// DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key_der(&self) -> &[u8] {
        &self.public_key_der
    }

    /// Signs what was prepared for this key's algorithm.
    ///
    /// # Errors
    /// [`KeyError::OtherAlgorithm`].
    pub fn sign(&self, input: &ToBeSigned) -> Result<Vec<u8>, KeyError> {
        let other = || KeyError::OtherAlgorithm(input.algorithm());
        match (&self.private, input.algorithm(), input.digest()) {
            (Private::Ed25519(key), Algorithm::Ed25519Sha512, None) => {
                Ok(key.sign(input.bytes()).to_bytes().to_vec())
            }
            (Private::P256(key), Algorithm::EcdsaSha256, Some(digest)) => {
                let signature: p256::ecdsa::Signature =
                    key.sign_prehash(digest).map_err(|_| other())?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            (Private::Rsa(key), _, Some(_)) => {
                let (padding, digest) = input.for_rsa().ok_or_else(other)?;
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign_digest(padding, digest, &mut signature).map_err(|_| other())?;
                Ok(signature)
            }
            _ => Err(other()),
        }
    }
}

impl fmt::Debug for DevelopmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DevelopmentKey(..)")
    }
}

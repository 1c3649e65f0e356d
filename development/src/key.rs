//! A signing key in a plain file.

use std::fmt;
use std::path::Path;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::KeyPair as _;
use ed25519_dalek::Signer as _;
use host::secret::{self, Fault, Form, Found, SecretError, Wanted};
use ml_dsa::{Keypair as _, MlDsa44, MlDsa65, MlDsa87};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::pkcs8::{
    DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding, SecretDocument,
};
use signing_core::key::KeyKind;
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
    Secp256k1(k256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
    Rsa(rsa::KeyPair),
    MlDsa44(ml_dsa::SigningKey<MlDsa44>),
    MlDsa65(ml_dsa::SigningKey<MlDsa65>),
    MlDsa87(ml_dsa::SigningKey<MlDsa87>),
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
    /// The input was prepared for another key.
    #[error("the development key does not sign so with {0}")]
    OtherAlgorithm(Algorithm),
}

impl DevelopmentKey {
    /// A fresh key; an RSA key has 2048 bits, which are made soonest.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`], [`KeyError::Encoding`].
    pub fn generate(kind: KeyKind) -> Result<Self, KeyError> {
        loop {
            // As many bytes as the longest scalar has.
            let mut random = Zeroizing::new([0_u8; 66]);
            aws_lc_rs::rand::fill(random.as_mut_slice()).map_err(|_| KeyError::NoRandomness)?;
            if let Some(private) = Private::from_random(kind, &mut random)? {
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
        let fault = match key.form {
            Form::Pkcs8 => Fault::Damaged,
            Form::Pkcs1 | Form::Sec1 | Form::Sealed => Fault::Holds(Found::PrivateKey),
        };
        let other = || SecretError::new(file, wanted, fault);
        Self::new(Private::read(key.der.as_slice()).ok_or_else(other)?)
    }

    fn new(private: Private) -> Result<Self, KeyError> {
        let der = match &private {
            Private::Ed25519(key) => key.verifying_key().to_public_key_der(),
            Private::P256(key) => key.verifying_key().to_public_key_der(),
            Private::Secp256k1(key) => key.verifying_key().to_public_key_der(),
            Private::P384(key) => key.verifying_key().to_public_key_der(),
            Private::P521(key) => key.verifying_key().to_public_key_der(),
            Private::MlDsa44(key) => key.verifying_key().to_public_key_der(),
            Private::MlDsa65(key) => key.verifying_key().to_public_key_der(),
            Private::MlDsa87(key) => key.verifying_key().to_public_key_der(),
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
            Private::Secp256k1(key) => key.to_pkcs8_pem(LineEnding::LF),
            Private::P384(key) => key.to_pkcs8_pem(LineEnding::LF),
            Private::P521(key) => key.to_pkcs8_pem(LineEnding::LF),
            Private::MlDsa44(key) => key.to_pkcs8_pem(LineEnding::LF),
            Private::MlDsa65(key) => key.to_pkcs8_pem(LineEnding::LF),
            Private::MlDsa87(key) => key.to_pkcs8_pem(LineEnding::LF),
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
        let (algorithm, message) = (input.algorithm(), input.bytes());
        match (&self.private, algorithm, input.digest()) {
            (Private::Ed25519(key), Algorithm::Ed25519Sha512, None) => {
                Ok(key.sign(message).to_bytes().to_vec())
            }
            (Private::P256(key), Algorithm::EcdsaSha256, Some(digest)) => {
                let signed: Result<p256::ecdsa::Signature, _> = key.sign_prehash(digest);
                signed.map(|it| it.to_der().as_bytes().to_vec()).map_err(|_| other())
            }
            (Private::Secp256k1(key), Algorithm::EcdsaSha256, Some(digest)) => {
                let signed: Result<k256::ecdsa::Signature, _> = key.sign_prehash(digest);
                signed.map(|it| it.to_der().as_bytes().to_vec()).map_err(|_| other())
            }
            (Private::P384(key), Algorithm::EcdsaSha384, Some(digest)) => {
                let signed: Result<p384::ecdsa::Signature, _> = key.sign_prehash(digest);
                signed.map(|it| it.to_der().as_bytes().to_vec()).map_err(|_| other())
            }
            (Private::P521(key), Algorithm::EcdsaSha512, Some(digest)) => {
                let signed: Result<p521::ecdsa::Signature, _> = key.sign_prehash(digest);
                signed.map(|it| it.to_der().as_bytes().to_vec()).map_err(|_| other())
            }
            (Private::MlDsa44(key), Algorithm::MlDsaShake256, None) => {
                key.try_sign(message).map(|it| it.encode().to_vec()).map_err(|_| other())
            }
            (Private::MlDsa65(key), Algorithm::MlDsaShake256, None) => {
                key.try_sign(message).map(|it| it.encode().to_vec()).map_err(|_| other())
            }
            (Private::MlDsa87(key), Algorithm::MlDsaShake256, None) => {
                key.try_sign(message).map(|it| it.encode().to_vec()).map_err(|_| other())
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

impl Private {
    /// None: the random bytes are no scalar of the curve (one in 2^32 of P-256, fewer of the others).
    fn from_random(kind: KeyKind, random: &mut [u8; 66]) -> Result<Option<Self>, KeyError> {
        let (seed, _) = random.split_first_chunk::<32>().ok_or(KeyError::NoRandomness)?;
        let of_32 = seed.as_slice();
        let ml_dsa_seed = || ml_dsa::Seed::from(*seed);
        Ok(match kind {
            KeyKind::Ed25519 => Some(Self::Ed25519(ed25519_dalek::SigningKey::from_bytes(seed))),
            KeyKind::P256 => p256::ecdsa::SigningKey::from_slice(of_32).ok().map(Self::P256),
            KeyKind::Secp256k1 => {
                k256::ecdsa::SigningKey::from_slice(of_32).ok().map(Self::Secp256k1)
            }
            KeyKind::P384 => {
                let of_48 = random.get(..48).unwrap_or_default();
                p384::ecdsa::SigningKey::from_slice(of_48).ok().map(Self::P384)
            }
            KeyKind::P521 => {
                // 521 bits.
                random[0] &= 1;
                p521::ecdsa::SigningKey::from_slice(random).ok().map(Self::P521)
            }
            KeyKind::Rsa => {
                let key = rsa::KeyPair::generate(rsa::KeySize::Rsa2048);
                Some(Self::Rsa(key.map_err(|_| KeyError::NoRandomness)?))
            }
            KeyKind::MlDsa44 => Some(Self::MlDsa44(ml_dsa::SigningKey::from_seed(&ml_dsa_seed()))),
            KeyKind::MlDsa65 => Some(Self::MlDsa65(ml_dsa::SigningKey::from_seed(&ml_dsa_seed()))),
            KeyKind::MlDsa87 => Some(Self::MlDsa87(ml_dsa::SigningKey::from_seed(&ml_dsa_seed()))),
        })
    }

    /// Reads a PKCS#8 document: its AlgorithmIdentifier fits one kind of key only. An ML-DSA key is
    /// read in its short form, the seed (RFC 9881, 6).
    fn read(der: &[u8]) -> Option<Self> {
        let ed25519 = || ed25519_dalek::SigningKey::from_pkcs8_der(der).ok().map(Self::Ed25519);
        let p256 = || p256::ecdsa::SigningKey::from_pkcs8_der(der).ok().map(Self::P256);
        let secp256k1 = || k256::ecdsa::SigningKey::from_pkcs8_der(der).ok().map(Self::Secp256k1);
        let p384 = || p384::ecdsa::SigningKey::from_pkcs8_der(der).ok().map(Self::P384);
        let p521 = || p521::ecdsa::SigningKey::from_pkcs8_der(der).ok().map(Self::P521);
        let rsa = || rsa::KeyPair::from_pkcs8(der).ok().map(Self::Rsa);
        let ml_dsa_44 = || ml_dsa::SigningKey::from_pkcs8_der(der).ok().map(Self::MlDsa44);
        let ml_dsa_65 = || ml_dsa::SigningKey::from_pkcs8_der(der).ok().map(Self::MlDsa65);
        let ml_dsa_87 = || ml_dsa::SigningKey::from_pkcs8_der(der).ok().map(Self::MlDsa87);
        ed25519()
            .or_else(p256)
            .or_else(secp256k1)
            .or_else(p384)
            .or_else(p521)
            .or_else(rsa)
            .or_else(ml_dsa_44)
            .or_else(ml_dsa_65)
            .or_else(ml_dsa_87)
    }
}

impl fmt::Debug for DevelopmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DevelopmentKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use signing_core::key::PublicKey;
    use signing_core::{Hash, Input};

    use super::*;

    #[test]
    fn a_key_of_every_kind_reads_back_and_signs_what_its_public_key_verifies() {
        let directory = tempdir();
        for kind in KeyKind::ALL {
            let made = DevelopmentKey::generate(kind).unwrap();
            let file = directory.join(format!("{kind:?}.pem"));
            std::fs::write(&file, made.to_pem().unwrap().as_bytes()).unwrap();
            let key = DevelopmentKey::load(&file).unwrap();
            assert_eq!(key.public_key_der(), made.public_key_der(), "{kind:?}");
            for algorithm in kind.algorithms() {
                let public_key = PublicKey::from_spki_der(key.public_key_der(), algorithm).unwrap();
                assert_eq!(public_key.kind(), kind);
                let digest = algorithm.digest_hash().of(b"a message");
                for input in [Input::Message(b"a message".to_vec()), Input::Digest(digest)] {
                    let input = ToBeSigned::prepare(&input, algorithm).unwrap();
                    let signature = key.sign(&input).unwrap();
                    assert!(public_key.verifies(&input, &signature), "{kind:?} {algorithm}");
                }
            }
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_key_does_not_sign_what_was_prepared_for_another() {
        let key = DevelopmentKey::generate(KeyKind::Secp256k1).unwrap();
        let input = Input::Digest(Hash::Sha512.of(b"a message"));
        let input = ToBeSigned::prepare(&input, Algorithm::EcdsaSha512).unwrap();
        assert!(matches!(key.sign(&input), Err(KeyError::OtherAlgorithm(_))));
    }

    fn tempdir() -> std::path::PathBuf {
        let name = format!("development-key-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

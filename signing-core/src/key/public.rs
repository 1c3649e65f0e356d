//! A public key: SubjectPublicKeyInfo, parsed once.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use spki::der::{Decode, Encode};
use spki::{Document, ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::Algorithm;
use super::input::{Form, ToBeSigned};

/// id-Ed25519 (RFC 8410).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// id-ecPublicKey (RFC 5480).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// secp256r1 (RFC 5480).
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// A public key of a registered signer, in its one canonical encoding.
/// Equality compares that encoding.
#[derive(Clone)]
pub struct PublicKey {
    spki_der: Vec<u8>,
    algorithm: Algorithm,
    parsed: ParsedPublicKey,
}

/// Why bytes are not a usable public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a PEM block of the right kind.
    #[error("is not a PEM block \"PUBLIC KEY\" (what `openssl pkey -pubout` prints): {0}")]
    Pem(String),
    /// Not a SubjectPublicKeyInfo.
    #[error("is not a SubjectPublicKeyInfo (RFC 5280): {0}")]
    Spki(String),
    /// The key is of another kind than the algorithm says.
    #[error("is a key of kind {found}, but the algorithm {algorithm} needs {needed}")]
    OtherKind {
        /// What the key says it is.
        found: String,
        /// What the registry says.
        algorithm: &'static str,
        /// What that needs.
        needed: &'static str,
    },
    /// The point has the wrong length or form, is not on its curve (P-256), or is
    /// of small order (Ed25519): under such a key anyone can sign.
    #[error("holds no usable point of its curve")]
    Point,
}

impl PublicKey {
    /// Reads a PEM block `PUBLIC KEY` (RFC 7468).
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_pem(pem: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        let (label, document) =
            Document::from_pem(pem.trim()).map_err(|error| KeyError::Pem(error.to_string()))?;
        if label != "PUBLIC KEY" {
            return Err(KeyError::Pem(format!("it is a block {label:?}")));
        }
        Self::from_spki_der(document.as_bytes(), algorithm)
    }

    /// Reads a DER SubjectPublicKeyInfo: what KMS `GetPublicKey` answers.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_spki_der(der: &[u8], algorithm: Algorithm) -> Result<Self, KeyError> {
        let spki = SubjectPublicKeyInfoRef::from_der(der)
            .map_err(|error| KeyError::Spki(error.to_string()))?;
        let point = spki
            .subject_public_key
            .as_bytes()
            .ok_or_else(|| KeyError::Spki("its bit string has unused bits".into()))?;
        let curve = match spki.algorithm.parameters {
            Some(parameters) => parameters.decode_as::<ObjectIdentifier>().ok(),
            None => None,
        };
        let kind_fits = match algorithm {
            Algorithm::Ed25519Sha512 => {
                spki.algorithm.oid == ED25519 && spki.algorithm.parameters.is_none()
            }
            Algorithm::EcdsaSha256 => spki.algorithm.oid == EC_PUBLIC_KEY && curve == Some(P256),
        };
        if !kind_fits {
            return Err(KeyError::OtherKind {
                found: describe(spki.algorithm.oid, curve),
                algorithm: algorithm.registry_name(),
                needed: kind_needed(algorithm),
            });
        }
        if !is_canonical(point, algorithm) {
            return Err(KeyError::Point);
        }
        let parsed =
            ParsedPublicKey::new(verifier(algorithm), point).map_err(|_| KeyError::Point)?;
        let spki_der = spki.to_der().map_err(|error| KeyError::Spki(error.to_string()))?;
        Ok(Self { spki_der, algorithm, parsed })
    }

    /// DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// PEM block `PUBLIC KEY` (RFC 7468), lines of 64.
    #[must_use]
    pub fn to_pem(&self) -> String {
        // Encoding a short document that was just decoded has no way to fail; an
        // empty string would be refused by every reader.
        Document::try_from(self.spki_der.as_slice())
            .and_then(|document| document.to_pem("PUBLIC KEY", spki::der::pem::LineEnding::LF))
            .unwrap_or_default()
    }

    /// SHA-256 of the DER SubjectPublicKeyInfo, in lower-case hex.
    #[must_use]
    pub fn sha256_hex(&self) -> String {
        hex::encode(digest::digest(&digest::SHA256, &self.spki_der))
    }

    /// The algorithm it is registered for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's over `input`. Constant time is not
    /// needed: everything here is public.
    ///
    /// ECDSA signatures are strict DER; high S is valid (KMS does not
    /// normalise). Ed25519 refuses S >= L (RFC 8032 5.1.7).
    #[must_use]
    pub fn verifies(&self, input: &ToBeSigned, signature: &[u8]) -> bool {
        input.algorithm() == self.algorithm
            && match input.form() {
                Form::Raw(message) => self.parsed.verify_sig(message, signature).is_ok(),
                Form::Digest(bytes) => digest::Digest::import_less_safe(bytes, &digest::SHA256)
                    .is_ok_and(|digest| self.parsed.verify_digest_sig(&digest, signature).is_ok()),
            }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.spki_der == other.spki_der
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, sha256 {})", self.algorithm, self.sha256_hex())
    }
}

/// One key has one encoding, so that a key under two names is found.
fn is_canonical(point: &[u8], algorithm: Algorithm) -> bool {
    match algorithm {
        Algorithm::EcdsaSha256 => point.len() == 65 && point.first() == Some(&0x04),
        Algorithm::Ed25519Sha512 => <[u8; 32]>::try_from(point).is_ok_and(|mut y| {
            // The sign of x does not matter for the order of a point.
            if let Some(last) = y.last_mut() {
                *last &= 0x7f;
            }
            is_below_p(&y) && !SMALL_ORDER.contains(&y)
        }),
    }
}

/// Whether a little-endian number of 255 bits is below p = 2^255 - 19: only then
/// it is the one encoding of its coordinate (RFC 8032 5.1.3).
fn is_below_p(y: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = y;
    *first < 0xed || *last != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

/// The y coordinates, little endian, of Ed25519's points of order 1, 2, 4 and 8.
/// Under such a key there are signatures that nobody made (RFC 8032 has no check
/// for it; see "Taming the many EdDSAs", <https://eprint.iacr.org/2020/1244>).
const SMALL_ORDER: [[u8; 32]; 5] = [
    // 0 (order 4)
    [0; 32],
    // 1 (order 1)
    with_ends(1, 0, 0),
    // order 8
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    // order 8
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    // p - 1 (order 2)
    with_ends(0xec, 0xff, 0x7f),
];

/// 32 bytes: `first`, then `middle`, then `last`.
const fn with_ends(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

fn verifier(algorithm: Algorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        Algorithm::Ed25519Sha512 => &signature::ED25519,
        Algorithm::EcdsaSha256 => &signature::ECDSA_P256_SHA256_ASN1,
    }
}

fn kind_needed(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Ed25519Sha512 => "an Ed25519 key (RFC 8410)",
        Algorithm::EcdsaSha256 => "a P-256 key (RFC 5480)",
    }
}

fn describe(oid: ObjectIdentifier, curve: Option<ObjectIdentifier>) -> String {
    match (oid, curve) {
        (ED25519, _) => "Ed25519".into(),
        (EC_PUBLIC_KEY, Some(P256)) => "P-256".into(),
        (EC_PUBLIC_KEY, Some(curve)) => format!("EC curve {curve}"),
        (oid, _) => oid.to_string(),
    }
}

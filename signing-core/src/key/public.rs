//! A public key: SubjectPublicKeyInfo, parsed once.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::ParsedPublicKey;
use spki::der::{Decode, Encode};
use spki::{Document, ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::input::{Form, ToBeSigned};
use super::kind::describe;
use super::ml_dsa::{KeyHash, MU_BYTES};
use super::verifier::verifier;
use super::{Algorithm, KeyKind, rsa};

/// A public key of a registered signer, in its one canonical encoding.
/// Equality compares that encoding and the registered algorithm.
#[derive(Clone)]
pub struct PublicKey {
    spki_der: Vec<u8>,
    algorithm: Algorithm,
    kind: KeyKind,
    /// Of an ML-DSA key: the hash of its bytes, which every message is hashed behind.
    ml_dsa: Option<KeyHash>,
    /// Once for each algorithm that a key of this kind signs with.
    parsed: Vec<(Algorithm, ParsedPublicKey)>,
}

/// Why bytes are not a usable public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a PEM block of the right kind.
    #[error("is not a PEM block \"PUBLIC KEY\" (what `openssl pkey -pubout` prints): {0}")]
    Pem(&'static str),
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
        needed: String,
    },
    /// The point has the wrong length or form, is not on its curve (NIST), or is
    /// of small order (Ed25519): under such a key anyone can sign.
    #[error("holds no usable point of its curve")]
    Point,
    /// The RSA key is malformed, or of a size or exponent that is not taken.
    #[error("holds an RSA key that {0}")]
    Rsa(String),
    /// The ML-DSA key has not the length that its parameter set gives.
    #[error("holds no ML-DSA key of its parameter set's length")]
    MlDsa,
}

/// A PEM with its base64 in lines of 64 (RFC 7468): `base64` writes lines of 76, and what came
/// through a form often has one line.
fn in_lines_of_64(pem: &str) -> String {
    let (mut whole, mut body) = (String::with_capacity(pem.len() + pem.len() / 32), String::new());
    let fill = |whole: &mut String, body: &mut String| {
        for (at, c) in body.chars().enumerate() {
            if at > 0 && at % 64 == 0 {
                whole.push('\n');
            }
            whole.push(c);
        }
        if !body.is_empty() {
            whole.push('\n');
        }
        body.clear();
    };
    for line in pem.lines().map(str::trim) {
        if line.starts_with("-----") {
            fill(&mut whole, &mut body);
            whole.push_str(line);
            whole.push('\n');
        } else {
            body.push_str(line);
        }
    }
    fill(&mut whole, &mut body);
    whole
}

impl PublicKey {
    /// Reads a PEM block `PUBLIC KEY` (RFC 7468), in lines of any length.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_pem(pem: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        let pem = in_lines_of_64(pem);
        // What is named as a public key by mistake may be a private one, so that nothing of it, not
        // even its label, is repeated.
        let (label, document) = Document::from_pem(pem.trim())
            .map_err(|_| KeyError::Pem("it has no such form, or is damaged"))?;
        if label != "PUBLIC KEY" {
            return Err(KeyError::Pem(if label.contains("PRIVATE") {
                "it is a private key, which belongs nowhere near"
            } else {
                "it is a block of another kind"
            }));
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
        let (oid, parameters) = (spki.algorithm.oid, spki.algorithm.parameters);
        let curve = parameters.and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
        let is_of = |kind: &KeyKind| kind.is_said_by(oid, parameters, curve);
        let Some(kind) = algorithm.key_kinds().find(is_of) else {
            return Err(KeyError::OtherKind {
                found: describe(oid, curve),
                algorithm: algorithm.name(),
                needed: kinds_needed(algorithm),
            });
        };
        check_canonical(point, kind)?;
        let parse =
            |algorithm| Ok((algorithm, ParsedPublicKey::new(verifier(algorithm, kind), point)?));
        let parsed = kind
            .algorithms()
            .map(parse)
            .collect::<Result<_, aws_lc_rs::error::KeyRejected>>()
            .map_err(|_| match kind {
                KeyKind::Rsa => KeyError::Rsa("cannot be used".to_owned()),
                KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87 => KeyError::MlDsa,
                KeyKind::Ed25519
                | KeyKind::P256
                | KeyKind::Secp256k1
                | KeyKind::P384
                | KeyKind::P521 => KeyError::Point,
            })?;
        let spki_der = spki.to_der().map_err(|error| KeyError::Spki(error.to_string()))?;
        let ml_dsa = kind.is_ml_dsa().then(|| KeyHash::of(point));
        Ok(Self { spki_der, algorithm, kind, ml_dsa, parsed })
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

    /// The algorithm it is registered for: its own.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its kind, which its SubjectPublicKeyInfo says.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The name that registries use for its algorithm and kind.
    #[must_use]
    pub fn registry_name(&self) -> &'static str {
        self.algorithm.registry_name(self.kind)
    }

    /// The 64 bytes that stand for `message` before this ML-DSA key (FIPS 204, 6.2, mu; KMS
    /// `EXTERNAL_MU`). None: it is of another kind.
    #[must_use]
    pub fn external_mu(&self, message: &[u8]) -> Option<[u8; MU_BYTES]> {
        self.ml_dsa.as_ref().map(|key| key.mu(message))
    }

    /// Every algorithm that a key of its kind signs with; RSA has several.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> + '_ {
        self.parsed.iter().map(|(algorithm, _)| *algorithm)
    }

    /// Whether `signature` is this key's over `input`. Constant time is not
    /// needed: everything here is public.
    ///
    /// ECDSA signatures are strict DER; high S is valid (KMS does not
    /// normalise). Ed25519 refuses S >= L (RFC 8032 5.1.7). RSA signatures are as
    /// long as the modulus; PSS has a salt as long as its hash. ML-DSA signatures have the one
    /// length of their parameter set.
    #[must_use]
    pub fn verifies(&self, input: &ToBeSigned, signature: &[u8]) -> bool {
        let parsed = self.parsed.iter().find(|(algorithm, _)| *algorithm == input.algorithm());
        parsed.is_some_and(|(_, key)| match input.form() {
            Form::Raw(message) => key.verify_sig(message, signature).is_ok(),
            Form::Digest(digest) => key.verify_digest_sig(digest.imported(), signature).is_ok(),
            // What is signed is the note of a whole batch.
            Form::Leaf(_) => false,
        })
    }

    /// Whether `signature` is this Ed25519 key's over the text of a signed note.
    pub(crate) fn verifies_note(&self, text: &[u8], signature: &[u8]) -> bool {
        let mut parsed = self.parsed.iter();
        parsed.any(|(algorithm, key)| {
            *algorithm == Algorithm::Ed25519Sha512 && key.verify_sig(text, signature).is_ok()
        })
    }

    /// The 32 bytes of an Ed25519 key (RFC 8032); None: it is of another kind.
    #[must_use]
    pub fn ed25519_bytes(&self) -> Option<&[u8]> {
        // They are the last of its SubjectPublicKeyInfo (RFC 8410).
        let at = self.spki_der.len().checked_sub(32)?;
        self.spki_der.get(at..).filter(|_| self.algorithm == Algorithm::Ed25519Sha512)
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
fn check_canonical(key: &[u8], kind: KeyKind) -> Result<(), KeyError> {
    let uncompressed = |bytes| {
        (key.len() == bytes && key.first() == Some(&0x04)).then_some(()).ok_or(KeyError::Point)
    };
    let ml_dsa = |bytes| (key.len() == bytes).then_some(()).ok_or(KeyError::MlDsa);
    match kind {
        KeyKind::P256 | KeyKind::Secp256k1 => uncompressed(65),
        KeyKind::P384 => uncompressed(97),
        KeyKind::P521 => uncompressed(133),
        KeyKind::Ed25519 if is_canonical_edwards(key) => Ok(()),
        KeyKind::Ed25519 => Err(KeyError::Point),
        KeyKind::Rsa => rsa::check(key).map_err(KeyError::Rsa),
        // Every string of that length is a key (FIPS 204, 7.2).
        KeyKind::MlDsa44 => ml_dsa(1312),
        KeyKind::MlDsa65 => ml_dsa(1952),
        KeyKind::MlDsa87 => ml_dsa(2592),
    }
}

fn is_canonical_edwards(point: &[u8]) -> bool {
    <[u8; 32]>::try_from(point).is_ok_and(|mut y| {
        // The sign of x does not matter for the order of a point.
        if let Some(last) = y.last_mut() {
            *last &= 0x7f;
        }
        is_below_p(&y) && !SMALL_ORDER.contains(&y)
    })
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

/// `a P-256 key (RFC 5480) or a secp256k1 key (SEC 2)`.
fn kinds_needed(algorithm: Algorithm) -> String {
    algorithm.key_kinds().map(KeyKind::described).collect::<Vec<_>>().join(" or ")
}

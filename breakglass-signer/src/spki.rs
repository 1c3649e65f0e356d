//! An OpenSSH key as a SubjectPublicKeyInfo, to be compared with the registry's keys (I4).

use aws_lc_rs::digest;
use ssh_key::public::{EcdsaPublicKey, KeyData};

/// Up to the 32 bytes of an Ed25519 key (RFC 8410).
const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Up to the point of a P-256 key (RFC 5480).
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Up to the point of a P-384 key.
const P384: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];
/// The algorithm identifier of an RSA key: rsaEncryption, NULL (RFC 3279).
const RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// SHA-256, in hex, of the key's DER SubjectPublicKeyInfo. None: no registry holds such keys.
#[must_use]
pub(crate) fn sha256_of(key: &KeyData) -> Option<String> {
    let der = match key {
        KeyData::Ed25519(key) => [ED25519, key.as_ref()].concat(),
        KeyData::SkEd25519(key) => [ED25519, key.public_key().as_ref()].concat(),
        KeyData::Ecdsa(EcdsaPublicKey::NistP256(point)) => [P256, point.as_bytes()].concat(),
        KeyData::SkEcdsaSha2NistP256(key) => [P256, key.ec_point().as_bytes()].concat(),
        KeyData::Ecdsa(EcdsaPublicKey::NistP384(point)) => [P384, point.as_bytes()].concat(),
        KeyData::Rsa(key) => {
            let numbers = [tagged(0x02, key.n().as_bytes()), tagged(0x02, key.e().as_bytes())];
            let key = tagged(0x30, &numbers.concat());
            tagged(0x30, &[RSA, &tagged(0x03, &[&[0], &key[..]].concat())].concat())
        }
        _ => return None,
    };
    Some(hex::encode(digest::digest(&digest::SHA256, &der)))
}

/// Tag, length, content (X.690 8.1).
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let short = u8::try_from(content.len()).ok().filter(|length| *length < 0x80);
    let length: Vec<u8> = match short {
        Some(short) => vec![short],
        None => {
            let zeros = length.iter().take_while(|byte| **byte == 0).count();
            let bytes = length.get(zeros..).unwrap_or_default();
            [&[0x80 | u8::try_from(bytes.len()).unwrap_or(0)], bytes].concat()
        }
    };
    [&[tag][..], &length, content].concat()
}

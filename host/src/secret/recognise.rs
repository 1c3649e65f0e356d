//! What a file is that is no PEM: enough of DER (X.690) to tell keys, certificates and archives
//! apart by their first fields.

use super::fault::Found;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// The version of a certificate.
const VERSION: u8 = 0xa0;

/// What a file is by its first bytes; None if it may be a PEM.
pub(super) fn whole(bytes: &[u8]) -> Option<Found> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(Found::Utf16),
        [b'P', b'u', b'T', b'T', b'Y', b'-', ..] => Some(Found::PuttyKey),
        _ if bytes.starts_with(b"ssh-") || bytes.starts_with(b"ecdsa-sha2-") => {
            Some(Found::PublicKey)
        }
        _ => der(bytes),
    }
}

/// What DER it is. Something may follow it, such as a line end.
pub(super) fn der(bytes: &[u8]) -> Option<Found> {
    let (SEQUENCE, content, _) = field(bytes)? else { return None };
    let (first, inner, rest) = field(content)?;
    let second = field(rest).map(|(tag, ..)| tag);
    Some(match (first, second) {
        (INTEGER, Some(SEQUENCE)) if inner == [3] => Found::Pkcs12,
        (INTEGER, Some(SEQUENCE | INTEGER | OCTET_STRING)) => Found::DerPrivateKey,
        (SEQUENCE, Some(OCTET_STRING)) => Found::DerEncryptedKey,
        (SEQUENCE, Some(BIT_STRING)) => Found::PublicKey,
        (SEQUENCE, Some(SEQUENCE)) if inner.first() == Some(&VERSION) => Found::DerCertificate,
        (OID, Some(VERSION)) => Found::Pkcs7,
        _ => Found::Other,
    })
}

/// Tag, content and what follows, of a field with a definite length.
fn field(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

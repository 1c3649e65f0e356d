//! A public key from its parts, as a PKCS#11 token holds them.

use spki::der::asn1::{AnyRef, BitStringRef, OctetStringRef, UintRef};
use spki::der::{Decode as _, Encode as _, Tag};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::kind::{EC_PUBLIC_KEY, ED25519, KeyKind, P256, P384, P521, RSA, SECP256K1};

/// The DER SubjectPublicKeyInfo of the point `CKA_EC_POINT`, which some tokens
/// hold as it is and others as an OCTET STRING around it (PKCS#11 3.1, 6.3.3 and 6.3.5).
/// None if it is no point of the length that a key of `kind` has, or a key of that kind is no point.
#[must_use]
pub fn spki_of_point(kind: KeyKind, held: &[u8]) -> Option<Vec<u8>> {
    let (oid, curve, bytes) = match kind {
        KeyKind::Ed25519 => (ED25519, None, 32),
        KeyKind::P256 => (EC_PUBLIC_KEY, Some(P256), 65),
        KeyKind::Secp256k1 => (EC_PUBLIC_KEY, Some(SECP256K1), 65),
        KeyKind::P384 => (EC_PUBLIC_KEY, Some(P384), 97),
        KeyKind::P521 => (EC_PUBLIC_KEY, Some(P521), 133),
        KeyKind::Rsa | KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87 => return None,
    };
    let point =
        if held.len() == bytes { held } else { <&OctetStringRef>::from_der(held).ok()?.as_bytes() };
    if point.len() != bytes {
        return None;
    }
    spki(AlgorithmIdentifierRef { oid, parameters: curve.as_ref().map(AnyRef::from) }, point)
}

/// The DER SubjectPublicKeyInfo of an RSA key, from big-endian numbers.
#[must_use]
pub fn spki_of_rsa(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    let integer = |bytes| UintRef::new(bytes).and_then(|number| number.to_der()).ok();
    let pair = [integer(modulus)?, integer(exponent)?].concat();
    let key = AnyRef::new(Tag::Sequence, &pair).and_then(|sequence| sequence.to_der()).ok()?;
    spki(AlgorithmIdentifierRef { oid: RSA, parameters: Some(AnyRef::NULL) }, &key)
}

fn spki(algorithm: AlgorithmIdentifierRef<'_>, key: &[u8]) -> Option<Vec<u8>> {
    let subject_public_key = BitStringRef::from_bytes(key).ok()?;
    SubjectPublicKeyInfoRef { algorithm, subject_public_key }.to_der().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Algorithm, PublicKey};

    /// The base point of P-256 and a public key of RFC 8032 7.1, test 1.
    const P256_POINT: &str = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342\
                              e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    /// The base point of secp256k1.
    const SECP256K1_POINT: &str = "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ad\
                                   a7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
    const ED25519_POINT: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    #[test]
    fn a_point_is_read_raw_or_wrapped_and_makes_a_key() {
        for (kind, algorithm, point) in [
            (KeyKind::P256, Algorithm::EcdsaSha256, P256_POINT),
            (KeyKind::Secp256k1, Algorithm::EcdsaSha256, SECP256K1_POINT),
            (KeyKind::Ed25519, Algorithm::Ed25519Sha512, ED25519_POINT),
        ] {
            let point = hex::decode(point.replace(' ', "")).unwrap();
            let wrapped = [&[0x04, u8::try_from(point.len()).unwrap()], &point[..]].concat();
            let raw = spki_of_point(kind, &point).unwrap();
            assert_eq!(spki_of_point(kind, &wrapped).unwrap(), raw);
            let key = PublicKey::from_spki_der(&raw, algorithm).unwrap();
            assert_eq!(key.kind(), kind);
        }
    }

    #[test]
    fn what_is_no_point_of_the_algorithm_makes_no_key() {
        for held in [&[][..], &[4; 64], &[4, 0], &[4, 2, 1, 1], &[0x30; 67], &[4; 97]] {
            assert_eq!(spki_of_point(KeyKind::P256, held), None, "{held:02x?}");
        }
        assert_eq!(spki_of_point(KeyKind::P384, &[4; 65]), None);
        assert_eq!(spki_of_point(KeyKind::Ed25519, &[4; 65]), None);
        assert_eq!(spki_of_point(KeyKind::P521, &[4; 97]), None);
        for kind in [KeyKind::Rsa, KeyKind::MlDsa44, KeyKind::MlDsa65, KeyKind::MlDsa87] {
            assert_eq!(spki_of_point(kind, &[4; 65]), None, "{kind:?}");
        }
    }

    #[test]
    fn rsa_numbers_make_a_key_whatever_their_leading_zeros() {
        let pem = include_str!("../../tests/rsa_2048_public.pem");
        let key = PublicKey::from_pem(pem, Algorithm::parse("rsa-sha256").unwrap()).unwrap();
        let document = key.spki_der();
        // The modulus ends before `INTEGER 65537`; both stand at the end of the document.
        let modulus = &document[document.len() - 261..document.len() - 5];
        let made = spki_of_rsa(&[&[0, 0], modulus].concat(), &[0, 1, 0, 1]).unwrap();
        assert_eq!(made, document);
        assert_eq!(spki_of_rsa(modulus, &[1, 0, 1]).unwrap(), document);
    }
}

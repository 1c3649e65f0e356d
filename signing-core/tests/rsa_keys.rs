//! An RSA key is of a size and an exponent that are taken, in its one encoding,
//! or it is no key.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use signing_core::Algorithm;
use signing_core::key::{Hash, KeyError, PublicKey};

const PKCS1: Algorithm = Algorithm::RsaPkcs1(Hash::Sha256);
/// DER of `AlgorithmIdentifier`s (RFC 3279 2.3.1, RFC 4055 3.1).
const ID_RSA: &str = "300d06092a864886f70d0101010500";
const ID_RSA_WITHOUT_NULL: &str = "300b06092a864886f70d010101";
const ID_RSASSA_PSS: &str = "300b06092a864886f70d01010a";

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    match content.len() {
        0..0x80 => [&[tag, length[1]], content].concat(),
        0x80..0x100 => [&[tag, 0x81, length[1]], content].concat(),
        _ => [&[tag, 0x82, length[0], length[1]], content].concat(),
    }
}

/// A modulus of that many bits: odd, with its highest bit set.
fn modulus(bits: usize) -> Vec<u8> {
    let mut number = vec![0x5a; bits.div_ceil(8)];
    let top = (bits - 1) % 8;
    number[0] = 1 << top;
    *number.last_mut().unwrap() |= 1;
    number
}

fn integer(number: &[u8]) -> Vec<u8> {
    let zero: &[u8] = if number[0] & 0x80 == 0 { &[] } else { &[0] };
    tagged(0x02, &[zero, number].concat())
}

fn spki(id: &str, key: &[u8]) -> Vec<u8> {
    let bits = tagged(0x03, &[&[0], key].concat());
    tagged(0x30, &[hex::decode(id).unwrap(), bits].concat())
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    spki(ID_RSA, &tagged(0x30, &[integer(modulus), integer(exponent)].concat()))
}

fn read(der: &[u8]) -> Result<PublicKey, KeyError> {
    PublicKey::from_spki_der(der, PKCS1)
}

const F4: [u8; 3] = [1, 0, 1];

#[test]
fn sizes_from_2048_to_4096_bits_are_taken_and_no_others() {
    for (bits, taken) in
        [(1024, false), (2047, false), (2048, true), (3072, true), (4096, true), (4097, false)]
    {
        let key = read(&rsa(&modulus(bits), &F4));
        assert_eq!(key.is_ok(), taken, "{bits}: {key:?}");
        if let Err(error) = key {
            assert!(error.to_string().contains(&format!("has {bits} bits")), "{error}");
        }
    }
}

#[test]
fn exponents_that_help_forgers_are_refused() {
    for exponent in [&[3][..], &[0x11], &[0xff, 0xff], &[1, 0, 0], &[4, 0, 0, 0, 1]] {
        let key = read(&rsa(&modulus(2048), exponent));
        assert!(matches!(key, Err(KeyError::Rsa(_))), "{exponent:?}: {key:?}");
    }
    assert!(read(&rsa(&modulus(2048), &[1, 0, 3])).is_ok());
}

#[test]
fn an_even_modulus_is_no_key() {
    let mut even = modulus(2048);
    *even.last_mut().unwrap() &= 0xfe;
    assert!(read(&rsa(&even, &F4)).is_err());
}

#[test]
fn i4_one_key_has_one_encoding() {
    let (n, e) = (integer(&modulus(2048)), integer(&F4));
    let padded = tagged(0x02, &[&[0], &e[2..]].concat());
    for (case, key) in [
        ("a leading zero", tagged(0x30, &[n.clone(), padded].concat())),
        ("a third number", tagged(0x30, &[n.clone(), e.clone(), e.clone()].concat())),
        ("trailing bytes", [tagged(0x30, &[n.clone(), e.clone()].concat()), vec![0]].concat()),
        ("a negative number", {
            let negative = tagged(0x02, &modulus(2048));
            tagged(0x30, &[negative, e.clone()].concat())
        }),
        ("one number", tagged(0x30, &n)),
        ("nothing", Vec::new()),
    ] {
        assert!(matches!(read(&spki(ID_RSA, &key)), Err(KeyError::Rsa(_))), "{case}");
    }
    let key = tagged(0x30, &[n, e].concat());
    for id in [ID_RSA_WITHOUT_NULL, ID_RSASSA_PSS] {
        assert!(matches!(read(&spki(id, &key)), Err(KeyError::OtherKind { .. })), "{id}");
    }
}

#[test]
fn one_rsa_key_signs_with_all_six_algorithms_and_is_registered_for_one() {
    let key = read(&rsa(&modulus(2048), &F4)).unwrap();
    assert_eq!(key.algorithm(), PKCS1);
    assert_eq!(key.algorithms().count(), 6);
    let other = Algorithm::RsaPss(Hash::Sha512);
    let registered_otherwise = PublicKey::from_spki_der(&rsa(&modulus(2048), &F4), other).unwrap();
    assert_ne!(key, registered_otherwise);
}

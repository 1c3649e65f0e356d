//! Every form in which the private part of an emergency key could lie somewhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{PASSPHRASE, Signer, succeeds};
use crate::programs::system;

/// The passphrase's name.
pub const OF_PASSPHRASE: &str = "passphrase";
/// The order of Ed25519's group, little endian (RFC 8032, 5.1).
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

impl Signer<'_> {
    /// What has to be nowhere else, each with a name: the seed or scalar (`key`, which is what the
    /// signer holds in a session), what is made of it, as bytes and as text; and the passphrase.
    #[must_use]
    pub fn secrets(&self) -> Vec<(String, Vec<u8>)> {
        let mut openssl = system("openssl");
        openssl.args(["pkey", "-outform", "DER", "-passin", &format!("pass:{PASSPHRASE}"), "-in"]);
        let der = succeeds(openssl.arg(self.builder.path("emergency.pem")));
        let mut raw = match self.builder.algorithm {
            "p256" => {
                // The field's element of ECPrivateKey (RFC 5915): version 1, then 32 bytes.
                let head = [2, 1, 1, 4, 32];
                let at = der.windows(head.len()).position(|window| window == head).unwrap();
                let scalar = der[at + head.len()..][..32].to_vec();
                let limbs = scalar.iter().rev().copied().collect();
                // As 64-bit numbers of this machine, least first, which is what p256 holds.
                vec![("key", limbs), ("scalar", scalar)]
            }
            "rsa-2048" | "rsa-3072" | "rsa-4096" => rsa(&der),
            _ => {
                let seed = der[der.len() - 32..].to_vec();
                let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, &seed);
                let (scalar, prefix) = hash.as_ref().split_at(32);
                let mut clamped: [u8; 32] = scalar.try_into().unwrap();
                clamped[0] &= 248;
                clamped[31] = (clamped[31] & 127) | 64;
                vec![
                    ("key", seed),
                    ("hashed", scalar.to_vec()),
                    ("nonce prefix", prefix.to_vec()),
                    ("scalar", clamped.to_vec()),
                    ("reduced scalar", reduced(clamped).to_vec()),
                ]
            }
        };
        let texts = raw.iter().flat_map(|(_, bytes)| {
            [("as hex", hex::encode(bytes).into()), ("as base64", STANDARD.encode(bytes).into())]
        });
        let texts: Vec<_> = texts.collect();
        raw.extend(texts);
        raw.push((OF_PASSPHRASE, PASSPHRASE.into()));
        raw.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
    }
}

/// The private numbers of an RSA key, as the signer holds them (64-bit numbers of this machine,
/// least first) and as the file has them.
fn rsa(der: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    // RSAPrivateKey (RFC 8017 A.1.2), which is what openssl writes in DER: version, n, e, d, p, q,
    // d mod p-1, d mod q-1, q^-1 mod p.
    let key = elements(elements(der)[0].1);
    assert_eq!(key.len(), 9);
    let numbers = key[3..].iter().flat_map(|(_, number)| {
        let number = number.strip_prefix(&[0]).unwrap_or(number).to_vec();
        [("key", number.iter().rev().copied().collect()), ("as in the file", number)]
    });
    numbers.collect()
}

/// The tags and contents of the DER values in `der`, one after the other.
fn elements(mut der: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let [tag, first, rest @ ..] = der {
        let more = if *first < 0x80 { 0 } else { usize::from(first & 0x7f) };
        let length = match more {
            0 => usize::from(*first),
            _ => rest[..more].iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)),
        };
        found.push((*tag, &rest[more..more + length]));
        der = &rest[more + length..];
    }
    found
}

/// A number below 2^255 modulo the group's order.
fn reduced(mut number: [u8; 32]) -> [u8; 32] {
    while number.iter().rev().ge(ORDER.iter().rev()) {
        let mut borrow = 0_i16;
        for (digit, minus) in number.iter_mut().zip(ORDER) {
            let left = i16::from(*digit) - i16::from(minus) - borrow;
            borrow = i16::from(left < 0);
            *digit = left.rem_euclid(256).to_le_bytes()[0];
        }
    }
    number
}

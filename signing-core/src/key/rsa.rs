//! What an RSA public key has to be before it is registered.

use spki::der::asn1::{AnyRef, UintRef};
use spki::der::{Decode as _, Reader as _};

/// The sizes taken, in bits: those of AWS KMS are 2048, 3072 and 4096.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The smallest exponent taken, as FIPS 186-5 A.1.1 has it; AWS KMS keys have this
/// one. With 3 a careless verifier elsewhere accepts forgeries.
const EXPONENT_MIN: u64 = 65_537;

/// Whether `key` is an `RSAPublicKey` (RFC 8017 A.1.1) in DER, of a usable size.
/// DER is strict: one key has one encoding.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(key: &[u8]) -> Result<(), String> {
    let malformed = |_: spki::der::Error| "is not an RSAPublicKey (RFC 8017)".to_owned();
    let (modulus, exponent): (UintRef<'_>, UintRef<'_>) = AnyRef::from_der(key)
        .and_then(|pair| pair.sequence(|reader| Ok((reader.decode()?, reader.decode()?))))
        .map_err(malformed)?;
    let bits = bits(modulus.as_bytes());
    if !MODULUS_BITS.contains(&bits) {
        return Err(format!(
            "has {bits} bits, expected {} to {}",
            MODULUS_BITS.start(),
            MODULUS_BITS.end()
        ));
    }
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    // aws-lc takes at most 33 bits; so do we.
    let value = exponent.as_bytes().iter().try_fold(0_u64, |value, byte| {
        let value = value.checked_mul(256)?.checked_add(u64::from(*byte))?;
        (value < 1 << 33).then_some(value)
    });
    match value {
        Some(value) if value >= EXPONENT_MIN && value & 1 == 1 && is_odd(modulus.as_bytes()) => {
            Ok(())
        }
        Some(value) if value < EXPONENT_MIN => {
            Err(format!("has the public exponent {value}, expected {EXPONENT_MIN} or more"))
        }
        Some(_) | None => Err("has numbers that no RSA key has".to_owned()),
    }
}

/// Bits of a big-endian number without leading zeros.
fn bits(number: &[u8]) -> usize {
    let leading = number.first().map_or(0, |byte| byte.leading_zeros() as usize);
    (number.len() * 8).saturating_sub(leading)
}

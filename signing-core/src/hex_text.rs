//! Bytes as hex digits, as names and hashes are shown.

use std::fmt;

/// How many bytes are written at once.
const AT_ONCE: usize = 32;

/// Writes `bytes` as lower-case hex digits, without a string in between.
pub(crate) fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut digits = [0; 2 * AT_ONCE];
    for some in bytes.chunks(AT_ONCE) {
        let digits = digits.get_mut(..2 * some.len()).ok_or(fmt::Error)?;
        hex::encode_to_slice(some, digits).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(digits).map_err(|_| fmt::Error)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shown(Vec<u8>);

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_hex(&self.0, f)
        }
    }

    #[test]
    fn bytes_of_every_length_are_two_digits_each() {
        for length in [0, 1, 16, 31, 32, 33, 64, 65, 200] {
            let bytes: Vec<u8> = (0..=u8::MAX).rev().take(length).collect();
            assert_eq!(Shown(bytes.clone()).to_string(), hex::encode(&bytes), "{length} bytes");
        }
    }
}

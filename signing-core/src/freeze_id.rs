//! The name of one freeze: an operator's of one proxy, or one that a whole fleet obeys.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names one freeze, and no other: 16 random bytes, written as 32 hex digits in lower case. They carry no
/// order and no time: a freeze is never too old, and nobody can guess the id of a freeze that does not
/// exist yet. A break-glass request can name the operator's freeze under which its session is to sign.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FreezeId([u8; FreezeId::BYTES]);

/// A text that names no freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the id of a freeze, 32 hex digits in lower case: `signctl status` says it")]
pub struct NoFreezeId;

impl FreezeId {
    /// How many random bytes it has.
    pub const BYTES: usize = 16;

    /// Of these random bytes.
    #[must_use]
    pub const fn new(random: [u8; Self::BYTES]) -> Self {
        Self(random)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`NoFreezeId`].
    pub fn parse(text: &str) -> Result<Self, NoFreezeId> {
        let mut bytes = [0; Self::BYTES];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NoFreezeId)?;
        // Capitals would be a second spelling.
        Some(Self(bytes)).filter(|parsed| parsed.to_string() == text).ok_or(NoFreezeId)
    }
}

impl fmt::Display for FreezeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for FreezeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<FreezeId> for String {
    fn from(id: FreezeId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for FreezeId {
    type Error = NoFreezeId;

    fn try_from(text: String) -> Result<Self, NoFreezeId> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_32_hex_digits_in_lower_case_name_a_freeze() {
        let id = FreezeId::new([0, 1, 2, 3, 0xa4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff]);
        let text = "00010203a405060708090a0b0c0d0eff";
        assert_eq!(id.to_string(), text);
        assert_eq!(FreezeId::parse(text), Ok(id));
        for odd in [
            "",
            "00010203a4050607",
            "00010203A405060708090a0b0c0d0eff",
            "00010203a405060708090a0b0c0d0ef",
            "00010203a405060708090a0b0c0d0eff0",
            "00010203a405060708090a0b0c0d0efg",
        ] {
            assert_eq!(FreezeId::parse(odd), Err(NoFreezeId), "{odd}");
        }
    }
}

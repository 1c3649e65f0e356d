//! The name of one freeze.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names one freeze, and no other: 16 hex digits in lower case, drawn when it begins. A break-glass
/// request can name the freeze under which its session is to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FreezeId([u8; FreezeId::BYTES]);

/// A text that names no freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the id of a freeze, 16 hex digits in lower case: `signctl status` says it")]
pub struct NoFreezeId;

impl FreezeId {
    /// How many random bytes it has.
    pub const BYTES: usize = 8;

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
        let is_lower = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if !text.bytes().all(is_lower) {
            return Err(NoFreezeId);
        }
        let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(NoFreezeId)
    }
}

impl fmt::Display for FreezeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
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
    fn only_sixteen_hex_digits_in_lower_case_name_a_freeze() {
        let id = FreezeId::new([0, 1, 2, 3, 0xa4, 5, 6, 0xff]);
        assert_eq!(id.to_string(), "00010203a40506ff");
        assert_eq!(FreezeId::parse("00010203a40506ff"), Ok(id));
        for odd in
            ["", "00010203A40506ff", "00010203a40506f", "00010203a40506ff0", "00010203a40506fg"]
        {
            assert_eq!(FreezeId::parse(odd), Err(NoFreezeId), "{odd}");
        }
    }
}

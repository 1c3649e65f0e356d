//! The names of calls to upstreams. A call has its name before it is made, so that a call which
//! was never answered is found in the upstream's own log by what the journal says.

use std::fmt;

use crate::hex_text::write_hex;

/// Names all attempts of one order: 128 random bits, as 32 hex digits. An intent's record holds it
/// before anybody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptsId([u8; 16]);

/// Names one call to an upstream: its order's [`AttemptsId`], `-`, and the number of the call from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptId {
    order: AttemptsId,
    number: u8,
}

/// What an upstream calls a call, such as the `x-amzn-RequestId` of KMS. Its text comes from
/// outside, and is harmless in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamRequestId(String);

/// KMS sends 36 characters.
const REQUEST_ID_MAX_BYTES: usize = 64;

impl AttemptsId {
    /// Takes random bytes.
    #[must_use]
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// The name of the call with that number.
    #[must_use]
    pub const fn number(self, number: u8) -> AttemptId {
        AttemptId { order: self, number }
    }
}

impl fmt::Display for AttemptsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.order, self.number)
    }
}

impl UpstreamRequestId {
    /// Takes the first 64 bytes of `text`. None if `text` is empty, or if one of them is not among
    /// `A-Z a-z 0-9 . _ -`.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let clipped = text.get(..text.floor_char_boundary(REQUEST_ID_MAX_BYTES))?;
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let is_well_formed = !clipped.is_empty() && clipped.bytes().all(is_plain);
        is_well_formed.then(|| Self(clipped.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_one_order_share_the_beginning_of_their_names() {
        let mut random = [0; 16];
        random[15] = 0xa7;
        let order = AttemptsId::new(random);
        assert_eq!(order.to_string(), "000000000000000000000000000000a7");
        assert_eq!(order.number(2).to_string(), "000000000000000000000000000000a7-2");
    }

    #[test]
    fn i8_a_request_id_is_short_and_plain_or_none() {
        let read = |text: &str| UpstreamRequestId::read(text).map(|id| id.as_str().to_owned());
        let uuid = "b5a1f0de-9b4c-4a2e-8d7f-3c1e5a9b7d60";
        assert_eq!(read(uuid).as_deref(), Some(uuid));
        assert_eq!(read(&"a".repeat(10_000)), Some("a".repeat(64)));
        for text in ["", "a b", "a\nb", "a\"b", "a\u{e9}", "a/b"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}

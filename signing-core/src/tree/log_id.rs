//! What a log is named by.

use std::fmt;

use crate::hex_text::write_hex;

/// Before the name, in a log's origin.
const ORIGIN: &str = "signing-journal/";

/// Which journal a record belongs to: 16 random bytes, drawn by `init`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId([u8; 16]);

impl LogId {
    /// A log of these random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads 32 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        // Capitals would be a second spelling.
        Some(Self(bytes)).filter(|parsed| parsed.to_string() == text)
    }

    /// The name of its checkpoints and of the key that signs them (c2sp.org/tlog-checkpoint).
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{ORIGIN}{self}")
    }

    /// Reads an origin.
    #[must_use]
    pub fn parse_origin(text: &str) -> Option<Self> {
        Self::parse(text.strip_prefix(ORIGIN)?)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

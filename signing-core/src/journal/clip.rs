//! How much of a text a record takes: the space for an outcome is set aside before anybody is
//! asked to sign.

/// Longest detail in a record, in bytes.
const DETAIL_MAX_BYTES: usize = 512;

/// As much of a text as a record takes, in whole characters.
#[must_use]
pub fn clip(text: &str) -> &str {
    text.get(..text.floor_char_boundary(DETAIL_MAX_BYTES)).unwrap_or_default()
}

//! Headers of a request that decide something.

use http::{HeaderMap, HeaderName};

/// The only value of a header. One that is there twice has none: another reader of the same request could
/// take the other value.
#[must_use]
pub fn sole<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        (..) => None,
    }
}

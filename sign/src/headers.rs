//! Headers of a request that decide something.

use http::HeaderMap;
use http::header::AsHeaderName;

/// The only value of a header. One that is there twice has none: another reader of the same request could
/// take the other value.
#[must_use]
pub fn sole(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        (..) => None,
    }
}

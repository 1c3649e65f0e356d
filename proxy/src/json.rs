//! Adding fields to JSON objects.

use serde::Serialize;
use serde_json::Value;

/// Puts `value` under `key` of the object `body`. What is no object, or cannot
/// be JSON, is left as it is.
pub(crate) fn put(body: &mut Value, key: &str, value: impl Serialize) {
    if let (Some(fields), Ok(value)) = (body.as_object_mut(), serde_json::to_value(value)) {
        fields.insert(key.to_owned(), value);
    }
}

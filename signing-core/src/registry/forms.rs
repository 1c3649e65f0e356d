//! The forms in which a registry comes: third-party writers leave `signers` out, as a bare array of entries
//! or a map of kids to entries.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::json;

/// The text in our own form, `{"signers": [entry, ...]}`. A text in an unknown form is returned
/// unchanged, also if it is not JSON: whoever reads it says what is wrong.
pub(super) fn as_document(text: &str) -> Cow<'_, str> {
    let entries = match json::from_str(text) {
        Ok(Value::Array(entries)) => {
            let is_list = !entries.is_empty() && entries.iter().all(Value::is_object);
            is_list.then_some(entries)
        }
        Ok(Value::Object(mut document)) => match document.get("signers") {
            None => of_map(document),
            Some(Value::Object(signers)) => {
                let Some(entries) = of_map(signers.clone()) else { return Cow::Borrowed(text) };
                // What stands beside it stays: it may be a revocation.
                document.insert("signers".to_owned(), entries.into());
                return Value::Object(document).to_string().into();
            }
            Some(_) => None,
        },
        _ => None,
    };
    entries.map_or(Cow::Borrowed(text), |entries| json!({"signers": entries}).to_string().into())
}

/// The entries of a map, each with its kid. None: it is no such map.
fn of_map(map: Map<String, Value>) -> Option<Vec<Value>> {
    if map.is_empty() || !map.values().all(is_entry) {
        return None;
    }
    let entries = map.into_iter().map(|(kid, mut entry)| {
        if let Some(fields) = entry.as_object_mut() {
            let said = ["signer_kid", "signerId"].map(|name| fields.remove(name));
            // One that says another kid keeps both, and is refused for it.
            let other = said.into_iter().flatten().find(|said| said.as_str() != Some(&kid));
            fields.extend(other.map(|other| ("signerId".to_owned(), other)));
            fields.insert("signer_kid".to_owned(), kid.into());
        }
        entry
    });
    Some(entries.collect())
}

fn is_entry(value: &Value) -> bool {
    value.get("algorithm").is_some()
}

//! A record as a line of JSON: what `signctl audit export` writes, and what objects of the archive hold.

use serde_json::{Value, json};
use signing_core::journal::{Leaf, Outline};

/// What a line says of a record.
#[must_use]
pub fn value(origin: &str, leaf: &Leaf, outline: &Outline) -> Value {
    let Outline { at, data, r#type } = outline;
    json!({
        "leaf": leaf.hash.to_string(),
        "log": origin,
        "record": {"at": at, "data": data, "type": r#type},
        "seq": leaf.seq,
    })
}

/// The line, without its end.
#[must_use]
pub fn of_record(origin: &str, leaf: &Leaf, outline: &Outline) -> String {
    text::json(&value(origin, leaf, outline).to_string()).into_owned()
}

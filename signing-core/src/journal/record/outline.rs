//! A body as a reader sees it, whatever its kind.

use serde::Deserialize;
use serde_json::Value;

use super::Kind;

/// What every reader needs of a body.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outline {
    /// When, by the calendar of who wrote it.
    pub at: String,
    /// What, by kind.
    pub data: Value,
    /// The kind's word.
    pub r#type: String,
}

impl Outline {
    /// Reads a body. None unless it is the canonical JSON of an outline with a kind
    /// that is known.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<(Self, Kind)> {
        let sorted: Value = serde_json::from_slice(body).ok()?;
        let is_canonical = serde_json::to_vec(&sorted).ok()? == body && !has_float(&sorted);
        let outline: Self = serde_json::from_value(sorted).ok()?;
        let kind = Kind::parse(&outline.r#type)?;
        let is_record = outline.data.is_object() && is_instant(&outline.at);
        (is_canonical && is_record).then_some((outline, kind))
    }

    /// A number of its data.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.data.get(name)?.as_u64()
    }

    /// A text of its data.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.data.get(name)?.as_str()
    }
}

/// Programs differ in how they write floats, so a canonical form has none.
fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_float),
        Value::Object(members) => members.values().any(has_float),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// Whether it looks like what [`super::instant`] writes.
fn is_instant(text: &str) -> bool {
    let form = b"0000-00-00T00:00:00.000000Z";
    let fits = |(byte, form): (u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        sign => byte == *sign,
    };
    text.len() == form.len() && text.bytes().zip(form).all(fits)
}

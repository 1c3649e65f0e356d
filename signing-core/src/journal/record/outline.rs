//! A body as a reader sees it, whatever its kind.

use serde_json::Value;

use super::Kind;
use crate::json;

/// What every reader needs of a body.
#[derive(Clone, Debug)]
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
        let Value::Object(mut members) = json::canonical(body)? else { return None };
        let mut text = |name| {
            let value = members.remove(name)?;
            value.as_str().map(str::to_owned)
        };
        let (at, r#type) = (text("at")?, text("type")?);
        let data = members.remove("data").filter(|data| data.is_object() && !has_float(data))?;
        let outline = Self { at, data, r#type };
        let kind = Kind::parse(&outline.r#type)?;
        (members.is_empty() && is_instant(&outline.at)).then_some((outline, kind))
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

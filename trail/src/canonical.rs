//! The form of a payload that is hashed: JSON as JavaScript's `JSON.stringify` prints it, with keys
//! sorted by UTF-16 code unit and no white space. And what is changed in a payload before, so that
//! every reader in the field hashes the same bytes.

use std::fmt::Write as _;

use serde_json::{Map, Number, Value};

/// Integers from here on differ between programs: JavaScript's numbers are doubles (2^53).
const INTEGER_END: u64 = 1 << 53;

/// `value` as it may stand in a payload. Readers disagree about `<`, `>`, `&`, U+2028 and U+2029,
/// and a database refuses NUL: each becomes a backslash, `u` and four hexadecimal digits, as text.
/// An integer of 2^53 or more becomes a string of its digits.
#[must_use]
pub fn shippable(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(shippable_text(text)),
        Value::Array(items) => items.iter().map(shippable).collect(),
        Value::Object(members) => {
            let members = members.iter();
            Value::Object(
                members.map(|(key, value)| (shippable_text(key), shippable(value))).collect(),
            )
        }
        Value::Number(number) if !is_exact(number) => Value::String(number.to_string()),
        other => other.clone(),
    }
}

/// The same of a value that nobody else needs: most have nothing that is changed, and are not copied.
#[must_use]
pub fn into_shippable(value: Value) -> Value {
    match value {
        Value::String(text) if is_shippable(&text) => Value::String(text),
        Value::Array(items) => items.into_iter().map(into_shippable).collect(),
        Value::Object(members) if members.keys().all(|key| is_shippable(key)) => {
            let mut members = members;
            for member in members.values_mut() {
                *member = into_shippable(member.take());
            }
            Value::Object(members)
        }
        Value::Number(number) if is_exact(&number) => Value::Number(number),
        Value::Null | Value::Bool(_) => value,
        other => shippable(&other),
    }
}

/// Each of what is changed has one of these bytes; most texts have none.
fn is_shippable(text: &str) -> bool {
    !text.bytes().any(|byte| matches!(byte, b'<' | b'>' | b'&' | 0 | 0xe2))
}

fn shippable_text(text: &str) -> String {
    if is_shippable(text) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            other => out.push(other),
        }
    }
    out
}

fn is_exact(number: &Number) -> bool {
    let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
    magnitude.is_some_and(|magnitude| magnitude < INTEGER_END)
}

/// The canonical form of any JSON value, also of a payload that somebody else wrote.
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&js_number(number)),
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => write_object(out, members),
    }
}

fn write_object(out: &mut String, members: &Map<String, Value>) {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by(|(left, _), (right, _)| {
        // Of ASCII the bytes have the same order.
        if left.is_ascii() && right.is_ascii() {
            left.cmp(right)
        } else {
            left.encode_utf16().cmp(right.encode_utf16())
        }
    });
    out.push('{');
    for (index, (key, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(out, key);
        out.push(':');
        write_value(out, value);
    }
    out.push('}');
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    // What needs no escape is copied as a whole.
    let needs_escape = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    while let Some(at) = rest.bytes().position(needs_escape) {
        let (plain, from) = rest.split_at(at);
        out.push_str(plain);
        let mut characters = from.chars();
        match characters.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\u{8}') => out.push_str("\\b"),
            Some('\u{c}') => out.push_str("\\f"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(control) => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            None => {}
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

/// A number as JavaScript prints it (ECMA-262, Number::toString): other writers' payloads may hold
/// any.
fn js_number(number: &Number) -> String {
    if is_exact(number) {
        return number.to_string();
    }
    let value = number.as_f64().unwrap_or_default();
    if value == 0.0 {
        return "0".to_owned();
    }
    // Rust prints the shortest digits that read back as the same double, as JavaScript does.
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = mantissa.replace('.', "");
    let (count, exponent) = (digits.len(), exponent.parse::<i32>().unwrap_or_default());
    // The value is 0.digits times ten to the power of `point`.
    let point = exponent + 1;
    let sign = if value < 0.0 { "-" } else { "" };
    let length = i32::try_from(count).unwrap_or(i32::MAX);
    let split = usize::try_from(point).unwrap_or_default().min(count);
    let (whole, rest) = digits.split_at(split);
    let body = if length <= point && point <= 21 {
        format!("{digits}{}", "0".repeat(usize::try_from(point - length).unwrap_or_default()))
    } else if 0 < point && point <= 21 {
        format!("{whole}.{rest}")
    } else if -6 < point && point <= 0 {
        format!("0.{}{digits}", "0".repeat(usize::try_from(-point).unwrap_or_default()))
    } else {
        let (first, more) = digits.split_at(1.min(count));
        let dot = if more.is_empty() { "" } else { "." };
        let plus = if exponent < 0 { "-" } else { "+" };
        format!("{first}{dot}{more}e{plus}{}", exponent.unsigned_abs())
    };
    format!("{sign}{body}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_prints_as_json_stringify_does() {
        let value = json!({"b": [1, null, true], "a": "\u{8}\u{c}\n\r\t\u{1f}\"\\/é\u{2028}<"});
        let expected = "{\"a\":\"\\b\\f\\n\\r\\t\\u001f\\\"\\\\/é\u{2028}<\",\"b\":[1,null,true]}";
        assert_eq!(canonical(&value), expected);
    }

    #[test]
    fn keys_are_sorted_by_utf_16_code_unit() {
        // U+1F600 begins with the unit D83D, which is below U+FF61, and above it as a code point.
        let value = json!({"\u{ff61}": 1, "\u{1f600}": 2});
        assert_eq!(canonical(&value), "{\"\u{1f600}\":2,\"\u{ff61}\":1}");
    }

    #[test]
    fn numbers_are_those_of_javascript() {
        let cases = [
            ("1.0", "1"),
            ("0.5", "0.5"),
            ("-0.0", "0"),
            ("1e21", "1e+21"),
            ("1e20", "100000000000000000000"),
            ("1.5e-7", "1.5e-7"),
            ("0.000001", "0.000001"),
            ("9007199254740993", "9007199254740992"),
            ("-12.25", "-12.25"),
            ("9007199254740991", "9007199254740991"),
        ];
        for (given, expected) in cases {
            let value: Value = serde_json::from_str(given).unwrap();
            assert_eq!(canonical(&value), expected, "{given}");
        }
    }

    #[test]
    fn what_readers_disagree_about_becomes_text() {
        let value = json!({"a<": "x<y>z&\u{2028}\u{2029}\0", "n": u64::MAX, "m": [7]});
        let expected = json!({"a\\u003c": "x\\u003cy\\u003ez\\u0026\\u2028\\u2029\\u0000", "n": "18446744073709551615", "m": [7]});
        assert_eq!(shippable(&value), expected);
        let value = json!({"whole": value, "list": [value, 1, "&", null], "plain": {"x": ["y"]}});
        assert_eq!(into_shippable(value.clone()), shippable(&value));
    }
}

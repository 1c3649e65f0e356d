//! Words by which third-party tools say that a key signs no more. Nothing here obeys them, so whoever
//! wrote one has to hear of it.

use serde_json::{Map, Value};

/// What a key of others says of the key that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restriction {
    /// It is revoked, or known to others.
    Revoked,
    /// It ends, or has ended.
    Ends,
    /// It is switched off.
    Off,
}

/// Roots of words of a revocation.
const REVOKED: &[&str] = &["revok", "revoc", "compromis"];
/// What words of an end contain.
const ENDS: &[&str] = &[
    "expir",
    "validuntil",
    "validtill",
    "validthrough",
    "validthru",
    "validbefore",
    "validityend",
    "endofvalidity",
    "notvalidafter",
    "notafter",
    "notonorafter",
    // Of KMS's DescribeKey.
    "deletiondate",
];
/// Words of an end that other words contain too.
const ENDS_ALONE: &[&str] = &["validto", "validend", "validtodate", "validtotime"];
/// Words of a key that is switched off.
const OFF: &[&str] = &[
    "blocked",
    "deactivated",
    "decommissioned",
    "deleted",
    "destroyed",
    "disabled",
    "inactive",
    "invalid",
    "off",
    "pendingdeletion",
    "retired",
    "suspended",
    "withdrawn",
];
/// Words of a key that is switched on; with a no they say the contrary.
const ON: &[&str] = &["active", "enabled", "usable", "valid"];
/// Values that say no.
const NO: &[&str] = &["", "false", "na", "never", "no", "none", "null"];

/// What stands around the word itself.
const BEFORE: &[&str] = &["is", "key"];
const AFTER: &[&str] = &["at", "on", "since", "date", "time", "by", "reason"];

/// A restriction, and where it stands: the names of the keys down to it, with dots.
pub(super) type Found = (String, Restriction);

/// Letters and digits in lower case.
pub(super) fn folded(word: &str) -> String {
    word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether one word of a person's says of a key that it does not count.
#[must_use]
pub fn speaks_against_a_key(word: &str) -> bool {
    let folded = folded(word);
    let begins = |roots: &[&str]| roots.iter().any(|root| folded.starts_with(root));
    begins(REVOKED) || begins(&["expir", "disabl"]) || OFF.contains(&folded.as_str())
}

/// Whether a key's name is a word of revocation.
pub(super) fn is_of_revocation(key: &str) -> bool {
    let folded = folded(key);
    REVOKED.iter().any(|root| folded.contains(root))
}

/// Every restriction of `key` and inside of it. A document of JSON is 128 levels deep at most.
pub(super) fn restrictions(key: &str, value: &Value) -> Vec<Found> {
    let own = of(key, value).map(|own| (key.to_owned(), own));
    own.into_iter().chain(inside(key, value)).collect()
}

/// Those in what stands under `path`.
pub(super) fn inside(path: &str, value: &Value) -> Vec<Found> {
    match value {
        Value::Object(fields) => of_fields(path, fields),
        Value::Array(items) => items.iter().flat_map(|item| in_list(path, item)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

fn of_fields(path: &str, fields: &Map<String, Value>) -> Vec<Found> {
    let found = fields.iter().flat_map(|(key, value)| {
        let path = format!("{path}.{key}");
        let own = of(key, value).map(|own| (path.clone(), own));
        own.into_iter().chain(inside(&path, value))
    });
    found.collect()
}

/// A word alone in a list is a label.
fn in_list(path: &str, item: &Value) -> Vec<Found> {
    let label = is_word_of_revocation(item).then(|| (path.to_owned(), Restriction::Revoked));
    label.into_iter().chain(inside(path, item)).collect()
}

/// What one key says by itself.
pub(super) fn of(key: &str, value: &Value) -> Option<Restriction> {
    let name = folded(key);
    let word = bare(&name);
    if is_word_of_revocation(value) {
        return Some(Restriction::Revoked);
    }
    if ON.contains(&word) {
        return (says_no(value) || says_off(value)).then_some(Restriction::Off);
    }
    if says_no(value) {
        return None;
    }
    let is_revoked = is_of_revocation(key) || text::meant(key, &["revokedAt"]).is_some();
    let is_time = matches!(value, Value::String(_) | Value::Number(_));
    if is_revoked {
        Some(Restriction::Revoked)
    } else if word == "expired" || is_time && is_end(&name) {
        Some(Restriction::Ends)
    } else if OFF.contains(&word) {
        Some(Restriction::Off)
    } else if is_state(&name) {
        value.as_str().and_then(of_state)
    } else {
        None
    }
}

/// Without what stands around the word itself.
fn bare(mut name: &str) -> &str {
    while let Some(inner) = BEFORE.iter().find_map(|before| name.strip_prefix(before)) {
        name = inner;
    }
    while let Some(inner) = AFTER.iter().find_map(|after| name.strip_suffix(after)) {
        name = inner;
    }
    name
}

fn is_end(name: &str) -> bool {
    ENDS.iter().any(|end| name.contains(end)) || ENDS_ALONE.contains(&name)
}

fn is_state(name: &str) -> bool {
    ["status", "state", "lifecycle", "phase"].iter().any(|state| name.ends_with(state))
}

fn of_state(value: &str) -> Option<Restriction> {
    match folded(value).as_str() {
        "expired" | "ended" => Some(Restriction::Ends),
        word if OFF.contains(&word) => Some(Restriction::Off),
        _ => None,
    }
}

/// One word that says `revoked`, and no sentence that mentions it.
fn is_word_of_revocation(value: &Value) -> bool {
    let word = value.as_str().map(str::trim).filter(|word| !word.contains(char::is_whitespace));
    let folded = word.map(folded).unwrap_or_default();
    REVOKED.iter().any(|root| folded.starts_with(root))
}

/// Whether a value says that the key's name does not apply.
fn says_no(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) | Value::Number(_) => false,
        Value::String(text) => NO.contains(&folded(text).as_str()),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// Whether a value says that what is named here is not so, though it is no plain no.
fn says_off(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.trim() == "0" || of_state(text).is_some(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

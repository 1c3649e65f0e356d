//! The chain of a table: each row holds the hash of the row before it, and the trail signs its own.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::identifier::quoted;
use serde_json::{Value, json};
use signing_core::journal::instant;
use time::{Duration, OffsetDateTime};

use crate::canonical::canonical;
use crate::event::Event;
use crate::key::RowKey;

/// The newest row of a table, as the next one needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// There is no row.
    Empty,
    /// The newest row.
    Row {
        /// Its hash.
        hash: [u8; 32],
        /// Its time.
        at: OffsetDateTime,
    },
}

/// A row that is linked and signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its UUID.
    pub id: String,
    /// The service whose journal it is.
    pub actor_id: &'static str,
    /// The kind of event, such as `signing.checkpoint`.
    pub event_type: String,
    /// Canonical JSON.
    pub payload: String,
    /// The hash of the row before it; none for the first.
    pub prev_hash: Option<String>,
    /// Its hash: lower-case hex.
    pub hash: String,
    /// Over the hash's bytes: base64.
    pub signature: String,
    /// RFC 3339 in UTC, with microseconds.
    pub created_at: String,
}

/// The hash of a row: SHA-256 over the canonical payload and the bytes of the hash before it, of
/// which a first row has none.
#[must_use]
pub fn hash(payload: &str, prev: Option<&[u8; 32]>) -> [u8; 32] {
    let mut hashing = Context::new(&SHA256);
    hashing.update(payload.as_bytes());
    hashing.update(prev.map_or(&[][..], |prev| prev));
    let hashed = hashing.finish();
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hashed.as_ref());
    bytes
}

/// The 32 bytes of a hash as a column holds it: hex of any case. None if it is something else.
#[must_use]
pub fn parse_hash(text: &str) -> Option<[u8; 32]> {
    hex::decode(text).ok()?.try_into().ok()
}

/// The head that a row of any writer is. Its own hash column counts, if it has one.
///
/// # Errors
/// What is wrong with it: nothing can be linked to such a row.
pub fn head_of(
    payload: &Value,
    prev_hash: Option<&str>,
    hash_column: Option<&str>,
    at: OffsetDateTime,
) -> Result<Head, String> {
    if let Some(text) = hash_column.filter(|text| !text.is_empty()) {
        let hash = parse_hash(text)
            .ok_or_else(|| format!("its hash is {}, expected 64 hex digits", quoted(text)))?;
        return Ok(Head::Row { hash, at });
    }
    let prev = match prev_hash.filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(parse_hash(text).ok_or_else(|| {
            let text = quoted(text);
            format!("its prev_hash is {text}, expected 64 hex digits, and it has no hash")
        })?),
    };
    Ok(Head::Row { hash: hash(&canonical(payload), prev.as_ref()), at })
}

/// Links events to a table's head, one behind the other; the rows, and the head that the last of them is. Times
/// increase strictly, also where the clock is behind the newest row.
#[must_use]
pub fn link(events: Vec<Event>, head: Head, now: OffsetDateTime, key: &RowKey) -> (Vec<Row>, Head) {
    let mut head = head;
    let mut rows = Vec::with_capacity(events.len());
    for event in events {
        let row = link_one(event, &head, now, key);
        rows.push(row.0);
        head = row.1;
    }
    (rows, head)
}

fn link_one(event: Event, head: &Head, now: OffsetDateTime, key: &RowKey) -> (Row, Head) {
    let Event { id, actor, event_type, mut payload } = event;
    let (prev, at) = match head {
        Head::Empty => (None, now),
        Head::Row { hash, at } => (Some(hash), now.max(*at + Duration::microseconds(1))),
    };
    // The column has microseconds: the payload says the same.
    let at = at.replace_microsecond(at.microsecond()).unwrap_or(at);
    let created_at = instant(at);
    for (name, value) in [
        ("id", id.as_str()),
        ("actor_id", actor),
        ("event_type", &event_type),
        ("created_at", &created_at),
    ] {
        payload.insert(name.to_owned(), json!(value));
    }
    let payload = canonical(&Value::Object(payload));
    let hash = hash(&payload, prev);
    let row = Row {
        id,
        actor_id: actor,
        event_type,
        payload,
        prev_hash: prev.map(hex::encode),
        hash: hex::encode(hash),
        signature: STANDARD.encode(key.sign(&hash)),
        created_at,
    };
    (row, Head::Row { hash, at })
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn event(id: &str) -> Event {
        Event { id: id.to_owned(), actor: "a", event_type: "t".to_owned(), payload: Map::new() }
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    #[test]
    fn rows_are_linked_and_their_times_increase_though_the_clock_is_behind() {
        let key = RowKey::of_seed([7; 32]);
        let head = Head::Row { hash: [1; 32], at: at(100) };
        let (rows, newest) = link(vec![event("x"), event("y")], head, at(50), &key);
        let [first, second] = &*rows else { panic!("{rows:?}") };
        assert_eq!(first.prev_hash, Some(hex::encode([1; 32])));
        assert_eq!(second.prev_hash.as_ref(), Some(&first.hash));
        assert_eq!(first.created_at, "1970-01-01T00:01:40.000001Z");
        assert_eq!(second.created_at, "1970-01-01T00:01:40.000002Z");
        assert!(second.payload.contains(r#""created_at":"1970-01-01T00:01:40.000002Z""#));
        let expected = hash(&second.payload, parse_hash(&first.hash).as_ref());
        assert_eq!(second.hash, hex::encode(expected));
        let Head::Row { hash: newest, at: newest_at } = newest else { panic!("{newest:?}") };
        assert_eq!((newest, instant(newest_at)), (expected, second.created_at.clone()));
    }

    #[test]
    fn a_row_without_a_hash_is_hashed_anew_and_one_that_cannot_be_is_named() {
        let payload = json!({"b": 1, "a": 0.5});
        let expected = hash(r#"{"a":0.5,"b":1}"#, Some(&[2; 32]));
        let prev = hex::encode([2; 32]);
        let head = head_of(&payload, Some(&prev), None, at(1)).unwrap();
        assert_eq!(head, Head::Row { hash: expected, at: at(1) });
        let first = head_of(&payload, Some(""), None, at(1)).unwrap();
        assert_eq!(first, Head::Row { hash: hash(r#"{"a":0.5,"b":1}"#, None), at: at(1) });
        assert!(head_of(&payload, Some("x"), None, at(1)).is_err());
        assert!(head_of(&payload, None, Some("x"), at(1)).is_err());
    }
}

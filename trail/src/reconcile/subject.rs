//! What a row is about, in little memory, whatever somebody wrote there.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value};
use signing_core::journal::AuditKeys;
use signing_core::tree::SignedCheckpoint;

use crate::canonical::canonical;
use crate::event::{CHECKPOINT, Event, GAP};

/// Longest name that is kept as it is, in bytes: all of the trail's own are shorter.
pub(super) const NAME_MAX: usize = 200;

/// What a row is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    pub(super) log: String,
    pub(super) event_type: String,
    pub(super) number: u64,
}

impl Subject {
    pub(super) fn of(payload: &Map<String, Value>) -> Option<Self> {
        let text = |member: &str| payload.get(member).and_then(Value::as_str).map(name);
        let log = text("log").filter(|log| log.starts_with("signing-journal/"))?;
        Self::numbered(log, text("event_type")?, payload)
    }

    pub(super) fn of_event(event: &Event) -> Option<Self> {
        let log = event.payload.get("log").and_then(Value::as_str)?.to_owned();
        Self::numbered(log, event.event_type.clone(), &event.payload)
    }

    /// Whether it is a checkpoint that an audit key signed, of that log and size.
    pub(super) fn is_signed(&self, payload: &Map<String, Value>, keys: &AuditKeys) -> bool {
        let note = payload.get("checkpoint").and_then(Value::as_str).unwrap_or_default();
        self.event_type == CHECKPOINT
            && SignedCheckpoint::parse(note).is_ok_and(|checkpoint| {
                let said = checkpoint.checkpoint();
                said.size == self.number
                    && said.log.origin() == self.log
                    && keys.verify(&checkpoint).is_ok()
            })
    }

    fn numbered(log: String, event_type: String, payload: &Map<String, Value>) -> Option<Self> {
        let member = if [CHECKPOINT, GAP].contains(&&*event_type) { "last" } else { "seq" };
        let number = payload.get(member)?.as_u64()?;
        Some(Self { log, event_type, number })
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { log, event_type, number } = self;
        write!(f, "record {number} of {log} ({event_type})")
    }
}

/// A name as it is kept: one that is too long is told by its beginning and its hash.
pub(super) fn name(text: &str) -> String {
    if text.len() <= NAME_MAX {
        return text.to_owned();
    }
    let begin: String = text.chars().take(NAME_MAX / 4).collect();
    format!("{begin}... (SHA-256 {})", hex::encode(digest(&SHA256, text.as_bytes())))
}

/// The payload without its place in a chain.
pub(super) fn fingerprint(payload: &Map<String, Value>) -> [u8; 32] {
    let mut payload = payload.clone();
    for name in ["id", "actor_id", "event_type", "created_at"] {
        payload.remove(name);
    }
    let hashed = digest(&SHA256, canonical(&Value::Object(payload)).as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hashed.as_ref());
    bytes
}

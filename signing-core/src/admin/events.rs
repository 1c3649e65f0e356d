//! What happened lately, from a position in the journal: what a live view goes on from.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `GET /v1/events?after=N&wait_s=S`: the newest records of the journal that no caller's request makes by itself,
/// once they are on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Events {
    /// The log that positions belong to. Positions of another log mean nothing here.
    pub log: String,
    /// How many records of that log are on disk.
    pub size: u64,
    /// The `after` of the next question.
    pub next: u64,
    /// The reader is late: events after its position, up to this record, are not kept in memory any more. The
    /// journal has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_through: Option<u64>,
    /// The events, the oldest first.
    pub events: Vec<Event>,
}

/// One event: a record of the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// The number of the record.
    pub seq: u64,
    /// RFC 3339: when.
    pub at: String,
    /// What: the type of the record.
    pub r#type: String,
    /// The record's data.
    pub data: Value,
}

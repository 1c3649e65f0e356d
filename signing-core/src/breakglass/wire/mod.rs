//! What the proxy and the emergency signer say to each other over `signer.sock`.
//!
//! A frame is its length, an unsigned little-endian number of 4 bytes, and that many bytes
//! of JSON, at most [`FRAME_MAX_BYTES`]. The proxy sends [`Ask`]s, first of all `hello`; the
//! signer sends [`Answer`]s. An ask has an `id` that the proxy chooses, and exactly one
//! answer repeats it; answers come in any order, so a connection carries many asks at once.
//! `session_ended` comes unasked. What is malformed ends the connection, and with it the
//! session that was activated over it: a session belongs to its connection, which alone may
//! have it sign.
//!
//! ```text
//! proxy                                           signer
//! {"hello":{"id":1,"version":2,"deployment":"payments-eu","log":".."}}
//!                          {"welcome":{"id":1,"version":2,"state":{"instance":"9f..",...},"known":{"log":..,"size":7,"root":..}}}
//! {"show":{"id":8,"size":7,"checkpoint":"signing-journal/..","hashes":[".."]}}
//!                          {"believed":{"id":8}}
//! {"extend":{"id":9,"log":"..","size":4}}
//!                          {"extends":{"id":9,"checkpoint":"signing-journal/..","hashes":[".."]}}
//! {"activate":{"id":2,"request_b64":"..","approvals_b64":["..",".."],"outages":[..],..}}
//!                          {"activated":{"id":2,"session":{..},"record":{"log":..,"seq":7,..}}}
//! {"sign":{"id":3,"session":"INC-7-0a1b2c3d","caller":"spiffe://..","input":{"message":".."},..}}
//!                          {"signed":{"id":3,"signature":"..","record":{..},"remaining":9999}}
//!                          {"session_ended":{"session":"INC-7-0a1b2c3d","reason":"expired",..}}
//! ```
//!
//! Times are RFC 3339 in UTC; byte strings are base64 (standard, padded); hashes and logs are
//! lower-case hex. Unknown keys are refused on both sides: a newer version says so in `hello`.

mod answer;
mod ask;
mod extend;
pub mod operator;
mod reason;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::journal::{Head, Leaf};
use crate::json;
use crate::tree::{LogId, TreeHash};

pub use super::claim::OutageClaim;
pub use answer::{
    AcceptedProxy, Activated, Answer, Believed, Clock, Destroyed, EmergencyKey, Ended, KeyState,
    Opened, Refused, RefusedProxy, SessionEnded, SessionState, Signed, State, Stated, Unsealed,
    Welcome,
};
pub use ask::{
    Activate, Ask, Attested, Destroy, End, Hello, Input, JUSTIFICATION_MAX_BYTES, LeafInput,
    REASON_MAX_BYTES, Sign, Status,
};
pub use extend::{Extend, Extends, Show, Shown};
pub use reason::Reason;

/// The version that this program speaks.
pub const VERSION: u32 = 2;
/// Longest JSON of a frame.
pub const FRAME_MAX_BYTES: usize = 64 * 1024;
/// Bytes before it.
pub const LENGTH_BYTES: usize = 4;

/// How much of a journal is on disk, as the other side embeds it in its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalHead {
    /// The log: 32 hex digits.
    pub log: String,
    /// How many records; the number of the newest.
    pub size: u64,
    /// The root over all of them: 64 hex digits.
    pub root: String,
}

/// A record of a journal, as the other side embeds it in its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalRecord {
    /// The log: 32 hex digits.
    pub log: String,
    /// The record's number.
    pub seq: u64,
    /// The hash of its leaf: 64 hex digits.
    pub leaf: String,
}

/// A record of a journal and the proof that it is in there: it stands alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordProof {
    /// Base64 of the record's bytes.
    pub record: String,
    /// A `c2sp.org/tlog-proof@v1` of it.
    pub proof: String,
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is out of range.
    #[error("a frame says that it has {0} bytes, and one has 1 to {FRAME_MAX_BYTES}")]
    Length(u32),
    /// The JSON is none of these messages.
    #[error("a frame is no message of this version: {0}")]
    Message(String),
    /// A message is too long to be sent.
    #[error("a message has {0} bytes, and a frame has at most {FRAME_MAX_BYTES}")]
    TooLong(usize),
}

/// Appends `message` to `out` as a frame.
///
/// # Errors
/// [`FrameError::TooLong`]; `out` is as it was.
pub fn write(message: &impl Serialize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let written = serde_json::to_writer(&mut *out, message);
    let bytes = out.len() - at - LENGTH_BYTES;
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= FRAME_MAX_BYTES);
    let place = out.get_mut(at..at + LENGTH_BYTES);
    match (written, length, place) {
        (Ok(()), Some(length), Some(place)) => {
            place.copy_from_slice(&length.to_le_bytes());
            Ok(())
        }
        (Err(error), ..) => {
            out.truncate(at);
            Err(FrameError::Message(error.to_string()))
        }
        (Ok(()), ..) => {
            out.truncate(at);
            Err(FrameError::TooLong(bytes))
        }
    }
}

/// Reads the frame at the start of `bytes`, and says how many it took. None: it is not
/// whole yet.
///
/// # Errors
/// [`FrameError`]; the connection is of no more use.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<(T, usize)>, FrameError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length);
    let wanted = usize::try_from(length).unwrap_or(usize::MAX);
    if !(1..=FRAME_MAX_BYTES).contains(&wanted) {
        return Err(FrameError::Length(length));
    }
    let Some(message) = rest.get(..wanted) else { return Ok(None) };
    let message =
        json::from_slice(message).map_err(|error| FrameError::Message(error.to_string()))?;
    Ok(Some((message, LENGTH_BYTES + wanted)))
}

impl JournalHead {
    /// The head of that log.
    #[must_use]
    pub fn new(log: LogId, head: Head) -> Self {
        Self { log: log.to_string(), size: head.size, root: head.root.to_string() }
    }

    /// Reads it. None if it is none.
    #[must_use]
    pub fn parse(&self) -> Option<(LogId, Head)> {
        let root = TreeHash::parse(&self.root)?;
        Some((LogId::parse(&self.log)?, Head { size: self.size, root }))
    }

    /// `log:size:root`, as records embed it.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}:{}:{}", self.log, self.size, self.root)
    }
}

impl JournalRecord {
    /// That record of that log.
    #[must_use]
    pub fn new(log: LogId, leaf: Leaf) -> Self {
        Self { log: log.to_string(), seq: leaf.seq, leaf: leaf.hash.to_string() }
    }

    /// `log:seq:leaf`, as records embed it.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}:{}:{}", self.log, self.seq, self.leaf)
    }
}

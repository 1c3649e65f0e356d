//! What the proxy and the trail say to each other over the socket of a required sink: a line of JSON each.
//!
//! ```text
//! proxy -> trail   {"hello": {"version": 3}}              trail -> proxy   {"hello": {"version": 3, "sink": "postgres"}}
//!                  {"written": {"note": "<signed checkpoint>"}}
//!                  {"on_disk": {"note": "<signed checkpoint>"}}            {"committed": {"log", "size", "root"}}
//!                                                                         {"unknown": {"log", "size", "root", "detail"}}
//!                                                                         {"alive": {}}
//!                                                                         {"refused": {"detail"}}
//! ```
//!
//! The proxy says what is on disk. Before that it may say what is written and being brought to the disk: the trail reads it meanwhile,
//! ships nothing of it, and gives no answer. The trail answers once the sink has committed everything up to that very
//! checkpoint, says its newest answer again once it has asked the sink, or `alive` before there is one, and closes the connection when that is
//! true no more. Of a checkpoint of which it cannot say that, since it is too old or not signed by an audit key of its registry,
//! it says `unknown`, once: that one and what has no answer before it get none. It is for the proxy to know whether it can do
//! without.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::journal::Head;
use crate::json::{self, JsonError};
use crate::tree::{LogId, TreeHash};

/// Of these lines.
pub const VERSION: u32 = 3;
/// The longest line: a note with two signatures, escaped.
pub const LINE_MAX_BYTES: usize = 2048;

/// From the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ProxyMessage {
    /// First.
    Hello {
        /// Of these lines.
        version: u32,
    },
    /// Everything that this checkpoint covers is in the journal's files, and on its way to the disk. It proves nothing.
    Written {
        /// The signed note.
        note: String,
    },
    /// Everything that this checkpoint covers is on disk.
    OnDisk {
        /// The signed note.
        note: String,
    },
}

/// From the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TrailMessage {
    /// First, and only while its sink is reached.
    Hello {
        /// Of these lines.
        version: u32,
        /// Which sink.
        sink: String,
    },
    /// The sink has committed everything up to a checkpoint that the proxy named.
    Committed {
        /// The log: 32 hex digits.
        log: String,
        /// How many records.
        size: u64,
        /// The root: 64 hex digits.
        root: String,
    },
    /// Nobody can say whether a checkpoint that the proxy named is committed, or one before it that has no answer yet.
    Unknown {
        /// The log: 32 hex digits.
        log: String,
        /// How many records.
        size: u64,
        /// The root: 64 hex digits.
        root: String,
        /// Why, for an operator.
        detail: String,
    },
    /// The sink answers, and nothing that the proxy named is committed yet.
    Alive {},
    /// It serves nobody now.
    Refused {
        /// Why, for an operator.
        detail: String,
    },
}

impl TrailMessage {
    /// That `log` is committed up to `head`.
    #[must_use]
    pub fn committed(log: LogId, head: Head) -> Self {
        Self::Committed { log: log.to_string(), size: head.size, root: head.root.to_string() }
    }

    /// That nobody can say whether `log` is committed up to `head`.
    #[must_use]
    pub fn unknown(log: LogId, head: Head, detail: String) -> Self {
        let (log, root) = (log.to_string(), head.root.to_string());
        Self::Unknown { log, size: head.size, root, detail }
    }
}

/// The log and the head of a [`TrailMessage::Committed`] or [`TrailMessage::Unknown`]; None: they cannot be read.
#[must_use]
pub fn head(log: &str, size: u64, root: &str) -> Option<(LogId, Head)> {
    Some((LogId::parse(log)?, Head { size, root: TreeHash::parse(root)? }))
}

/// A line.
#[must_use]
pub fn line(message: &impl Serialize) -> Vec<u8> {
    // These are strings and numbers: they have a form in JSON.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Takes the first whole line out of what was read.
///
/// # Errors
/// Why it is no such message; also a line that is too long.
pub fn take<T: DeserializeOwned>(read: &mut Vec<u8>) -> Result<Option<T>, String> {
    let Some(end) = read.iter().position(|byte| *byte == b'\n') else {
        let is_too_long = read.len() > LINE_MAX_BYTES;
        return if is_too_long { Err("a line is too long".to_owned()) } else { Ok(None) };
    };
    if end > LINE_MAX_BYTES {
        return Err("a line is too long".to_owned());
    }
    let line: Vec<u8> = read.drain(..=end).collect();
    let message = json::from_slice(line.get(..end).unwrap_or_default());
    message.map(Some).map_err(|error: JsonError| format!("a line is no message: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_line_and_comes_back() {
        let log = LogId::new([7; 16]);
        let at = Head { size: 9, root: TreeHash::leaf(b"x") };
        let sent = TrailMessage::committed(log, at);
        let mut read = line(&sent);
        read.extend_from_slice(b"{\"hel");
        assert_eq!(take::<TrailMessage>(&mut read).unwrap(), Some(sent.clone()));
        assert_eq!(take::<TrailMessage>(&mut read).unwrap(), None);
        assert_eq!(read, b"{\"hel");
        let TrailMessage::Committed { log: named, size, root } = sent else { unreachable!() };
        assert_eq!(head(&named, size, &root), Some((log, at)));
    }

    #[test]
    fn what_is_no_message_or_too_long_is_refused() {
        for bad in ["\n", "{}\n", "{\"hello\":{\"version\":3,\"more\":2}}\n", "[1]\n"] {
            assert!(take::<ProxyMessage>(&mut bad.as_bytes().to_vec()).is_err(), "{bad:?}");
        }
        assert!(take::<ProxyMessage>(&mut vec![b'x'; LINE_MAX_BYTES + 1]).is_err());
        assert_eq!(take::<ProxyMessage>(&mut vec![b'x'; LINE_MAX_BYTES]).unwrap(), None);
    }
}

//! What strace wrote, and the rule it shows: an answer's first byte goes to its socket
//! after a sync of the segment succeeded that began after its record was written whole.
//!
//! strace writes a call down when it begins and when it ends, in the order in which it
//! lets threads go on. So if one thread waited for another, the lines stand in that order.

use std::collections::BTreeMap;

/// One side of a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    /// The line in the trace, from 1.
    line: usize,
    what: TracedCall,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TracedCall {
    /// `pwrite64` ended: so many bytes are in the file from there on.
    Written {
        file: String,
        from: u64,
        to: u64,
    },
    SyncBegan {
        file: String,
        thread: String,
    },
    SyncEnded {
        file: String,
        thread: String,
        is_good: bool,
    },
    /// A socket gave bytes.
    Read {
        peer_port: u16,
    },
    /// Bytes are about to go to a socket.
    SendBegan {
        peer_port: u16,
    },
}

/// A trace, as far as the rule needs it.
#[derive(Clone, Debug)]
pub struct Trace(Vec<Event>);

/// Where a record lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment's file name.
    pub file: String,
    /// Its first byte.
    pub from: u64,
    /// The byte after its last.
    pub to: u64,
}

const SYNCS: [&str; 2] = ["fdatasync", "fsync"];
const SENDS: [&str; 4] = ["write", "writev", "sendto", "sendmsg"];
const READS: [&str; 4] = ["read", "readv", "recvfrom", "recvmsg"];

/// Every call the rule needs, for [`crate::strace::Strace::record`].
pub const CALLS: [&str; 12] = [
    "pwrite64",
    "pwritev",
    "fdatasync",
    "fsync",
    "write",
    "writev",
    "sendto",
    "sendmsg",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
];

impl Trace {
    /// Reads what strace wrote of a server that listens on that port.
    #[must_use]
    pub fn parse(text: &str, listen_port: u16) -> Self {
        // What a thread is in the middle of: name and arguments up to there.
        let mut begun: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        let mut events = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let mut push = |what: Option<TracedCall>| {
                events.extend(what.map(|what| Event { line: index + 1, what }));
            };
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let Some((_, call)) = rest.trim_start().split_once(' ') else { continue };
            if let Some(resumed) = call.strip_prefix("<... ") {
                let Some((name, first)) = begun.remove(thread) else { continue };
                let rest = resumed.split_once(" resumed>").map_or("", |(_, rest)| rest);
                push(ended(thread, name, &format!("{first}{rest}"), listen_port));
                continue;
            }
            let Some((name, rest)) = call.split_once('(') else { continue };
            push(began(thread, name, rest, listen_port));
            match rest.strip_suffix(" <unfinished ...>") {
                Some(first) => _ = begun.insert(thread, (name, first)),
                None => push(ended(thread, name, rest, listen_port)),
            }
        }
        Self(events)
    }

    /// Checks the answers that one client got on the connection from `client_port`,
    /// which asked for the next only once it had the one before. Each is where its
    /// record lies, or none for an answer without a record. Returns how many sends
    /// were seen to follow their syncs.
    ///
    /// # Errors
    /// The first answer that did not.
    pub fn follows_syncs(
        &self,
        client_port: u16,
        answers: &[Option<Place>],
    ) -> Result<usize, String> {
        let sends = self.sends(client_port);
        // The handshake takes one or two turns of its own, and they come first.
        let Some(handshake) =
            sends.len().checked_sub(answers.len()).filter(|n| (1..=2).contains(n))
        else {
            let (answers, sends) = (answers.len(), sends.len());
            return Err(format!("{answers} answers to port {client_port}, but {sends} turns"));
        };
        let mut checked = 0;
        for (send, place) in sends.iter().skip(handshake).zip(answers) {
            if let Some(place) = place {
                self.synced_before(*send, place)?;
                checked += 1;
            }
        }
        Ok(checked)
    }

    /// The first send of every turn: sends that follow a read.
    fn sends(&self, port: u16) -> Vec<usize> {
        let mut was_read = false;
        let mut sends = Vec::new();
        for event in &self.0 {
            match event.what {
                TracedCall::Read { peer_port } if peer_port == port => was_read = true,
                TracedCall::SendBegan { peer_port } if peer_port == port => {
                    if was_read {
                        sends.push(event.line);
                    }
                    was_read = false;
                }
                _ => {}
            }
        }
        sends
    }

    fn synced_before(&self, send: usize, place: &Place) -> Result<(), String> {
        // Up to where the record is in the file, without a gap.
        let mut reached = place.from;
        let mut began: BTreeMap<&str, bool> = BTreeMap::new();
        for event in self.0.iter().take_while(|event| event.line < send) {
            match &event.what {
                TracedCall::Written { file, from, to }
                    if *file == place.file && *from <= reached =>
                {
                    reached = reached.max(*to);
                }
                TracedCall::SyncBegan { file, thread } if *file == place.file => {
                    began.insert(thread, reached >= place.to);
                }
                TracedCall::SyncEnded { file, thread, is_good } if *file == place.file => {
                    let covers = began.remove(thread.as_str()) == Some(true);
                    if !is_good {
                        return Err(format!("line {send} sends after a sync failed"));
                    }
                    if covers {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
        let Place { file, from, to } = place;
        let written = if reached >= *to { "written" } else { "not even written" };
        Err(format!(
            "line {send} sends before bytes {from} to {to} of {file} are synced: {written}"
        ))
    }
}

fn began(thread: &str, name: &str, arguments: &str, listen_port: u16) -> Option<TracedCall> {
    let thread = thread.to_owned();
    if SYNCS.contains(&name) {
        return Some(TracedCall::SyncBegan { file: file_name(arguments)?, thread });
    }
    let peer_port = SENDS.contains(&name).then(|| peer_port(arguments, listen_port))??;
    Some(TracedCall::SendBegan { peer_port })
}

fn ended(thread: &str, name: &str, rest: &str, listen_port: u16) -> Option<TracedCall> {
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let result = result.split(' ').next()?.parse::<i64>().ok()?;
    if SYNCS.contains(&name) {
        let (file, thread) = (file_name(arguments)?, thread.to_owned());
        return Some(TracedCall::SyncEnded { file, thread, is_good: result == 0 });
    }
    let bytes = u64::try_from(result).ok().filter(|bytes| *bytes > 0)?;
    if READS.contains(&name) {
        return Some(TracedCall::Read { peer_port: peer_port(arguments, listen_port)? });
    }
    if name != "pwrite64" && name != "pwritev" {
        return None;
    }
    let from: u64 = arguments.trim_end().strip_suffix(')')?.rsplit_once(", ")?.1.parse().ok()?;
    Some(TracedCall::Written { file: file_name(arguments)?, from, to: from + bytes })
}

/// `7</path/name>, ...`: the name.
fn file_name(arguments: &str) -> Option<String> {
    let path = arguments.split_once('<')?.1.split_once('>')?.0;
    Some(path.rsplit('/').next()?.to_owned())
}

/// `7<TCP:[127.0.0.1:8443->127.0.0.1:51131]>, ...`: the client's port.
fn peer_port(arguments: &str, listen_port: u16) -> Option<u16> {
    let (local, peer) = arguments.split_once("<TCP:[")?.1.split_once(']')?.0.split_once("->")?;
    let port = |address: &str| address.rsplit_once(':')?.1.parse::<u16>().ok();
    (port(local)? == listen_port).then(|| port(peer))?
}

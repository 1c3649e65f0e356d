//! A journal, read from a place on for the few records that somebody has to hear of: only what a later
//! checkpoint states to be on disk, under checkpoints that the registry's audit keys signed. It holds
//! one such write at most, so a receiver that is away costs no memory.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use audit::walk::{self, Place, Seal, Stop, Walk, WalkStep};
use signing_core::journal::{AuditKeys, Head, Kind, Outline};
use signing_core::tree::{LogId, SignedCheckpoint, TreeHash};

use crate::source::{Ends, SourceError, identify};

/// How far a journal was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) log: LogId,
    /// A checkpoint of the journal has this size.
    pub(crate) size: u64,
    /// Its root; none: it was never known.
    pub(crate) root: Option<TreeHash>,
    /// The newest record that was taken.
    pub(crate) seq: u64,
}

/// A record that somebody has to hear of.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) seq: u64,
    pub(crate) kind: Kind,
    pub(crate) outline: Outline,
}

/// One write, or several that nobody has to hear of.
#[derive(Debug)]
struct Write {
    heard: VecDeque<Heard>,
    head: Head,
}

/// A journal from a place on.
#[derive(Debug)]
pub(crate) struct Feed {
    path: PathBuf,
    wanted: fn(Kind) -> bool,
    walk: Walk,
    cursor: Cursor,
    /// Wanted records since the newest checkpoint.
    open: VecDeque<Heard>,
    ready: VecDeque<Write>,
    newest: Option<SignedCheckpoint>,
    /// The newest record that is known to be on disk.
    durable: u64,
    has_entered: bool,
    is_at_end: bool,
    ends: Ends,
}

/// What is there of a journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) log: LogId,
    /// The oldest record, and the first one of the newest segment.
    pub(crate) oldest: u64,
    pub(crate) newest_segment: u64,
    /// The newest record.
    pub(crate) newest: u64,
}

/// What is there of the journal at `path`.
pub(crate) fn extent(path: &Path) -> Result<Extent, Stop> {
    let (log, oldest) = identify(path)?;
    let walk = Walk::open(path, u64::MAX)?;
    let newest_segment = walk.segments().last().map_or(oldest, |segment| segment.first_seq);
    Ok(Extent { log, oldest, newest_segment, newest: walk::newest(path)?.size })
}

impl Cursor {
    /// Before record `first`, with which a segment begins.
    pub(crate) fn before(log: LogId, first: u64) -> Self {
        Self { log, size: first.saturating_sub(1), root: None, seq: first.saturating_sub(1) }
    }
}

impl Feed {
    /// Reads on from `cursor` for records of kinds that are `wanted`.
    pub(crate) fn open(
        path: &Path,
        cursor: Cursor,
        wanted: fn(Kind) -> bool,
    ) -> Result<Self, SourceError> {
        let walk = Walk::open(path, cursor.size.max(1))?;
        Ok(Self {
            path: path.to_owned(),
            wanted,
            walk,
            cursor,
            open: VecDeque::new(),
            ready: VecDeque::new(),
            newest: None,
            durable: 0,
            has_entered: false,
            is_at_end: false,
            ends: Ends::default(),
        })
    }

    /// How far it is.
    pub(crate) fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Whether all was taken that was there at the last look.
    pub(crate) fn is_at_end(&self) -> bool {
        self.is_at_end && self.front().is_none()
    }

    /// The next record that is known to be on disk.
    pub(crate) fn front(&self) -> Option<&Heard> {
        self.ready.front().filter(|write| write.head.size <= self.durable)?.heard.front()
    }

    /// The size of the checkpoint that covers [`Feed::front`].
    pub(crate) fn front_size(&self) -> Option<u64> {
        self.ready.front().map(|write| write.head.size)
    }

    /// Takes that record.
    pub(crate) fn take(&mut self) -> Option<Heard> {
        self.front()?;
        let heard = self.ready.front_mut()?.heard.pop_front()?;
        self.cursor.seq = heard.seq;
        self.pass();
        Some(heard)
    }

    /// Reads on until there is a record to take, to the end, or over `records_max` records.
    pub(crate) fn read(&mut self, records_max: u32, keys: &AuditKeys) -> Result<(), SourceError> {
        let mut looked_again = false;
        self.is_at_end = false;
        self.ends.begin(&mut self.walk);
        for _ in 0..records_max {
            self.pass();
            if self.front().is_some() {
                return Ok(());
            }
            match self.walk.step()? {
                WalkStep::Record(place) => self.record(&place)?,
                WalkStep::Sealed(seal) => self.sealed(seal, keys)?,
                WalkStep::End | WalkStep::TornWrite(_) if !looked_again => {
                    looked_again = true;
                    self.ends.found(&mut self.walk);
                    self.walk.look_again()?;
                }
                WalkStep::End | WalkStep::TornWrite(_) => {
                    self.at_end()?;
                    self.pass();
                    self.is_at_end = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Passes writes of which all was taken.
    fn pass(&mut self) {
        let is_done = |write: &mut Write| write.heard.is_empty() && write.head.size <= self.durable;
        while let Some(write) = self.ready.pop_front_if(is_done) {
            let Head { size, root } = write.head;
            let seq = size.max(self.cursor.seq);
            self.cursor = Cursor { size, root: Some(root), seq, ..self.cursor };
        }
    }

    fn record(&mut self, place: &Place) -> Result<(), SourceError> {
        if !self.has_entered {
            self.has_entered = true;
            let header = self.walk.header();
            let before = header.map(|header| Head::of(header.checkpoint.checkpoint()));
            before.map_or(Ok(()), |before| self.is_known(before))?;
        }
        let seq = place.leaf.seq;
        let body = self.walk.body(place);
        if seq <= self.cursor.seq || !kind_of(body).is_some_and(self.wanted) {
            return Ok(());
        }
        let unknown = || SourceError::Unknown { path: self.path.clone(), seq };
        let (outline, kind) = Outline::parse(body).ok_or_else(unknown)?;
        self.open.push_back(Heard { seq, kind, outline });
        Ok(())
    }

    fn sealed(&mut self, seal: Seal, keys: &AuditKeys) -> Result<(), SourceError> {
        let Seal { checkpoint, durable, .. } = seal;
        let head = Head::of(checkpoint.checkpoint());
        self.is_known(head)?;
        self.durable = self.durable.max(durable);
        let heard = std::mem::take(&mut self.open);
        if !heard.is_empty() {
            // What nobody hears of need not be proved to anybody.
            keys.verify(&checkpoint).map_err(|error| SourceError::Checkpoint {
                path: self.path.clone(),
                size: head.size,
                error,
            })?;
        }
        self.newest = Some(checkpoint);
        if head.size <= self.cursor.size {
            return Ok(());
        }
        match self.ready.back_mut() {
            Some(last) if last.heard.is_empty() && heard.is_empty() => last.head = head,
            _ => self.ready.push_back(Write { heard, head }),
        }
        Ok(())
    }

    /// Nothing more is here by now: an idle writer may have stated that all of it is on disk.
    fn at_end(&mut self) -> Result<(), SourceError> {
        let stated = audit::stated(&self.path)
            .map_err(|error| SourceError::Stated { path: self.path.clone(), error })?;
        if let (Some(stated), Some(newest)) = (&stated, &self.newest)
            && stated.checkpoint() == newest.checkpoint()
        {
            self.durable = self.durable.max(newest.checkpoint().size);
        }
        let size = self.walk.passed().map_or(0, |head| head.size);
        if size < self.cursor.size {
            return Err(self.other(format!("ends with record {size}")));
        }
        Ok(())
    }

    /// Whether what was read before is what is here.
    fn is_known(&self, head: Head) -> Result<(), SourceError> {
        let root = self.cursor.root.filter(|_| head.size == self.cursor.size);
        match root {
            Some(root) if root != head.root => {
                Err(self.other(format!("has the root {} there", head.root)))
            }
            _ => Ok(()),
        }
    }

    fn other(&self, here: String) -> SourceError {
        let root = self.cursor.root.unwrap_or_else(TreeHash::empty);
        let known = Head { size: self.cursor.size, root };
        SourceError::Other { path: self.path.clone(), known, here }
    }
}

/// The kind of a body, by its last member: most records are not wanted, and reading them whole costs more
/// than all else. What this version does not know it does not tell either.
fn kind_of(body: &[u8]) -> Option<Kind> {
    const MEMBER: &[u8] = b"\"type\":\"";
    const WORD_MAX_BYTES: usize = 64;
    let body = body.strip_suffix(b"\"}")?;
    let end = body.get(body.len().saturating_sub(WORD_MAX_BYTES)..)?;
    let at = end.windows(MEMBER.len()).rposition(|bytes| bytes == MEMBER)?;
    Kind::parse(std::str::from_utf8(end.get(at + MEMBER.len()..)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_member_says_of_which_kind_a_record_is() {
        let body = |word: &str| {
            format!("{{\"at\":\"x\",\"data\":{{\"type\":\"freeze\"}},\"type\":\"{word}\"}}")
        };
        assert_eq!(kind_of(body("gate").as_bytes()), Some(Kind::Gate));
        assert_eq!(kind_of(body("session_activated").as_bytes()), Some(Kind::SessionActivated));
        for word in ["", "no_such_kind", "gate\"", &"x".repeat(100)] {
            assert_eq!(kind_of(body(word).as_bytes()), None, "{word}");
        }
        assert_eq!(kind_of(b""), None);
        assert_eq!(kind_of(b"\"}"), None);
    }
}

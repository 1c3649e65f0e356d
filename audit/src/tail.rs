//! What stands behind the newest whole record: nothing, a torn write, or something else. One
//! rule for the start, which cuts a torn write, and for everyone who reads.
//!
//! Records are written in order, several at once, and acknowledged after a sync. A crash before
//! the sync leaves the beginning of a write, or any of its sectors: the rest reads as the
//! zeros that were set aside. So a torn write is a row of records that begins here, each with the
//! next number, of which sectors are missing or which the end of the data cuts off.
//! None of them may know of a record behind the newest whole one that is on disk.
//!
//! Everything else may be an acknowledged record that was changed, or was put here by somebody.
//! The start refuses it, and a reader calls it a defect. No rule can tell a torn write from
//! acknowledged records of which whole sectors were wiped: the newest record that the state
//! directory and the receipts know can.

use std::fs::File;
use std::io;

use signing_core::journal::{
    BODY_MAX_BYTES, ChainId, FRAME_MAX_BYTES, Frame, HEADER_BYTES, Head, frame_bytes,
};

use crate::part::{AROUND_BODY, BODY_AT, Part, SECTOR_BYTES, SEQ_AT, knows, sector_end, to_usize};
use crate::scan::read_at;
use crate::writer::{BATCH_MAX, UNSYNCED_MAX};

/// Frames begin at multiples of this.
const ALIGNMENT: usize = 8;
/// So many records at most lie unsynced, and can be torn by one crash.
const TORN_MAX: u64 = (UNSYNCED_MAX + BATCH_MAX) as u64;
/// A number further on is not that of a later record.
const NEAR: u64 = 1 << 20;
/// Read at once.
const PIECE_BYTES: usize = 1 << 20;

/// With fewer bytes, and no header, anything could be the rest of a record.
const CAME_MIN: usize = 16;
/// In a row no record has so many zeros.
const ZEROS_MAX: usize = 24;

/// What stands there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Zeros.
    Clean,
    /// A write that was torn by a crash: nobody was told of anything in it.
    Torn,
    /// A record that is whole: it was written after the one who asks looked.
    Written,
    /// Neither: why.
    Junk(String),
}

/// Where to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'f> {
    pub(crate) file: &'f File,
    /// How long the file is.
    pub(crate) bytes: u64,
    pub(crate) chain: ChainId,
    /// The newest whole record.
    pub(crate) head: Head,
    /// Where it ends.
    pub(crate) end: u64,
}

/// Why something is no torn write, or an error of the file.
enum No {
    Torn(String),
    Io(io::Error),
}

/// The record that has to come next.
#[derive(Clone, Copy)]
struct Next {
    at: u64,
    seq: u64,
    /// The one before it, if that is whole.
    before: Option<Head>,
}

impl Place<'_> {
    /// Says what stands there.
    ///
    /// # Errors
    /// If the file can not be read.
    pub(crate) fn judge(self) -> io::Result<Tail> {
        if self.end == HEADER_BYTES as u64 {
            let why = "its segment got its name with its first record on disk, and has none";
            return Ok(Tail::Junk(why.to_owned()));
        }
        let used = self.used()?;
        if used == self.end {
            return Ok(Tail::Clean);
        }
        let first = self.next();
        let raw = self.frame_at(self.end)?;
        if let Ok(Some(frame)) = Frame::parse(&raw)
            && self.head.then(&self.chain, &frame).is_ok()
        {
            return Ok(Tail::Written);
        }
        match self.is_torn(first, used) {
            Ok(()) => Ok(Tail::Torn),
            Err(No::Torn(why)) => Ok(Tail::Junk(format!(
                "what stands behind record {} is no torn write: {why}",
                self.head.seq
            ))),
            Err(No::Io(error)) => Err(error),
        }
    }

    fn next(&self) -> Next {
        Next { at: self.end, seq: self.head.seq.saturating_add(1), before: Some(self.head) }
    }

    /// Where what is not zero ends.
    pub(crate) fn used(&self) -> io::Result<u64> {
        let (mut used, mut at) = (self.end, self.end);
        while at < self.bytes {
            let piece = self.read(at, PIECE_BYTES)?;
            if piece.is_empty() {
                break;
            }
            if let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
                used = at + last as u64 + 1;
            }
            at += piece.len() as u64;
        }
        Ok(used)
    }

    /// Goes from record to record, to the end of what is used.
    fn is_torn(&self, mut next: Next, used: u64) -> Result<(), No> {
        while next.at < used {
            let sector_end = sector_end(next.at).min(self.bytes);
            let rest_of_sector = self.read(next.at, to_usize(sector_end - next.at))?;
            if rest_of_sector.iter().any(|byte| *byte != 0) {
                let raw = self.frame_at(next.at)?;
                next = self.record(&raw, next, used)?;
                continue;
            }
            // The sector in which it begins never came.
            let header = self.header_behind(next, used)?;
            let came = self.remains(sector_end, header.map_or(used, |header| header.at))?;
            match header {
                Some(header) => next = header,
                None if next.at == self.end && came < CAME_MIN => {
                    return Err(self.no(next, &format!("of it are only {came} bytes there")));
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Judges the record that begins at `next`; where the one behind it begins.
    fn record(&self, raw: &[u8], next: Next, used: u64) -> Result<Next, No> {
        let no = |why: String| self.no(next, &why);
        let reach = next.seq.saturating_sub(self.head.seq);
        if reach > TORN_MAX {
            let why = format!("it is {reach} records on, and at most {TORN_MAX} are unsynced");
            return Err(no(why));
        }
        let error = match Frame::parse(raw) {
            Ok(None) => return Err(no("its length is zero, and its sector is not".to_owned())),
            Err(error) => error,
            Ok(Some(frame)) => {
                let head = Head { seq: frame.seq, hash: frame.hash };
                if frame.seq != next.seq {
                    return Err(no(format!("its number is {}", frame.seq)));
                }
                if frame.durable > self.head.seq {
                    return Err(no(knows(frame.durable)));
                }
                if let Some(before) = next.before {
                    before.then(&self.chain, &frame).map_err(|error| no(error.to_string()))?;
                }
                let at = next.at + frame.bytes as u64;
                return Ok(Next { at, seq: next.seq.saturating_add(1), before: Some(head) });
            }
        };
        let length = raw.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        let body = usize::try_from(length).unwrap_or(usize::MAX);
        if body > BODY_MAX_BYTES || frame_bytes(body) > raw.len() {
            return Err(no(error.to_string()));
        }
        let part = Part::new(raw, body, next.at, used);
        part.begins_as(next.seq, self.head.seq).map_err(no)?;
        part.is_incomplete(next.before, &self.chain)
            .map_err(|why| no(format!("{error}, and {why}")))?;
        let at = next.at + frame_bytes(body) as u64;
        Ok(Next { at, seq: next.seq.saturating_add(1), before: None })
    }

    fn no(&self, next: Next, why: &str) -> No {
        let Next { at, seq, .. } = next;
        // Whoever says why says where the first one begins.
        let is_first = at == self.end;
        No::Torn(if is_first {
            why.to_owned()
        } else {
            format!("record {seq} at byte {at}: {why}")
        })
    }

    /// The next header that stands whole behind a record whose header is missing.
    fn header_behind(&self, next: Next, used: u64) -> io::Result<Option<Next>> {
        let mut at = next.at + frame_bytes(1) as u64;
        while at < used {
            let piece = self.read(at, PIECE_BYTES + SEQ_AT + 8)?;
            for offset in (0..piece.len()).step_by(ALIGNMENT).take(PIECE_BYTES / ALIGNMENT) {
                let Some(rest) = piece.get(offset..) else { break };
                let Some((length, rest)) = rest.split_first_chunk() else { break };
                let Some(seq) = rest.get(SEQ_AT - 4..).and_then(<[u8]>::first_chunk) else { break };
                let length = to_usize(u64::from(u32::from_le_bytes(*length)));
                let seq = u64::from_le_bytes(*seq);
                let is_near = seq > next.seq && seq - next.seq <= NEAR;
                if is_near && (1..=BODY_MAX_BYTES).contains(&length) {
                    return Ok(Some(Next { at: at + offset as u64, seq, before: None }));
                }
            }
            at += PIECE_BYTES as u64;
        }
        Ok(None)
    }

    /// Judges what is left, from the sector at `from` on, of records whose headers are missing:
    /// each row of sectors that came is text, but for what records have before and behind it.
    /// How many bytes came.
    fn remains(&self, from: u64, to: u64) -> Result<usize, No> {
        let mut row: Vec<u8> = Vec::new();
        let mut all = 0;
        let mut at = from;
        while at < to {
            let end = sector_end(at).min(to);
            let sector = self.read(at, to_usize(end - at))?;
            let came = sector.iter().any(|byte| *byte != 0);
            all += sector.iter().filter(|byte| **byte != 0).count();
            if came {
                row.extend_from_slice(&sector);
            }
            if !came || end == to || row.len() > FRAME_MAX_BYTES + SECTOR_BYTES {
                let begin = if came { end } else { at } - row.len() as u64;
                is_of_records(&row).map_err(|why| {
                    No::Torn(format!("at byte {begin} stands what is not of a record: {why}"))
                })?;
                row.clear();
            }
            at = end;
        }
        Ok(all)
    }

    /// What a frame can take from `at` on, to the end of a sector.
    fn frame_at(&self, at: u64) -> io::Result<Vec<u8>> {
        let to = sector_end(at + FRAME_MAX_BYTES as u64);
        self.read(at, to_usize(to - at))
    }

    /// So many bytes, or fewer at the end of the file.
    fn read(&self, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut place = vec![0; bytes.min(to_usize(self.bytes.saturating_sub(at)))];
        let read = read_at(self.file, &mut place, at)?;
        place.truncate(read);
        Ok(place)
    }
}

/// Whether a row of sectors can be of records: the end of a header, text, and a hash, a
/// signature, padding and the beginning of a header.
fn is_of_records(row: &[u8]) -> Result<(), &'static str> {
    let used = row.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let row = row.get(..used).unwrap_or_default();
    if row.len() > FRAME_MAX_BYTES {
        return Err("no record is that long");
    }
    if row.windows(ZEROS_MAX).any(|zeros| zeros.iter().all(|byte| *byte == 0)) {
        return Err("zeros inside a sector");
    }
    let around = AROUND_BODY + ALIGNMENT - 1;
    let text = row.get(BODY_AT - SEQ_AT..row.len().saturating_sub(around)).unwrap_or_default();
    // A sector begins and ends anywhere in a character.
    let begins = text.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
    let text = text.get(begins..).unwrap_or_default();
    let is_utf8 = std::str::from_utf8(text).map_or_else(|no| no.error_len().is_none(), |_| true);
    if is_utf8 && text.iter().all(|byte| *byte >= b' ') { Ok(()) } else { Err("no text") }
}

impl From<io::Error> for No {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

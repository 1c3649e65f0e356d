//! A record of which not all is there: whether it can be the one that comes next, and whether
//! enough of it is missing that it was never whole, and so never acknowledged.

use crc32fast::Hasher;
use signing_core::journal::{BODY_MAX_BYTES, ChainId, Frame, Head, frame_bytes};

/// What never reached the disk is missing in units of this size, at multiples of it.
pub(crate) const SECTOR_BYTES: usize = 512;
/// Where a frame has what (docs/journal.md).
pub(crate) const SEQ_AT: usize = 8;
const DURABLE_AT: usize = 16;
pub(crate) const BODY_AT: usize = 32;
const SIGNATURE_BYTES: usize = 64;
const LENGTH_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 4;
/// Of a frame, all but the body and the padding.
pub(crate) const AROUND_BODY: usize = 128;
/// Each body begins so, and ends with a brace.
const BODY_BEGINS: &[u8] = b"{\"at\":\"";

/// A record of which not all is there.
pub(crate) struct Part<'b> {
    /// The file from where it begins.
    raw: &'b [u8],
    /// The length of its body, as it says.
    body: usize,
    at: u64,
    /// Of each byte in `raw`, whether it never came.
    lost: Vec<bool>,
}

impl<'b> Part<'b> {
    /// The record with a body of that length at `at` in the file, whose data ends at `used`.
    pub(crate) fn new(raw: &'b [u8], body: usize, at: u64, used: u64) -> Self {
        Self { raw, body, at, lost: lost(raw, at, used) }
    }

    /// What of these bytes came.
    fn seen(&self, from: usize, to: usize) -> impl Iterator<Item = (usize, u8)> + '_ {
        let bytes = self.raw.iter().zip(&self.lost).enumerate().take(to).skip(from);
        bytes.filter(|(_, (_, lost))| !**lost).map(move |(at, (byte, _))| (at - from, *byte))
    }

    /// An integer, if all of it came.
    fn number(&self, at: usize) -> Option<u64> {
        let came = self.lost.get(at..at + 8)?.iter().all(|lost| !lost);
        let bytes = self.raw.get(at..)?.first_chunk()?;
        came.then_some(u64::from_le_bytes(*bytes))
    }

    /// Whether what came of it is of record `seq`, written when `newest` was on disk at most.
    pub(crate) fn begins_as(&self, seq: u64, newest: u64) -> Result<(), String> {
        // No sector ends inside the first 8 bytes, and a byte or two are the length of anything.
        if self.seen(LENGTH_BYTES, self.raw.len()).next().is_none() {
            return Err("only its length is there".to_owned());
        }
        let seq = seq.to_le_bytes();
        if self.seen(SEQ_AT, SEQ_AT + 8).any(|(at, byte)| seq.get(at) != Some(&byte)) {
            let found = self.number(SEQ_AT).map_or_else(String::new, |seq| format!(" ({seq})"));
            return Err(format!("its number is another{found}"));
        }
        if let Some(durable) = self.number(DURABLE_AT).filter(|durable| *durable > newest) {
            return Err(knows(durable));
        }
        let to = BODY_AT + self.body;
        let ends = |at| at + 1 == self.body;
        let is_text = self.seen(BODY_AT, to).all(|(at, byte)| {
            let as_it_begins = BODY_BEGINS.get(at).is_none_or(|begins| *begins == byte);
            byte >= b' ' && as_it_begins && (!ends(at) || byte == b'}')
        });
        if is_text { Ok(()) } else { Err("its body is not that of a record".to_owned()) }
    }

    /// Whether enough of it is missing that it can never have been whole.
    pub(crate) fn is_incomplete(
        &self,
        before: Option<Head>,
        chain: &ChainId,
    ) -> Result<(), String> {
        let all = AROUND_BODY + self.body;
        let lost = |from: usize| {
            let bytes = self.lost.get(from..all).unwrap_or_default();
            bytes.iter().filter(|lost| **lost).count()
        };
        let missing = lost(0);
        if missing == 0 {
            return Err("no sector of it is missing".to_owned());
        }
        if let Some(before) = before
            && let Some(body) = self.other_length(before, chain)
        {
            return Err(format!("it is whole with a body of {body} bytes"));
        }
        if lost(all - SIGNATURE_BYTES) < missing {
            return Ok(());
        }
        // All but its signature is there, so it can be checked.
        if before.is_some_and(|before| !self.follows(before, chain, self.body)) {
            return Err("its hash does not follow from the record before it".to_owned());
        }
        if missing >= CHECKSUM_BYTES {
            return Ok(());
        }
        // A signature may end in zeros: they are missing only if its checksum says so. And if
        // one byte makes it whole, then that was changed, unless a sector ends before it.
        let at = all - missing;
        let is_lost_sector = (self.at + at as u64).is_multiple_of(SECTOR_BYTES as u64);
        match self.completion(at, missing) {
            None => Err("only zeros that may be its own are missing".to_owned()),
            Some(1) if !is_lost_sector => Err("one byte makes it whole".to_owned()),
            Some(_) => Ok(()),
        }
    }

    /// The length with which its checksum and its hash fit: the checksum does not cover
    /// the length, so a length that was changed makes a whole record look cut off.
    fn other_length(&self, before: Head, chain: &ChainId) -> Option<usize> {
        let mut checksum = Hasher::new();
        let covered = self.raw.get(SEQ_AT..AROUND_BODY)?;
        checksum.update(covered);
        for body in 1..=BODY_MAX_BYTES {
            checksum.update(self.raw.get(AROUND_BODY + body - 1..AROUND_BODY + body)?);
            let fits = Some(checksum.clone().finalize()) == self.checksum();
            if fits && body != self.body && self.follows(before, chain, body) {
                return Some(body);
            }
        }
        None
    }

    /// Whether its hash follows from `before`, with a body of that length.
    fn follows(&self, before: Head, chain: &ChainId, body: usize) -> bool {
        let all = AROUND_BODY + body;
        let Some(bytes) = self.raw.get(..all) else { return false };
        let (mut bytes, length) = (bytes.to_vec(), u32::try_from(body).unwrap_or(0));
        let checksum = crc32fast::hash(bytes.get(SEQ_AT..).unwrap_or_default());
        bytes.splice(..SEQ_AT, [length.to_le_bytes(), checksum.to_le_bytes()].concat());
        bytes.resize(frame_bytes(body), 0);
        let frame = Frame::parse(&bytes).ok().flatten();
        frame.is_some_and(|frame| before.then(chain, &frame).is_ok())
    }

    /// Whether any `missing` bytes from `at` on make its checksum fit, which so few hardly ever
    /// do by chance; how many of them are not zero.
    fn completion(&self, at: usize, missing: usize) -> Option<usize> {
        let mut before = Hasher::new();
        before.update(self.raw.get(SEQ_AT..at)?);
        let all = 1_u32 << (8 * missing.min(CHECKSUM_BYTES - 1));
        let fits = (0..all).map(u32::to_le_bytes).find(|bytes| {
            let mut checksum = before.clone();
            checksum.update(bytes.get(..missing).unwrap_or_default());
            Some(checksum.finalize()) == self.checksum()
        });
        Some(fits?.iter().filter(|byte| **byte != 0).count())
    }

    fn checksum(&self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.raw.get(4..)?.first_chunk()?))
    }
}

/// Of each byte from `at` on, whether it never came: its sector, as far as it lies behind `at`,
/// is zeros, or nothing but zeros follows.
fn lost(raw: &[u8], at: u64, used: u64) -> Vec<bool> {
    let mut lost = Vec::with_capacity(raw.len());
    let (first, others) = raw.split_at_checked(to_usize(sector_end(at) - at)).unwrap_or((raw, &[]));
    for sector in std::iter::once(first).chain(others.chunks(SECTOR_BYTES)) {
        let is_lost = sector.iter().all(|byte| *byte == 0);
        lost.resize(lost.len() + sector.len(), is_lost);
    }
    let used = to_usize(used.saturating_sub(at)).min(lost.len());
    lost.get_mut(used..).unwrap_or_default().fill(true);
    lost
}

/// Why a record that knows so much is no torn write.
pub(crate) fn knows(durable: u64) -> String {
    format!("it knows that record {durable} was on disk")
}

/// Where the sector ends in which `at` lies.
pub(crate) fn sector_end(at: u64) -> u64 {
    let sector = SECTOR_BYTES as u64;
    at - at % sector + sector
}

/// A length or a place in memory.
pub(crate) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

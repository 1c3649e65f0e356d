//! What stands behind the newest checkpoint: nothing, a torn write, or something else. One
//! rule for the start, which cuts a torn write, and for everyone who reads.
//!
//! Records are written in order, many at once, a checkpoint behind them, and acknowledged after a
//! sync. A crash before the sync leaves the beginning of such a write, or any of its sectors: the
//! rest reads as the zeros that were set aside. So a write is torn only if something of it is
//! missing, and if nothing says that it was on disk. Everything else may be an acknowledged
//! record that was changed, or was put here by somebody: the start refuses it, and a reader calls
//! it a defect. No rule can tell a torn write from acknowledged records of which whole sectors
//! were wiped: what the state directory and the receipts know can.

use std::fs::File;
use std::io;

use crc32fast::Hasher;
use signing_core::journal::{
    BODY_MAX_BYTES, FRAME_ALIGNMENT, FRAME_MAX_BYTES, Frame, Growing, Grown, HEADER_BYTES, Shape,
};

use crate::claims::Known;
use crate::remains::{self, Numbers};
use crate::scan::read_at;
use crate::writer::{BATCH_MAX, UNSYNCED_MAX};

/// What never reached the disk is missing in units of this size, at multiples of it.
const SECTOR_BYTES: u64 = 512;
/// So many records at most lie unsynced, and can be torn by one crash.
const TORN_MAX: u64 = (UNSYNCED_MAX + BATCH_MAX) as u64;
/// Fewer bytes, without the beginning of a record, could be the rest of anything.
const CAME_MIN: usize = 16;
/// A row of sectors that came has at most so many bytes: as many as lie unsynced.
const ROW_MAX: usize = 64 << 20;
/// Read at once.
const PIECE_BYTES: usize = 1 << 20;
/// Where a frame has its checksum, and its number behind that.
const CHECKSUM_AT: usize = 4;
const NUMBER_AT: usize = 8;
/// Where it has what was on disk, if it is a checkpoint.
const DURABLE_AT: usize = 16;

/// What stands there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Zeros.
    Clean,
    /// A write that was torn by a crash: nobody was told of anything in it.
    Torn,
    /// A write that is whole: it was written after the one who asks looked.
    Written,
    /// Neither.
    Junk(Junk),
}

/// What no torn write leaves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Junk {
    /// The record in whose place it stands.
    pub(crate) record: u64,
    /// The byte of the file at which it begins.
    pub(crate) at: u64,
    /// Why it is no torn write, to end the sentence.
    pub(crate) why: String,
}

/// Where to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'f> {
    pub(crate) file: &'f File,
    /// How long the file is.
    pub(crate) bytes: u64,
    /// The journal up to its newest checkpoint.
    pub(crate) before: &'f Growing,
    /// Where that ends.
    pub(crate) end: u64,
    /// The newest record that somebody outside the file knows to have been on disk.
    pub(crate) claimed: Option<&'f Known>,
}

/// Why something is no torn write, or an error of the file.
enum NotTorn {
    Torn(Junk),
    Io(io::Error),
}

impl Place<'_> {
    /// Says what stands there.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn judge(self) -> io::Result<Tail> {
        if self.end == HEADER_BYTES as u64 {
            let why = "its segment got its name with its first record on disk, and has none";
            let (record, at) = (self.newest() + 1, self.end);
            return Ok(Tail::Junk(Junk { record, at, why: why.to_owned() }));
        }
        let used = self.used()?;
        if used == self.end {
            return Ok(Tail::Clean);
        }
        match self.torn_or_written(used) {
            Ok(tail) => Ok(tail),
            Err(NotTorn::Io(error)) => Err(error),
            Err(NotTorn::Torn(junk)) => Ok(Tail::Junk(junk)),
        }
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

    /// Goes from frame to frame, to the first of which something is missing.
    fn torn_or_written(&self, used: u64) -> Result<Tail, NotTorn> {
        let mut growing = self.before.clone();
        let mut at = self.end;
        while at < used {
            let raw = self.frame_at(at)?;
            let record = growing.about(Shape::is_checkpoint(&raw));
            let why = match Frame::parse(&raw) {
                Ok(Some(frame)) => {
                    let bytes = frame.bytes() as u64;
                    match growing.take(frame).map_err(|it| no(record, at, &it.to_string()))? {
                        Grown::Record { .. } => at += bytes,
                        Grown::Sealed(_) => return Ok(Tail::Written),
                    }
                    continue;
                }
                Ok(None) => "its length is zero, and its sector is not".to_owned(),
                Err(error) => error.to_string(),
            };
            let next = growing.size() + 1;
            Part { raw: &raw, at, used, next, durable: self.newest(), why }
                .is_missing()
                .map_err(|why| no(record, at, &why))?;
            break;
        }
        self.claims_nothing(at, used)?;
        self.is_rest(at, used)?;
        if let Some(known) = self.claimed.filter(|known| known.size > self.newest()) {
            let why = format!("{}: {} says so", knows(known.size), known.by);
            return Err(no(self.newest() + 1, self.end, &why));
        }
        Ok(Tail::Torn)
    }

    /// Looks at every whole frame behind the first gap: none may be of a write that was
    /// acknowledged, or that cannot be of these.
    fn claims_nothing(&self, from: u64, used: u64) -> Result<(), NotTorn> {
        let newest = self.newest();
        let mut at = from;
        while at < used {
            let piece = self.read(at, PIECE_BYTES + FRAME_MAX_BYTES)?;
            let mut offset = 0;
            while offset < piece.len().min(PIECE_BYTES) {
                let rest = piece.get(offset..).unwrap_or_default();
                let Ok(Some(frame)) = Frame::parse(rest) else {
                    offset += FRAME_ALIGNMENT;
                    continue;
                };
                let here = at + offset as u64;
                offset += frame.bytes();
                let number = match frame {
                    Frame::Entry(entry) => entry.seq,
                    Frame::Checkpoint(sealing) if sealing.durable > newest => {
                        return Err(no(newest + 1, here, &knows(sealing.durable)));
                    }
                    Frame::Checkpoint(sealing) => sealing.checkpoint.checkpoint().size,
                };
                if number <= newest || number - newest > TORN_MAX {
                    let why = format!("record {number} is there, far from its place");
                    return Err(no(newest + 1, here, &why));
                }
            }
            at += offset as u64;
        }
        Ok(())
    }

    /// Looks at every row of sectors that came behind the first gap.
    fn is_rest(&self, gap: u64, used: u64) -> Result<(), NotTorn> {
        let numbers = Numbers { after: self.newest(), most: TORN_MAX };
        let mut row: Vec<u8> = Vec::new();
        let mut bytes_came = 0;
        // What came of the first sector was looked at.
        let Some(lost) = self.first_lost_sector(gap, used)? else { return Ok(()) };
        let is_all = gap == self.end && lost == gap;
        let mut at = sector_end(lost);
        while at < used {
            let end = sector_end(at).min(used);
            let sector = self.read(at, to_usize(end - at))?;
            let count = sector.iter().filter(|byte| **byte != 0).count();
            let came = count > 0;
            bytes_came += count;
            if came {
                row.extend_from_slice(&sector);
            }
            if row.len() > ROW_MAX {
                return Err(no(self.newest() + 1, at, "no write is so long"));
            }
            if !row.is_empty() && (!came || end == used) {
                let begin = if came { end } else { at } - row.len() as u64;
                remains::check(&row, numbers)
                    .map_err(|(offset, why)| no(self.newest() + 1, begin + offset as u64, why))?;
                row.clear();
            }
            at = end;
        }
        if is_all && bytes_came < CAME_MIN {
            let why = format!("{bytes_came} bytes alone could be the rest of anything");
            return Err(no(self.newest() + 1, self.end, &why));
        }
        Ok(())
    }

    /// Where the first sector from `gap` on begins that never came.
    fn first_lost_sector(&self, gap: u64, used: u64) -> io::Result<Option<u64>> {
        let mut at = gap;
        while at < used {
            let end = sector_end(at);
            if self.read(at, to_usize(end - at))?.iter().all(|byte| *byte == 0) {
                return Ok(Some(at));
            }
            at = end;
        }
        Ok(None)
    }

    fn newest(&self) -> u64 {
        self.before.newest().size
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

/// The first frame that is not whole.
struct Part<'b> {
    /// The file from where it begins.
    raw: &'b [u8],
    at: u64,
    /// Where in the file what is not zero ends.
    used: u64,
    /// The number of the record that comes next; a checkpoint here covers one less.
    next: u64,
    /// The newest record that is on disk.
    durable: u64,
    /// Why it is not whole.
    why: String,
}

impl Part<'_> {
    /// Whether something of it never came, and whether what came is of the frame that belongs
    /// here.
    fn is_missing(&self) -> Result<(), String> {
        let rest_of_sector = to_usize(sector_end(self.at) - self.at);
        let first = self.raw.get(..rest_of_sector).unwrap_or(self.raw);
        if first.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let shape = Shape::parse(self.raw).ok().flatten().ok_or_else(|| self.why.clone())?;
        self.begins_as(shape)?;
        if self.lost_sectors(shape) {
            return Ok(());
        }
        let is_cut = self.at + shape.used() as u64 > self.used;
        if !is_cut {
            return Err(self.why.clone());
        }
        if let Some(length) = self.other_length(shape) {
            return Err(format!("it is whole with a length of {length} bytes"));
        }
        if self.lacks_one_byte(shape) {
            return Err("one byte makes it whole".to_owned());
        }
        Ok(())
    }

    /// Whether all but its last byte is there, and no sector begins with that: it was changed.
    fn lacks_one_byte(&self, shape: Shape) -> bool {
        let end = self.at + shape.used() as u64;
        let Some(whole) = self.raw.get(..shape.used()) else { return false };
        let checksum = whole.get(CHECKSUM_AT..).and_then(<[u8]>::first_chunk).copied();
        let fits = |last: u8| {
            let mut bytes = whole.get(NUMBER_AT..).unwrap_or_default().to_vec();
            bytes.pop();
            bytes.push(last);
            Some(crc32fast::hash(&bytes).to_le_bytes()) == checksum
        };
        end == self.used + 1 && !self.used.is_multiple_of(SECTOR_BYTES) && (1..=u8::MAX).any(fits)
    }

    /// Whether what came of its beginning is that of the frame that comes next.
    fn begins_as(&self, shape: Shape) -> Result<(), String> {
        let came = to_usize(self.used.saturating_sub(self.at)).min(self.raw.len());
        let sector = to_usize(sector_end(self.at) - self.at);
        // Less than its number is there: a sector has to end there.
        if came <= NUMBER_AT + 1 && sector > NUMBER_AT + 8 {
            return Err(format!("only {came} bytes of it are there"));
        }
        let expected = if shape.is_checkpoint { self.next - 1 } else { self.next };
        if let Some(number) = self.number(NUMBER_AT, came, sector).filter(|it| *it != expected) {
            return Err(format!("its number is {number}, not {expected}"));
        }
        let durable = self.number(DURABLE_AT, came, sector);
        if let Some(durable) = durable.filter(|it| shape.is_checkpoint && *it > self.durable) {
            return Err(knows(durable));
        }
        let inner = self.raw.get(shape.inner_from()..came.min(sector)).unwrap_or_default();
        if remains::begins(shape.is_checkpoint, inner) {
            Ok(())
        } else {
            Err("it does not begin as a record does".to_owned())
        }
    }

    /// An integer, if it is in what came of the first sector.
    fn number(&self, at: usize, came: usize, sector: usize) -> Option<u64> {
        let bytes = self.raw.get(at..)?.first_chunk()?;
        // Its high bytes are zeros, which are no part of what is seen to have come.
        let whole = at + 8 <= sector && at < came;
        whole.then_some(u64::from_le_bytes(*bytes))
    }

    /// Whether a whole sector of it, behind the first, is zeros.
    fn lost_sectors(&self, shape: Shape) -> bool {
        let mut at = to_usize(sector_end(self.at) - self.at);
        let came = to_usize(self.used.saturating_sub(self.at));
        while at < shape.used().min(came) {
            let to = at + to_usize(SECTOR_BYTES);
            let sector = self.raw.get(at..to.min(self.raw.len())).unwrap_or_default();
            if sector.iter().all(|byte| *byte == 0) {
                return true;
            }
            at = to;
        }
        false
    }

    /// The length with which its checksum fits: the checksum does not cover the length, so a
    /// length that was changed makes a whole frame look cut off.
    fn other_length(&self, shape: Shape) -> Option<usize> {
        let expected = self.raw.get(CHECKSUM_AT..)?.first_chunk().copied().map(u32::from_le_bytes);
        let mut checksum = Hasher::new();
        checksum.update(self.raw.get(NUMBER_AT..shape.inner_from())?);
        for length in 1..=BODY_MAX_BYTES {
            let at = shape.inner_from() + length;
            checksum.update(self.raw.get(at - 1..at)?);
            if Some(checksum.clone().finalize()) == expected {
                return Some(length);
            }
        }
        None
    }
}

fn no(record: u64, at: u64, why: &str) -> NotTorn {
    NotTorn::Torn(Junk { record, at, why: format!("what stands there is no torn write: {why}") })
}

/// Why what knows so much is no torn write.
fn knows(durable: u64) -> String {
    format!("record {durable} is known to have been on disk")
}

/// Where the sector ends in which `at` lies.
fn sector_end(at: u64) -> u64 {
    at - at % SECTOR_BYTES + SECTOR_BYTES
}

/// A length or a place in memory.
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl From<io::Error> for NotTorn {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

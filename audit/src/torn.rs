//! A torn end: whether what stands behind the last whole record can have been
//! acknowledged, and if not, its removal. Read in pieces: a segment may be longer than memory.

use std::io;

use aws_lc_rs::digest::{Context, SHA256};
use signing_core::journal::{FRAME_MAX_BYTES, Frame, FrameError, Head, frame_bytes};

use crate::error::OpenError;
use crate::recovery::Cut;
use crate::segment::Segment;

/// What never reached the disk is missing in units of this size at least.
const SECTOR_BYTES: u64 = 512;
/// Frames begin at multiples of this.
const ALIGNMENT: usize = 8;
/// Numbers beyond this distance are no records that follow.
const NEAR: u64 = 1 << 20;
/// Read or written at once; whole sectors.
const PIECE_BYTES: u64 = 1 << 20;

/// Cuts what stands from `end` on, behind `head`, if it can not have been acknowledged.
pub(crate) fn cut(
    segment: &Segment,
    head: Head,
    end: u64,
    error: FrameError,
) -> Result<Option<Cut>, OpenError> {
    let io = || OpenError::io(segment.path());
    // If nothing follows, it is the last record, and it is not whole. If something does, it
    // has to be of the same batch, of which sectors never came: nobody was told of any of it.
    let is_damage = match following(segment, end, head).map_err(io())? {
        None => false,
        Some((_, knows)) if knows > head.seq => true,
        Some((place, _)) => !lacks_a_sector(segment, end, place).map_err(io())?,
    };
    if is_damage {
        let (path, seq) = (segment.path().to_owned(), head.seq + 1);
        return Err(OpenError::Damaged { path, seq, at: end, why: error.to_string() });
    }
    let length = used(segment, end).map_err(io())?;
    let mut digest = Context::new(&SHA256);
    pieces(segment, end, end + length, |_, bytes| {
        digest.update(bytes);
        true
    })
    .map_err(io())?;
    // Dying before this is on disk leaves some of it, to be cut again.
    clear(segment, end, end + length).map_err(io())?;
    segment.sync().map_err(io())?;
    let sha256 = hex::encode(digest.finish());
    Ok((length > 0).then_some(Cut { bytes: length, sha256 }))
}

/// How many bytes from `end` on are not the zeros that were set aside.
fn used(segment: &Segment, end: u64) -> io::Result<u64> {
    let mut used = 0;
    pieces(segment, end, segment.bytes(), |at, bytes| {
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            used = at + last as u64 + 1 - end;
        }
        true
    })?;
    Ok(used)
}

/// Puts zeros there.
fn clear(segment: &Segment, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let bytes = PIECE_BYTES.min(to - at);
        segment.write(&vec![0; usize::try_from(bytes).map_err(io::Error::other)?], at)?;
        at += bytes;
    }
    Ok(())
}

/// Gives out what stands between `from` and `to` until that is enough.
fn pieces(
    segment: &Segment,
    from: u64,
    to: u64,
    mut take: impl FnMut(u64, &[u8]) -> bool,
) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let next = to.min(at + PIECE_BYTES);
        if !take(at, &segment.read(at, next)?) {
            break;
        }
        at = next;
    }
    Ok(())
}

/// The first whole record behind `head` after what begins at `end`: where, and the newest
/// record that any of those behind it knows to be on disk.
fn following(segment: &Segment, end: u64, head: Head) -> io::Result<Option<(u64, u64)>> {
    let mut found: Option<(u64, u64)> = None;
    let mut at = end + ALIGNMENT as u64;
    while at < segment.bytes() {
        let to = segment.bytes().min(at + PIECE_BYTES + FRAME_MAX_BYTES as u64);
        let window = segment.read(at, to)?;
        let is_last = to == segment.bytes();
        // A frame that begins further on may end outside.
        let usable = if is_last { window.len() } else { window.len() - FRAME_MAX_BYTES };
        let mut offset = 0;
        while offset < usable && offset + frame_bytes(1) <= window.len() {
            let near = |frame: &Frame<'_>| frame.seq > head.seq && frame.seq - head.seq <= NEAR;
            match Frame::parse(window.get(offset..).unwrap_or_default()) {
                Ok(Some(frame)) if near(&frame) => {
                    let (place, knows) = found.unwrap_or((at + offset as u64, 0));
                    found = Some((place, knows.max(frame.durable)));
                    offset += frame.bytes;
                }
                _ => offset += ALIGNMENT,
            }
        }
        if is_last {
            break;
        }
        at += offset as u64;
    }
    Ok(found)
}

/// Whether a whole sector of the file between `from` and the record at `to` never came: it
/// reads as the zeros that were set aside, and no record holds as many. The sector in which
/// `from` lies counts from there.
fn lacks_a_sector(segment: &Segment, from: u64, to: u64) -> io::Result<bool> {
    let boundary = from - from % SECTOR_BYTES + SECTOR_BYTES;
    if to < boundary {
        return Ok(false);
    }
    let is_missing = |sector: &[u8]| sector.iter().all(|byte| *byte == 0);
    let mut lacks = is_missing(&segment.read(from, boundary)?);
    pieces(segment, boundary, to - to % SECTOR_BYTES, |_, bytes| {
        let sector = usize::try_from(SECTOR_BYTES).unwrap_or(1);
        lacks = lacks || bytes.chunks_exact(sector).any(is_missing);
        !lacks
    })?;
    Ok(lacks)
}

//! The removal of a torn write. Done in pieces: a segment may be longer than memory.

use std::io;

use aws_lc_rs::digest::{Context, SHA256};
use signing_core::journal::Growing;

use crate::claims::Known;
use crate::error::OpenError;
use crate::segment::Segment;
use crate::tail::{Junk, Place, Tail};

/// What was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many bytes.
    pub bytes: u64,
    /// Their SHA-256 in hex.
    pub sha256: String,
}

/// Read or written at once; whole sectors.
const PIECE_BYTES: u64 = 1 << 20;

/// Whether what stands from `end` on, behind all of `before`, would be cut.
pub(crate) fn is_torn_write(
    segment: &Segment,
    before: &Growing,
    end: u64,
) -> Result<bool, OpenError> {
    let place = Place { file: segment.file(), bytes: segment.bytes(), before, end, claimed: None };
    place.judge().map(|tail| tail == Tail::Torn).map_err(OpenError::io(segment.path()))
}

/// Cuts what stands from `end` on, behind all of `before`, if it is a torn write. `claimed` is
/// the newest record that is known from elsewhere to have been on disk.
pub(crate) fn cut(
    segment: &Segment,
    before: &Growing,
    end: u64,
    claimed: Option<&Known>,
) -> Result<Option<Cut>, OpenError> {
    let io = || OpenError::io(segment.path());
    let place = Place { file: segment.file(), bytes: segment.bytes(), before, end, claimed };
    let damaged = |Junk { record, at, why }| OpenError::Damaged {
        path: segment.path().to_owned(),
        seq: record,
        at,
        why,
    };
    match place.judge().map_err(io())? {
        Tail::Clean => return Ok(None),
        Tail::Torn => {}
        Tail::Junk(junk) => return Err(damaged(junk)),
        // Nobody else may write here.
        Tail::Written => {
            let why = "it changed while it was read".to_owned();
            return Err(damaged(Junk { record: before.size() + 1, at: end, why }));
        }
    }
    let used = place.used().map_err(io())?;
    let mut digest = Context::new(&SHA256);
    pieces(segment, end, used, |bytes| digest.update(bytes)).map_err(io())?;
    // Dying before this is on disk leaves some of its sectors: a torn write still, cut again.
    clear(segment, end, used).map_err(io())?;
    segment.sync().map_err(io())?;
    Ok(Some(Cut { bytes: used - end, sha256: hex::encode(digest.finish()) }))
}

/// Puts zeros there, whole sectors at a time.
fn clear(segment: &Segment, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let next = to.min(at - at % PIECE_BYTES + PIECE_BYTES);
        segment.write(&vec![0; usize::try_from(next - at).map_err(io::Error::other)?], at)?;
        at = next;
    }
    Ok(())
}

/// Gives out what stands between `from` and `to`.
fn pieces(segment: &Segment, from: u64, to: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let next = to.min(at + PIECE_BYTES);
        take(&segment.read(at, next)?);
        at = next;
    }
    Ok(())
}

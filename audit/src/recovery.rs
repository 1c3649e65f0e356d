//! Opening a journal: what is on disk is read, and only an invalid last record is cut.
//!
//! A process can die in the middle of a write, and power can fail in the middle of a
//! sync. So the last record may be torn; and of the last batch, which was written as
//! one, whole sectors may never have reached the disk. Nothing of it was acknowledged, so
//! it is cut, and the `start` record says so. Everything else that is not as it was
//! written is damage, and damage is never cut: a record that a later one knows to
//! have been on disk may stand for a signature that somebody holds.

use std::collections::BTreeMap;
use std::path::Path;

use aws_lc_rs::digest;
use serde::Deserialize;
use signing_core::journal::{
    AuditKeys, ChainId, Frame, FrameError, HEADER_BYTES, Head, Header, Outline, frame_bytes,
};

use crate::directory::Directory;
use crate::error::OpenError;
use crate::scan::{Frames, SegmentFile, Step, segments};
use crate::segment::Segment;

/// What never reached the disk is missing in units of this size at least.
const SECTOR_BYTES: usize = 512;
/// Frames begin at multiples of this.
const ALIGNMENT: usize = 8;
/// Numbers beyond this distance are no records that follow.
const NEAR: u64 = 1 << 20;

/// A journal as it was found on disk.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) chain: ChainId,
    pub(crate) first_seq: u64,
    pub(crate) segment: Segment,
    /// Where the next frame goes.
    pub(crate) end: u64,
    pub(crate) head: Head,
    /// Intents without outcome, by their numbers.
    pub(crate) open: BTreeMap<u64, Outline>,
    pub(crate) cut: Option<Cut>,
}

/// What was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many bytes.
    pub bytes: u64,
    /// Their SHA-256 in hex.
    pub sha256: String,
}

/// Reads the journal in `directory`, and cuts a torn end.
pub(crate) fn recover(directory: &Directory, keys: &AuditKeys) -> Result<Found, OpenError> {
    let path = directory.path();
    let files = segments(path).map_err(OpenError::io(path))?;
    let (Some(first), Some(last)) = (files.first(), files.last()) else {
        return Err(OpenError::NoJournal(path.to_owned()));
    };
    let chain = one_chain(&files)?;
    let segment = Segment::open(&last.path).map_err(OpenError::io(&last.path))?;
    let mut open = BTreeMap::new();
    let reader = segment.reader().map_err(OpenError::io(&last.path))?;
    let mut frames = Frames::of(reader, last)?;
    let Read { head, oldest_open, end, torn } = read(&mut frames, last, keys, &mut open)?;
    if head.seq == 0 {
        // It was made with its first record, in one piece: a crash leaves none without.
        let why = "a journal is made with its first record, and this one has none";
        let (path, why) = (last.path.clone(), why.to_owned());
        return Err(OpenError::Damaged { path, seq: 1, at: HEADER_BYTES as u64, why });
    }
    // What the last segment knows to be still open began in one before it.
    if let Some(oldest) = oldest_open.filter(|oldest| *oldest < last.first_seq) {
        earlier(&files, oldest, keys, &mut open)?;
    }
    let cut = match torn {
        Some(error) => cut(&segment, head, end, error)?,
        None => None,
    };
    Ok(Found { chain, first_seq: first.first_seq, segment, end, head, open, cut })
}

/// Finds the record `seq` and tells its hash, as far as the files are readable.
pub(crate) fn find(path: &Path, seq: u64) -> Result<Option<Head>, OpenError> {
    let files = segments(path).map_err(OpenError::io(path))?;
    let Some(file) = files.iter().rev().find(|file| file.first_seq <= seq) else { return Ok(None) };
    let mut frames = Frames::open(file)?;
    loop {
        match frames.step().map_err(OpenError::io(&file.path))? {
            Step::Frame(_, frame) if frame.seq == seq => {
                return Ok(Some(Head { seq, hash: frame.hash }));
            }
            Step::Frame(..) => {}
            Step::End(_) | Step::Broken(..) => return Ok(None),
        }
    }
}

/// The one chain that all segments are of.
fn one_chain(files: &[SegmentFile]) -> Result<ChainId, OpenError> {
    let mut expected = None;
    for file in files {
        let Header { chain: found, .. } = *Frames::open(file)?.header();
        let expected = *expected.get_or_insert(found);
        if found != expected {
            return Err(OpenError::OtherChain { path: file.path.clone(), found, expected });
        }
    }
    expected.ok_or_else(|| OpenError::NoJournal(Path::new("").to_owned()))
}

/// What a segment holds.
struct Read {
    head: Head,
    oldest_open: Option<u64>,
    end: u64,
    /// The end is not clean: why.
    torn: Option<FrameError>,
}

/// The little that recovery needs of a body.
#[derive(Deserialize)]
struct Gist<'b> {
    data: GistData,
    r#type: &'b str,
}

#[derive(Deserialize)]
struct GistData {
    intent: Option<u64>,
    oldest_open: Option<u64>,
}

/// Reads a segment to its end: every link of the chain, and the last signature, which
/// covers everything before it.
fn read(
    frames: &mut Frames,
    file: &SegmentFile,
    keys: &AuditKeys,
    open: &mut BTreeMap<u64, Outline>,
) -> Result<Read, OpenError> {
    let chain = frames.header().chain;
    let mut head = frames.header().before;
    let mut oldest_open = None;
    let damaged = |head: &Head, at, error: FrameError| OpenError::Damaged {
        path: file.path.clone(),
        seq: head.seq + 1,
        at,
        why: error.to_string(),
    };
    // The last frame's, checked once it is known to be the last.
    let mut signed = Ok(());
    let mut last_at = 0;
    let (end, torn) = loop {
        match frames.step().map_err(OpenError::io(&file.path))? {
            Step::End(at) => break (at, None),
            Step::Broken(at, error) => break (at, Some(error)),
            Step::Frame(at, frame) => {
                head = head.then(&chain, &frame).map_err(|error| damaged(&head, at, error))?;
                follow(&frame, open, &mut oldest_open)
                    .ok_or_else(|| damaged(&head, at, FrameError::Body))?;
                signed = keys.verify(&frame);
                last_at = at;
            }
        }
    };
    if let Err(error) = signed {
        let before = Head { seq: head.seq.saturating_sub(1), ..head };
        return Err(damaged(&before, last_at, error));
    }
    let torn = match torn {
        Some(error) => Some(error),
        // Zeros where a record begins, and something after them.
        None => frames
            .first_nonzero(end)
            .map_err(OpenError::io(&file.path))?
            .map(|_| FrameError::CutShort),
    };
    Ok(Read { head, oldest_open, end, torn })
}

/// Keeps account of the intents without outcome. None if the body is no record.
fn follow(
    frame: &Frame<'_>,
    open: &mut BTreeMap<u64, Outline>,
    oldest_open: &mut Option<u64>,
) -> Option<()> {
    let gist: Gist<'_> = serde_json::from_slice(frame.body).ok()?;
    match gist.r#type {
        "intent" => {
            open.insert(frame.seq, Outline::parse(frame.body)?.0);
        }
        "signed" | "failed" => {
            open.remove(&gist.data.intent?);
        }
        "segment" => *oldest_open = gist.data.oldest_open,
        _ => {}
    }
    Some(())
}

/// Finds, in the segments before the last, the intents that were still open.
fn earlier(
    files: &[SegmentFile],
    oldest: u64,
    keys: &AuditKeys,
    open: &mut BTreeMap<u64, Outline>,
) -> Result<(), OpenError> {
    let from = files.iter().rposition(|file| file.first_seq <= oldest).unwrap_or(0);
    let before_last = files.len().saturating_sub(1);
    let mut all = BTreeMap::new();
    for file in files.get(from..before_last).unwrap_or_default() {
        let mut frames = Frames::open(file)?;
        read(&mut frames, file, keys, &mut all)?;
    }
    // The last segment's outcomes come after all of these.
    if let Some(last) = files.last() {
        let mut frames = Frames::open(last)?;
        read(&mut frames, last, keys, &mut all)?;
    }
    *open = all;
    Ok(())
}

/// Cuts what stands behind `head`, if it can not have been acknowledged.
fn cut(
    segment: &Segment,
    head: Head,
    end: u64,
    error: FrameError,
) -> Result<Option<Cut>, OpenError> {
    let io = || OpenError::io(segment.path());
    let rest = segment.read(end, segment.bytes()).map_err(io())?;
    let length = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let torn = rest.get(..length).unwrap_or_default();
    // If nothing follows, it is the last record, and it is not whole. If something does, it
    // has to be of the same batch, of which sectors never came: nobody was told of any of it.
    let is_damage = following(&rest, head).is_some_and(|(place, known_durable)| {
        known_durable > head.seq || !lacks_a_sector(&rest, place, end)
    });
    if is_damage {
        let (path, seq) = (segment.path().to_owned(), head.seq + 1);
        return Err(OpenError::Damaged { path, seq, at: end, why: error.to_string() });
    }
    // Dying before this is on disk leaves it to be cut again.
    segment.write(&vec![0; length], end).map_err(io())?;
    segment.sync().map_err(io())?;
    let sha256 = hex::encode(digest::digest(&digest::SHA256, torn));
    Ok((length > 0).then_some(Cut { bytes: length as u64, sha256 }))
}

/// The first whole record behind `head` in `rest`: where, and the newest record that
/// any of those behind it knows to be on disk.
fn following(rest: &[u8], head: Head) -> Option<(usize, u64)> {
    let mut found: Option<(usize, u64)> = None;
    let mut at = ALIGNMENT;
    while at + frame_bytes(1) <= rest.len() {
        let bytes = rest.get(at..).unwrap_or_default();
        let near = |frame: &Frame<'_>| frame.seq > head.seq && frame.seq - head.seq <= NEAR;
        if let Ok(Some(frame)) = Frame::parse(bytes)
            && near(&frame)
        {
            let (place, knows) = found.unwrap_or((at, 0));
            found = Some((place, knows.max(frame.durable)));
            at += frame.bytes;
        } else {
            at += ALIGNMENT;
        }
    }
    found
}

/// Whether a whole sector of the file between `from`, where `rest` begins, and the
/// record at `to` in it never came: it reads as the zeros that were set aside, and no record
/// holds as many. The sector in which `from` lies counts from there.
fn lacks_a_sector(rest: &[u8], to: usize, from: u64) -> bool {
    let into_sector = usize::try_from(from % SECTOR_BYTES as u64).unwrap_or(0);
    let stretch = rest.get(..to).unwrap_or_default();
    let Some((begun, whole)) = stretch.split_at_checked(SECTOR_BYTES - into_sector) else {
        return false;
    };
    let mut sectors = std::iter::once(begun).chain(whole.chunks_exact(SECTOR_BYTES));
    sectors.any(|sector| sector.iter().all(|byte| *byte == 0))
}

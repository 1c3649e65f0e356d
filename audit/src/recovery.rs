//! Opening a journal: what is on disk is read, and only a torn write is cut.
//!
//! A process can die in the middle of a write, and power can fail in the middle of a
//! sync. What that leaves behind the newest whole record was never acknowledged (`tail.rs`), so
//! it is cut, and the `start` record says so. Everything else that is not as it was
//! written is damage, and damage is never cut: it may stand for a signature that somebody
//! holds.
//!
//! Of the newest segment every record is read, of those before it the header and the last
//! one (`linkage.rs`): a segment that is missing, replaced or cut is found, a change further
//! inside after the start (`older.rs`).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use signing_core::journal::{AuditKeys, ChainId, Frame, FrameError, Head, Outline};
use signing_core::json;

use crate::directory::Directory;
use crate::error::OpenError;
use crate::linkage;
use crate::scan::{Frames, SegmentFile, Step, segments};
use crate::segment::Segment;
use crate::torn::{self, Cut};

/// A journal as it was found on disk.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) chain: ChainId,
    /// All of its segments, in order.
    pub(crate) files: Vec<SegmentFile>,
    pub(crate) segment: Segment,
    /// Where the next frame goes.
    pub(crate) end: u64,
    pub(crate) head: Head,
    /// Intents without outcome, by their numbers.
    pub(crate) open: BTreeMap<u64, Outline>,
    pub(crate) cut: Option<Cut>,
}

impl Found {
    /// The first record that is still there.
    pub(crate) fn first_seq(&self) -> u64 {
        self.files.first().map_or(1, |file| file.first_seq)
    }
}

/// Reads the journal in `directory`, and cuts a torn write.
pub(crate) fn recover(directory: &Directory, keys: &AuditKeys) -> Result<Found, OpenError> {
    let path = directory.path();
    let files = segments(path).map_err(OpenError::io(path))?;
    let Some(last) = files.last() else {
        return Err(OpenError::NoJournal(path.to_owned()));
    };
    let chain = linkage::check(&files)?;
    let segment = Segment::open(&last.path).map_err(OpenError::io(&last.path))?;
    let mut open = BTreeMap::new();
    let reader = segment.reader().map_err(OpenError::io(&last.path))?;
    let mut frames = Frames::of(reader, last)?;
    let Read { head, oldest_open, end } = read(&mut frames, last, keys, &mut open)?;
    // What the last segment knows to be still open began in one before it.
    if let Some(oldest) = oldest_open.filter(|oldest| *oldest < last.first_seq) {
        earlier(&files, oldest, keys, &mut open)?;
    }
    let cut = torn::cut(&segment, chain, head, end)?;
    Ok(Found { chain, files, segment, end, head, open, cut })
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

/// What a segment holds.
struct Read {
    head: Head,
    oldest_open: Option<u64>,
    /// Where the last whole record ends.
    end: u64,
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
    let end = loop {
        match frames.step().map_err(OpenError::io(&file.path))? {
            Step::End(at) | Step::Broken(at, _) => break at,
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
    Ok(Read { head, oldest_open, end })
}

/// Keeps account of the intents without outcome. None if the body is no record.
fn follow(
    frame: &Frame<'_>,
    open: &mut BTreeMap<u64, Outline>,
    oldest_open: &mut Option<u64>,
) -> Option<()> {
    let gist: Gist<'_> = json::from_slice(frame.body).ok()?;
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

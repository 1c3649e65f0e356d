//! The segments before the newest, read once after the start beside everything else: each
//! record has to be as it was written. Their signatures are covered by the newest segment's,
//! which the start checked, as long as the chain of hashes holds.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use signing_core::Moment;
use signing_core::journal::{FrameError, Head};

use crate::error::Trouble;
use crate::journal::{Journal, Shared};
use crate::scan::{Frames, SegmentError, SegmentFile, Step};

/// It reads for so long, then rests for so many times as long: what is signed meanwhile
/// comes first.
const READS_FOR: Duration = Duration::from_millis(5);
const RESTS: u32 = 4;
/// How many records are read between two looks at the clock.
const RECORDS: u32 = 64;

/// How far it is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) of: u64,
    pub(crate) checked: AtomicU64,
}

/// How many of the segments that were older than the newest at the start were read since,
/// every record of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Older {
    /// As they were written, or moved away meanwhile.
    pub checked: u64,
    /// Of so many.
    pub of: u64,
}

impl Journal {
    /// Begins to read all of `files` but the newest, on a thread of its own.
    pub(crate) fn check_older(&self, files: Vec<SegmentFile>) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("older".into());
        thread.spawn(move || check(&shared, &files)).map(|_| ())
    }

    /// How many of the older segments were read since the start, every record of them. One
    /// that is not as it was written seals the journal.
    #[must_use]
    pub fn older_segments(&self) -> Older {
        let Progress { of, checked } = &self.shared.older;
        Older { checked: checked.load(Ordering::Relaxed), of: *of }
    }
}

/// Reads all of `files`; the first thing that is not as it was written seals the journal.
fn check(shared: &Shared, files: &[SegmentFile]) {
    for (file, next) in files.iter().zip(files.iter().skip(1)) {
        match one(shared, file, next) {
            Ok(Read::Whole) => {
                shared.older.checked.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Read::Over) => return,
            Err(why) => return shared.seal(&Trouble::Sealed(why)),
        }
    }
}

/// How reading one ended.
enum Read {
    Whole,
    /// The process stops.
    Over,
}

fn one(shared: &Shared, file: &SegmentFile, next: &SegmentFile) -> Result<Read, String> {
    let mut frames = match Frames::open(file) {
        Ok(frames) => frames,
        // The oldest may be moved away at any time.
        Err(SegmentError::Io { .. }) if is_gone(&file.path) => return Ok(Read::Whole),
        Err(error) => return Err(error.to_string()),
    };
    let named = match Frames::open(next) {
        Ok(frames) => Some(frames.header().before),
        Err(SegmentError::Io { .. }) if is_gone(&next.path) => None,
        Err(error) => return Err(error.to_string()),
    };
    let chain = frames.header().chain;
    let mut head = frames.header().before;
    let mut began = (shared.clock.now)();
    let damaged = |head: Head, at: u64, error: FrameError| {
        let (path, seq) = (file.path.display(), head.seq + 1);
        format!(
            "{path}: record {seq} at byte {at} is damaged: {error}; bring the file back from a copy"
        )
    };
    for count in 1_u32.. {
        match frames.step().map_err(|error| format!("{}: {error}", file.path.display()))? {
            Step::Frame(at, frame) => {
                head = head.then(&chain, &frame).map_err(|error| damaged(head, at, error))?;
            }
            Step::Broken(at, error) => return Err(damaged(head, at, error)),
            Step::End(at) => {
                let is_end = named.is_none_or(|named| named == head)
                    && frames.first_nonzero(at).is_ok_and(|byte| byte.is_none());
                return if is_end {
                    Ok(Read::Whole)
                } else {
                    Err(damaged(head, at, FrameError::Hash))
                };
            }
        }
        if count % RECORDS == 0 {
            if shared.queue.is_closed() {
                return Ok(Read::Over);
            }
            began = rest(shared, began);
        }
    }
    Ok(Read::Over)
}

/// Rests if it has read for long enough; since when it reads.
fn rest(shared: &Shared, began: Moment) -> Moment {
    let now = (shared.clock.now)();
    let read = now.since(began);
    if read < READS_FOR {
        return began;
    }
    thread::sleep(read * RESTS);
    (shared.clock.now)()
}

fn is_gone(path: &Path) -> bool {
    path.try_exists().is_ok_and(|exists| !exists)
}

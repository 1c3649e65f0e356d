//! The segments before the newest, read once after the start beside everything else: each
//! record has to be as it was written. Their checkpoints are covered by the newest segment's, which
//! the start checked, as long as the roots hold.
//!
//! What the machine lacks for a moment, such as a file descriptor, says nothing about a segment:
//! it is read again later, and until then it is shown why it waits.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use host::{shortage, stack};
use signing_core::Moment;
use signing_core::journal::FrameError;

use crate::error::JournalError;
use crate::journal::{Journal, Shared};
use crate::reader::{Item, Reader};
use crate::scan::{SegmentError, SegmentFile};

/// It reads for so long, then rests for so many times as long: what is signed meanwhile
/// comes first.
const READS_FOR: Duration = Duration::from_millis(5);
const RESTS: u32 = 4;
/// When what the machine lacked is asked for again.
const AGAIN: Duration = Duration::from_millis(500);
/// How many records are read between two looks at the clock.
const RECORDS: u32 = 64;

/// How far it is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) of: u64,
    pub(crate) checked: AtomicU64,
    pub(crate) waits: Mutex<Option<String>>,
}

/// How many of the segments that were older than the newest at the start were read since,
/// every record of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentCheck {
    /// As they were written, or moved away meanwhile.
    pub checked: u64,
    /// Of so many.
    pub of: u64,
    /// What the machine lacks to read on, if it waits for that.
    pub waits: Option<String>,
}

impl Journal {
    /// Begins to read all of `files` but the newest, on a thread of its own.
    pub(crate) fn check_segments(&self, files: Vec<SegmentFile>) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("older".into()).stack_size(stack::PLAIN_BYTES);
        thread.spawn(move || check(&shared, &files)).map(|_| ())
    }

    /// How many of the older segments were read since the start, every record of them. One
    /// that is not as it was written seals the journal.
    #[must_use]
    pub fn older_segments(&self) -> SegmentCheck {
        let Progress { of, checked, waits } = &self.shared.older;
        let waits = waits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SegmentCheck { checked: checked.load(Ordering::Relaxed), of: *of, waits }
    }
}

/// Reads all of `files`; the first thing that is not as it was written seals the journal.
fn check(shared: &Shared, files: &[SegmentFile]) {
    for (file, next) in files.iter().zip(files.iter().skip(1)) {
        match patiently(shared, file, next) {
            Ok(Read::Whole) => {
                shared.older.checked.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Read::Stopped) => return,
            Err(why) => return shared.seal(&JournalError::Sealed(why)),
        }
    }
}

/// Reads one, again and again while the machine lacks something.
fn patiently(shared: &Shared, file: &SegmentFile, next: &SegmentFile) -> Result<Read, String> {
    let waits = |why| *shared.older.waits.lock().unwrap_or_else(PoisonError::into_inner) = why;
    loop {
        match one(shared, file, next) {
            Err(NotChecked::Short(why)) => {
                waits(Some(why));
                thread::sleep(AGAIN);
                if shared.queue.is_closed() {
                    return Ok(Read::Stopped);
                }
            }
            Err(NotChecked::Damaged(why)) => return Err(why),
            Ok(read) => {
                waits(None);
                return Ok(read);
            }
        }
    }
}

/// Why one is not read.
enum NotChecked {
    /// The machine lacks something.
    Short(String),
    /// It is not as it was written, or the disk does not give it.
    Damaged(String),
}

impl NotChecked {
    fn of(path: &Path, error: &io::Error) -> Self {
        let path = path.display();
        match shortage::of(error) {
            Some(why) => Self::Short(format!("{path}: {why}")),
            None => Self::Damaged(format!("{path}: {error}")),
        }
    }
}

impl From<SegmentError> for NotChecked {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Io { path, error } => Self::of(&path, &error),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// How reading one ended.
enum Read {
    Whole,
    /// The process stops.
    Stopped,
}

fn one(shared: &Shared, file: &SegmentFile, next: &SegmentFile) -> Result<Read, NotChecked> {
    let mut reader = match Reader::open(file) {
        Ok(reader) => reader,
        // The oldest may be moved away at any time.
        Err(SegmentError::Io { .. }) if is_gone(&file.path) => return Ok(Read::Whole),
        Err(error) => return Err(error.into()),
    };
    let named = match Reader::open(next) {
        Ok(reader) => Some(reader.header().before()),
        Err(SegmentError::Io { .. }) if is_gone(&next.path) => None,
        Err(error) => return Err(error.into()),
    };
    let mut began = (shared.clock.now)();
    let damaged = |seq: u64, at: u64, error: FrameError| {
        let path = file.path.display();
        NotChecked::Damaged(format!(
            "{path}: record {seq} at byte {at} is damaged: {error}; bring the file back from a copy"
        ))
    };
    let io = |error: io::Error| NotChecked::of(&file.path, &error);
    for count in 1_u32.. {
        match reader.step().map_err(io)? {
            Item::Record { .. } | Item::Sealed { .. } => {}
            Item::Broken { at, record, error } => return Err(damaged(record, at, error)),
            Item::End(at) => {
                let (size, newest) = (reader.growing().size(), reader.growing().newest());
                let is_clean = reader.frames.first_nonzero(at).map_err(io)?.is_none();
                let is_end = size == newest.size && named.is_none_or(|named| named == newest);
                return if is_clean && is_end {
                    Ok(Read::Whole)
                } else {
                    Err(damaged(size + 1, at, FrameError::Root))
                };
            }
        }
        if count % RECORDS == 0 {
            if shared.queue.is_closed() {
                return Ok(Read::Stopped);
            }
            began = rest(shared, began);
        }
    }
    Ok(Read::Stopped)
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

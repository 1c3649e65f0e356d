//! The way through a journal: its records in order, from segment to segment, read and
//! never changed. Where one can not go on, it says exactly where and why.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use signing_core::journal::{ChainId, Frame, FrameError, HEADER_BYTES, Head, RecordHash};

use crate::scan::{Frames, SegmentError, SegmentFile, Step, segments};
use crate::tail::Tail;

/// How often what looks broken is looked at again at most, and after how long.
const LOOKS: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What is wrong with a journal, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// The first record that it concerns.
    pub record: u64,
    /// The segment.
    pub file: PathBuf,
    /// The byte at which the record begins; 0: the segment's header.
    pub at: u64,
    /// What is wrong, to end the sentence.
    pub what: String,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, file, at, what } = self;
        write!(f, "record {record} in {} at byte {at}: {what}", file.display())
    }
}

/// Why a way ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The directory can not be read.
    #[error("{}: {error}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// No file in the directory has a segment's name.
    #[error("{}: there is no journal here: no file is named like 00000000000000000001.journal", .0.display())]
    NoJournal(PathBuf),
    /// A segment can not be read.
    #[error("{}: {error}", path.display())]
    Segment {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The journal is not as it was written.
    #[error("{0}")]
    Defect(Defect),
}

/// A step on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// A record whose bytes are whole. Its link and its signature are not checked.
    Record(Place),
    /// The end of the journal.
    End,
    /// At the end of the last segment stands a write of which not all is there. Either
    /// it is being written, or it was torn, and the next start cuts it.
    Torn(Torn),
}

/// A torn write, which is no defect: nobody was told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The first record of which not all is there.
    pub record: u64,
    /// The segment.
    pub file: PathBuf,
    /// The byte at which the write begins, or what of it is missing.
    pub at: u64,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, file, at } = self;
        write!(
            f,
            "a write was torn at record {record} in {} at byte {at}, before anyone was told of it: \
             the next start cuts it and records that",
            file.display()
        )
    }
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The record before it, as that one says; of a segment's first, as the header says.
    pub before: Head,
    /// The record, as it says.
    pub head: Head,
    /// The byte at which it begins.
    pub at: u64,
    /// How many bytes it takes.
    pub bytes: usize,
}

/// What one look found.
enum Look {
    Way(Way),
    /// The segment is over; the next one begins.
    Next,
    /// No record: what it would be if it stays so, and the bytes that are none.
    Broken(Result<Way, Stop>, Vec<u8>),
}

/// The way through a journal. It stays where it is at [`Way::End`] and [`Way::Torn`]; a
/// further step looks again at what is there by then.
#[derive(Debug)]
pub struct Walk {
    directory: PathBuf,
    segments: Vec<SegmentFile>,
    /// Which of them is open.
    index: usize,
    frames: Option<Frames>,
    chain: Option<ChainId>,
    /// The newest record that was passed.
    passed: Option<Head>,
    /// Bytes passed in segments before the open one.
    bytes_before: u64,
}

impl Walk {
    /// The way from the beginning of the segment that holds record `from`, or from the
    /// oldest there is.
    ///
    /// # Errors
    /// [`Stop::Directory`], [`Stop::NoJournal`].
    pub fn open(directory: &Path, from: u64) -> Result<Self, Stop> {
        let segments = list(directory)?;
        let index = segments.iter().rposition(|segment| segment.first_seq <= from).unwrap_or(0);
        Ok(Self {
            directory: directory.to_owned(),
            segments,
            index,
            frames: None,
            chain: None,
            passed: None,
            bytes_before: 0,
        })
    }

    /// The segments, as they were when the way began.
    #[must_use]
    pub fn segments(&self) -> &[SegmentFile] {
        &self.segments
    }

    /// Which of them it is in.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The chain, once a header was read.
    #[must_use]
    pub fn chain(&self) -> Option<ChainId> {
        self.chain
    }

    /// The newest record that was passed, or that the first header says was before.
    #[must_use]
    pub fn passed(&self) -> Option<Head> {
        self.passed
    }

    /// Bytes passed: headers and records.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes_before + self.position()
    }

    /// The byte of the file it is at.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.frames.as_ref().map_or(0, Frames::position)
    }

    /// The frame at `place`, which the last step gave.
    #[must_use]
    pub fn raw(&self, place: &Place) -> &[u8] {
        self.frames.as_ref().map(|frames| frames.raw(place.at, place.bytes)).unwrap_or_default()
    }

    /// The file it is in.
    #[must_use]
    pub fn file(&self) -> &Path {
        self.segments.get(self.index).map_or(&self.directory, |segment| &segment.path)
    }

    /// Looks again for segments: the journal may have gone on.
    ///
    /// # Errors
    /// [`Stop::Directory`]; [`Stop::Segment`]; [`Stop::NoJournal`] also if the segment it is in was moved
    /// away or replaced, and the journal does not go on where it was.
    pub fn look_again(&mut self) -> Result<(), Stop> {
        let now = list(&self.directory)?;
        let next = self.passed.map_or(1, |head| head.seq + 1);
        let held = self.file().to_owned();
        let is_in_place = match &self.frames {
            Some(frames) => match frames.is_at(&held) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                looked => looked.map_err(|error| unreadable(&held, error))?,
            },
            None => now.iter().any(|segment| segment.path == held),
        };
        let goes_on = now.iter().position(|segment| segment.first_seq == next);
        match (is_in_place, now.iter().position(|segment| segment.path == held), goes_on) {
            (true, Some(index), _) => self.index = index,
            (_, _, Some(index)) if self.frames.is_some() => {
                self.close();
                self.index = index;
            }
            _ => return Err(Stop::NoJournal(self.directory.clone())),
        }
        self.segments = now;
        if let Some(frames) = &mut self.frames {
            frames.look_again();
        }
        Ok(())
    }

    /// Whether something stands where the next record begins.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.frames.as_ref().is_some_and(|frames| frames.has_more().unwrap_or(true))
    }

    /// The next record, or what is there instead.
    ///
    /// Somebody may be writing, so what was read ahead is no proof that anything is wrong,
    /// nor is what is seen in two looks at different times: a batch can land in between.
    /// Whatever is no record is read anew, and is a verdict only once the same bytes are
    /// found broken twice, the second time after what follows them was seen.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn step(&mut self) -> Result<Way, Stop> {
        let mut seen: Option<Vec<u8>> = None;
        let mut looks = 0;
        loop {
            let (way, bytes) = match self.look()? {
                Look::Way(way) => return Ok(way),
                Look::Next => {
                    (seen, looks) = (None, 0);
                    continue;
                }
                Look::Broken(way, bytes) => (way, bytes),
            };
            if looks == LOOKS || seen.as_ref() == Some(&bytes) {
                return way;
            }
            (seen, looks) = (Some(bytes), looks + 1);
            // Nobody writes into any segment but the last.
            if self.index + 1 >= self.segments.len() {
                thread::sleep(LOOK_AGAIN);
            }
        }
    }

    /// Looks once at what comes next.
    fn look(&mut self) -> Result<Look, Stop> {
        let before = match self.passed {
            Some(head) if self.frames.is_some() => head,
            _ => self.enter()?,
        };
        let file = self.segments.get(self.index).map_or(&*self.directory, |file| &*file.path);
        let Some(frames) = &mut self.frames else { return Ok(Look::Way(Way::End)) };
        let step = frames.step_anew().map_err(|error| unreadable(file, error))?;
        let (at, broken) = match step {
            Step::Frame(at, frame) => {
                let head = Head { seq: frame.seq, hash: frame.hash };
                let place = Place { before, head, at, bytes: frame.bytes };
                if let Some(error) = misplaced(before, &frame) {
                    let defect = self.defect(before.seq + 1, at, error.to_string());
                    return Err(Stop::Defect(defect));
                }
                self.passed = Some(head);
                return Ok(Look::Way(Way::Record(place)));
            }
            Step::End(at) => (at, None),
            Step::Broken(at, error) => (at, Some(error.to_string())),
        };
        let nonzero = frames.first_nonzero(at).map_err(|error| unreadable(file, error))?;
        let is_last = self.index + 1 >= self.segments.len();
        let what = match (broken, nonzero) {
            (Some(what), _) => what,
            (None, Some(byte)) => {
                format!("its length is zero, and byte {byte} after it is not")
            }
            (None, None) if is_last && at == HEADER_BYTES as u64 => "it is empty".to_owned(),
            (None, None) if is_last => return Ok(Look::Way(Way::End)),
            (None, None) => {
                self.close();
                self.index += 1;
                return Ok(Look::Next);
            }
        };
        let junk = if is_last {
            match frames.tail(before, at).map_err(|error| unreadable(file, error))? {
                // What is whole or zeros by now was being written.
                Tail::Clean | Tail::Written | Tail::Torn => None,
                Tail::Junk(why) => Some(why),
            }
        } else {
            Some(what)
        };
        let bytes = frames.unread().to_vec();
        let record = before.seq + 1;
        let way = match junk {
            Some(why) => Err(Stop::Defect(self.defect(record, at, why))),
            None => Ok(Way::Torn(Torn { record, file: self.file().to_owned(), at })),
        };
        Ok(Look::Broken(way, bytes))
    }

    /// Opens the segment at `index` and checks that it goes on where the one before ended.
    fn enter(&mut self) -> Result<Head, Stop> {
        let Some(segment) = self.segments.get(self.index) else {
            return Err(Stop::NoJournal(self.directory.clone()));
        };
        let first = segment.first_seq;
        let of_header =
            |what: String| Stop::Defect(self.defect(first, 0, format!("its segment {what}")));
        let frames = match Frames::open(segment) {
            Ok(frames) => frames,
            Err(SegmentError::Io { path, error }) => return Err(Stop::Segment { path, error }),
            Err(SegmentError::Header { error, .. }) => {
                return Err(of_header(format!("has no good header: {error}")));
            }
            Err(SegmentError::Size { found, expected, .. }) => {
                return Err(of_header(format!("has {found} bytes and was made with {expected}")));
            }
            Err(SegmentError::Name { found, .. }) => {
                return Err(of_header(format!("has a header that says it begins at {found}")));
            }
        };
        let (chain, before) = (frames.header().chain, frames.header().before);
        if let Some(expected) = self.chain.filter(|expected| *expected != chain) {
            return Err(of_header(format!(
                "is of the chain {chain}, and the one before of {expected}"
            )));
        }
        match self.passed {
            Some(passed) if passed.seq < before.seq => {
                let (from, to) = (passed.seq + 1, before.seq);
                return Err(of_header(format!(
                    "is not the next: records {from} to {to} are missing"
                )));
            }
            Some(passed) if passed != before => {
                let seq = passed.seq;
                return Err(of_header(format!("does not go on after record {seq} that is here")));
            }
            _ => {}
        }
        self.chain = Some(chain);
        self.passed = Some(before);
        self.frames = Some(frames);
        Ok(before)
    }

    fn close(&mut self) {
        self.bytes_before = self.bytes();
        self.frames = None;
    }

    fn defect(&self, record: u64, at: u64, what: String) -> Defect {
        Defect { record, file: self.file().to_owned(), at, what }
    }
}

impl Place {
    /// Whether it is the first of its segment.
    #[must_use]
    pub fn begins_segment(&self) -> bool {
        self.at == HEADER_BYTES as u64
    }
}

/// The newest record, as far as the last segment can be read: for saying how far a way is.
///
/// # Errors
/// [`Stop::Directory`], [`Stop::NoJournal`], [`Stop::Segment`].
pub fn newest(directory: &Path) -> Result<Head, Stop> {
    let files = list(directory)?;
    let last = files.last().ok_or_else(|| Stop::NoJournal(directory.to_owned()))?;
    let before = Head { seq: last.first_seq.saturating_sub(1), hash: RecordHash::NONE };
    let mut frames = match Frames::open(last) {
        Ok(frames) => frames,
        Err(SegmentError::Io { path, error }) => return Err(Stop::Segment { path, error }),
        // What is wrong with it is found on the way.
        Err(_) => return Ok(before),
    };
    let mut head = frames.header().before;
    while let Step::Frame(_, frame) =
        frames.step().map_err(|error| unreadable(&last.path, error))?
    {
        head = Head { seq: frame.seq, hash: frame.hash };
    }
    Ok(head)
}

/// Whether a process holds the journal to write it.
#[must_use]
pub fn is_being_written(directory: &Path) -> bool {
    // The lock ends with the handle.
    let lock = |handle| Flock::lock(handle, FlockArg::LockSharedNonblock);
    File::open(directory)
        .is_ok_and(|handle| matches!(lock(handle), Err((_, nix::Error::EWOULDBLOCK))))
}

/// The segments; there is at least one.
fn list(directory: &Path) -> Result<Vec<SegmentFile>, Stop> {
    let found = segments(directory)
        .map_err(|error| Stop::Directory { path: directory.to_owned(), error })?;
    if found.is_empty() { Err(Stop::NoJournal(directory.to_owned())) } else { Ok(found) }
}

fn misplaced(before: Head, frame: &Frame<'_>) -> Option<FrameError> {
    let expected = before.seq.saturating_add(1);
    (frame.seq != expected).then_some(FrameError::Seq { found: frame.seq, expected })
}

fn unreadable(file: &Path, error: io::Error) -> Stop {
    Stop::Segment { path: file.to_owned(), error }
}

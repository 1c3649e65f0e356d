//! The way through a journal: its records in order, from segment to segment, read and
//! never changed. A record is given out once a checkpoint covers it and fits. Where one cannot go
//! on, it says exactly where and why.

mod step;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use host::files;
use nix::fcntl::{Flock, FlockArg};
use signing_core::journal::{HEADER_BYTES, Head, Header, Shape};
use signing_core::tree::{LogId, TreeHash};

use crate::reader::{Item, Reader};
use crate::scan::{SegmentError, SegmentFile, segments};
use crate::tail::{Junk, Tail};

pub use step::{Defect, Place, Seal, Stop, TornWrite, WalkStep};

/// How often what looks broken is looked at again at most, and after how long.
const LOOKS: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What one look found.
enum ReadAttempt {
    Step(WalkStep),
    /// A write was read.
    Read,
    /// The segment is over; the next one begins.
    Next,
    /// No record: what it would be if it stays so, and the bytes that are none.
    Broken(Result<WalkStep, Stop>, Vec<u8>),
}

/// The way through a journal. It stays where it is at [`WalkStep::End`] and [`WalkStep::TornWrite`]; a
/// further step looks again at what is there by then.
#[derive(Debug)]
pub struct Walk {
    directory: PathBuf,
    segments: Vec<SegmentFile>,
    /// Which of them is open.
    index: usize,
    reader: Option<Reader>,
    log: Option<LogId>,
    /// What was read of one write and is not given out yet.
    read: VecDeque<WalkStep>,
    /// All that checkpoints cover that were read.
    passed: Option<Head>,
    /// Bytes passed in segments before the open one.
    bytes_before: u64,
    /// Whether the rest of the open segment was looked through, and was zeros.
    rest_was_zeros: bool,
    /// Whether it is believed to be so still.
    trusts_rest: bool,
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
            reader: None,
            log: None,
            read: VecDeque::new(),
            passed: None,
            bytes_before: 0,
            rest_was_zeros: false,
            trusts_rest: false,
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

    /// The log, once a header was read.
    #[must_use]
    pub fn log(&self) -> Option<LogId> {
        self.log
    }

    /// How far it is, or what the first header says was before.
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
        self.reader.as_ref().map_or(0, |reader| reader.frames.position())
    }

    /// The frame at `place`, which the last step gave.
    #[must_use]
    pub fn raw(&self, place: &Place) -> &[u8] {
        let reader = self.reader.as_ref();
        reader.map(|reader| reader.frames.raw(place.at, place.bytes)).unwrap_or_default()
    }

    /// The frame of the checkpoint that the last step gave.
    #[must_use]
    pub fn raw_seal(&self, seal: &Seal) -> &[u8] {
        let bytes = Shape::new(true, seal.checkpoint.note().len()).bytes;
        let reader = self.reader.as_ref();
        reader.map(|reader| reader.frames.raw(seal.at, bytes)).unwrap_or_default()
    }

    /// The body of the record at `place`, which the last step gave.
    #[must_use]
    pub fn body(&self, place: &Place) -> &[u8] {
        // Its frame was whole when it was read.
        let raw = self.raw(place);
        let shape = Shape::parse(raw).ok().flatten();
        shape.and_then(|shape| raw.get(shape.inner_from()..shape.used())).unwrap_or_default()
    }

    /// The header of the segment it is in.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.reader.as_ref().map(Reader::header)
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
        let next = self.passed.map_or(1, |head| head.size + 1);
        let held = self.file().to_owned();
        let is_in_place = match &self.reader {
            Some(reader) => match reader.frames.is_at(&held) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                looked => looked.map_err(|error| unreadable(&held, error))?,
            },
            None => now.iter().any(|segment| segment.path == held),
        };
        let goes_on = now.iter().position(|segment| segment.first_seq == next);
        match (is_in_place, now.iter().position(|segment| segment.path == held), goes_on) {
            (true, Some(index), _) => self.index = index,
            (_, _, Some(index)) if self.reader.is_some() => {
                self.close();
                self.index = index;
            }
            _ => return Err(Stop::NoJournal(self.directory.clone())),
        }
        self.segments = now;
        if let Some(reader) = &mut self.reader {
            reader.frames.look_again();
        }
        Ok(())
    }

    /// Whether an end that was found once is believed by the place of the next record alone. An end is else found by
    /// reading the rest of the segment, which is set aside whole: whoever looks again and again for more would do
    /// nothing else. Who trusts looks through it from time to time, or does not find what stands behind zeros.
    pub fn trust_rest(&mut self, trusts: bool) {
        self.trusts_rest = trusts;
    }

    /// Whether something stands where the next record begins.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.frames.has_more().unwrap_or(true))
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
    pub fn step(&mut self) -> Result<WalkStep, Stop> {
        let mut seen: Option<Vec<u8>> = None;
        let mut looks = 0;
        loop {
            if let Some(step) = self.read.pop_front() {
                return Ok(step);
            }
            let (step, bytes) = match self.read_once()? {
                ReadAttempt::Step(step) => return Ok(step),
                ReadAttempt::Read => continue,
                ReadAttempt::Next => {
                    (seen, looks) = (None, 0);
                    continue;
                }
                ReadAttempt::Broken(step, bytes) => (step, bytes),
            };
            if looks == LOOKS || seen.as_ref() == Some(&bytes) {
                return step;
            }
            (seen, looks) = (Some(bytes), looks + 1);
            // Nobody writes into any segment but the last.
            if self.index + 1 >= self.segments.len() {
                thread::sleep(LOOK_AGAIN);
            }
        }
    }

    /// Looks once at what comes next: reads one write whole, or says what is there instead.
    fn read_once(&mut self) -> Result<ReadAttempt, Stop> {
        if self.reader.is_none() {
            self.enter()?;
        }
        let file = self.segments.get(self.index).map_or(&*self.directory, |file| &*file.path);
        let io = |error| unreadable(file, error);
        let Some(reader) = &mut self.reader else { return Ok(ReadAttempt::Step(WalkStep::End)) };
        let is_last = self.index + 1 >= self.segments.len();
        let is_trusted = is_last && self.trusts_rest && self.rest_was_zeros;
        if is_trusted && !reader.frames.has_more().map_err(io)? {
            return Ok(ReadAttempt::Step(WalkStep::End));
        }
        let before = reader.growing().clone();
        reader.frames.look_anew().map_err(io)?;
        reader.frames.keep();
        let begin = reader.frames.position();
        let mut read = VecDeque::new();
        let (at, broken) = loop {
            match reader.step().map_err(io)? {
                Item::Record { at, leaf, bytes, .. } => {
                    read.push_back(WalkStep::Record(Place { leaf, at, bytes }));
                }
                Item::Sealed { at, sealing } => {
                    read.push_back(WalkStep::Sealed(Seal {
                        checkpoint: sealing.checkpoint,
                        durable: sealing.durable,
                        at,
                    }));
                    self.passed = Some(reader.growing().newest());
                    self.read = read;
                    return Ok(ReadAttempt::Read);
                }
                Item::End(at) => break (at, None),
                Item::Broken { at, record, error } => {
                    break (at, Some((record, error.to_string())));
                }
            }
        };
        let nonzero = reader.frames.first_nonzero(at).map_err(io)?;
        let next = reader.growing().size() + 1;
        let (record, what) = match (broken, nonzero) {
            (Some(broken), _) => broken,
            (None, Some(byte)) => {
                (next, format!("its length is zero, and byte {byte} after it is not"))
            }
            (None, None) if is_last && at == HEADER_BYTES as u64 => {
                (next, "it is empty".to_owned())
            }
            (None, None) if at != begin => (next - 1, "no checkpoint is behind it".to_owned()),
            (None, None) if is_last => {
                self.rest_was_zeros = true;
                return Ok(ReadAttempt::Step(WalkStep::End));
            }
            (None, None) => {
                self.close();
                self.index += 1;
                return Ok(ReadAttempt::Next);
            }
        };
        let junk = if is_last {
            match reader.tail(&before, begin).map_err(io)? {
                // What is whole or zeros by now was being written.
                Tail::Clean | Tail::Written | Tail::Torn => None,
                Tail::Junk(junk) => Some(junk),
            }
        } else {
            Some(Junk { record, at, why: what })
        };
        let bytes = reader.frames.unread().to_vec();
        let torn = TornWrite { record: before.size() + 1, file: file.to_owned(), at: begin };
        reader.go_back(before);
        let step = match junk {
            Some(Junk { record, at, why }) => Err(Stop::Defect(self.defect(record, at, why))),
            None => Ok(WalkStep::TornWrite(torn)),
        };
        Ok(ReadAttempt::Broken(step, bytes))
    }

    /// Opens the segment at `index` and checks that it goes on where the one before ended.
    fn enter(&mut self) -> Result<(), Stop> {
        let Some(segment) = self.segments.get(self.index) else {
            return Err(Stop::NoJournal(self.directory.clone()));
        };
        let first = segment.first_seq;
        let of_header =
            |what: String| Stop::Defect(self.defect(first, 0, format!("its segment {what}")));
        let reader = match Reader::open(segment) {
            Ok(reader) => reader,
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
        let (log, before) = (reader.header().log(), reader.header().before());
        if let Some(expected) = self.log.filter(|expected| *expected != log) {
            return Err(of_header(format!(
                "is of the log {log}, and the one before of {expected}"
            )));
        }
        match self.passed {
            Some(passed) if passed.size < before.size => {
                let (from, to) = (passed.size + 1, before.size);
                return Err(of_header(format!(
                    "is not the next: records {from} to {to} are missing"
                )));
            }
            Some(passed) if passed != before => {
                let seq = passed.size;
                return Err(of_header(format!("does not go on after record {seq} that is here")));
            }
            _ => {}
        }
        self.log = Some(log);
        self.passed = Some(before);
        self.reader = Some(reader);
        Ok(())
    }

    fn close(&mut self) {
        self.bytes_before = self.bytes();
        (self.reader, self.rest_was_zeros) = (None, false);
    }

    fn defect(&self, record: u64, at: u64, what: String) -> Defect {
        Defect { record, file: self.file().to_owned(), at, what }
    }
}

/// How far the journal goes, as far as the last segment can be read: for saying how far a way is.
///
/// # Errors
/// [`Stop::Directory`], [`Stop::NoJournal`], [`Stop::Segment`].
pub fn newest(directory: &Path) -> Result<Head, Stop> {
    let files = list(directory)?;
    let last = files.last().ok_or_else(|| Stop::NoJournal(directory.to_owned()))?;
    let before = Head { size: last.first_seq.saturating_sub(1), root: TreeHash::empty() };
    let mut reader = match Reader::open(last) {
        Ok(reader) => reader,
        Err(SegmentError::Io { path, error }) => return Err(Stop::Segment { path, error }),
        // What is wrong with it is found on the way.
        Err(_) => return Ok(before),
    };
    while let Item::Record { .. } | Item::Sealed { .. } =
        reader.step().map_err(|error| unreadable(&last.path, error))?
    {}
    Ok(reader.growing().newest())
}

/// Whether a process holds the journal to write it.
#[must_use]
pub fn is_being_written(directory: &Path) -> bool {
    // The lock ends with the handle.
    let lock = |handle| Flock::lock(handle, FlockArg::LockSharedNonblock);
    files::open_directory(directory)
        .is_ok_and(|handle| matches!(lock(handle), Err((_, nix::Error::EWOULDBLOCK))))
}

/// The segments; there is at least one.
fn list(directory: &Path) -> Result<Vec<SegmentFile>, Stop> {
    let found = segments(directory)
        .map_err(|error| Stop::Directory { path: directory.to_owned(), error })?;
    if found.is_empty() { Err(Stop::NoJournal(directory.to_owned())) } else { Ok(found) }
}

fn unreadable(file: &Path, error: io::Error) -> Stop {
    Stop::Segment { path: file.to_owned(), error }
}

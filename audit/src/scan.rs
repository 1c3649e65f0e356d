//! Reading segments: their names in a directory, and their frames one by one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use host::files;
use signing_core::journal::{
    CHECKPOINT_MAX_BYTES, FRAME_ALIGNMENT, FRAME_MAX_BYTES, Frame, FrameError, HEADER_BYTES, Head,
    Header, HeaderError, Shape,
};

/// Ends a segment's name; its 20 digits before are the number of its first record.
const ENDING: &str = ".journal";
/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// The same of who looks whether the file went on: a few records. Each further read is longer.
const LOOK_BYTES: usize = 8 << 10;
const LONGER: usize = 8;

/// A segment's file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentFile {
    /// Its first record, by its name.
    pub first_seq: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// Why a segment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The system says no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The segment's file.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// Its header is none.
    #[error("{}: {error}", path.display())]
    Header {
        /// The segment's file.
        path: PathBuf,
        /// What is wrong with it.
        error: HeaderError,
    },
    /// It is not as long as it was made.
    #[error("{}: it has {found} bytes and was made with {expected}", path.display())]
    Size {
        /// The segment's file.
        path: PathBuf,
        /// Bytes there are.
        found: u64,
        /// Bytes there were.
        expected: u64,
    },
    /// Its header says that it begins elsewhere than its name says.
    #[error("{}: its first record is {found}, and its name says another number", path.display())]
    Name {
        /// The segment's file.
        path: PathBuf,
        /// The number in its header.
        found: u64,
    },
}

/// The name of the segment whose first record is `first_seq`.
#[must_use]
pub fn segment_name(first_seq: u64) -> String {
    format!("{first_seq:020}{ENDING}")
}

/// The segments in a directory, in the order of their records. Other files are none
/// of the journal's.
///
/// # Errors
/// If the directory cannot be read.
pub fn segments(directory: &Path) -> io::Result<Vec<SegmentFile>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let digits = path.file_name().and_then(|name| name.to_str()?.strip_suffix(ENDING));
        let number = digits
            .filter(|digits| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()));
        if let Some(first_seq) = number.and_then(|digits| digits.parse().ok()) {
            found.push(SegmentFile { first_seq, path });
        }
    }
    found.sort();
    Ok(found)
}

/// The frames of one segment, read in pieces: memory does not grow with the segment.
#[derive(Debug)]
pub struct Frames {
    file: File,
    header: Header,
    buffer: Vec<u8>,
    /// Where in the buffer the next frame begins.
    start: usize,
    /// Where in the buffer begins what is kept, if anything behind `start` is.
    kept: Option<usize>,
    /// Where in the file the buffer begins.
    buffer_at: u64,
    /// How many bytes are read next.
    read_next: usize,
}

/// A step through a segment.
#[derive(Debug)]
pub enum Step<'b> {
    /// A frame whose bytes are whole, and where it begins.
    Frame(u64, Frame<'b>),
    /// The records end here: the length is zero.
    End(u64),
    /// No whole frame begins here.
    Broken(u64, FrameError),
}

impl Frames {
    /// Opens a segment and reads its header.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn open(segment: &SegmentFile) -> Result<Self, SegmentError> {
        let path = || segment.path.clone();
        let file = files::open(&segment.path);
        let file = file.map_err(|error| SegmentError::Io { path: path(), error })?;
        Self::of(file, segment)
    }

    /// The frames of a segment that is open.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn of(file: File, segment: &SegmentFile) -> Result<Self, SegmentError> {
        let path = || segment.path.clone();
        let io = |error| SegmentError::Io { path: path(), error };
        let found = file.metadata().map_err(io)?.len();
        let mut bytes = [0; HEADER_BYTES];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(SegmentError::Header { path: path(), error: HeaderError::Magic });
            }
            Err(error) => return Err(io(error)),
        }
        let header =
            Header::parse(&bytes).map_err(|error| SegmentError::Header { path: path(), error })?;
        if header.before().size + 1 != segment.first_seq {
            return Err(SegmentError::Name { path: path(), found: header.before().size + 1 });
        }
        if found != header.segment_bytes {
            let expected = header.segment_bytes;
            return Err(SegmentError::Size { path: path(), found, expected });
        }
        let buffer_at = HEADER_BYTES as u64;
        let (buffer, read_next) = (Vec::new(), CHUNK_BYTES);
        Ok(Self { file, header, buffer, start: 0, kept: None, buffer_at, read_next })
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where the next frame begins.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.buffer_at + self.start as u64
    }

    /// The next frame, or what is there instead. After [`Step::End`] or
    /// [`Step::Broken`] it stays where it is.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn step(&mut self) -> io::Result<Step<'_>> {
        let at = self.position();
        self.ahead()?;
        // Not the answer just given: that one would keep all of `self` borrowed.
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        match Frame::parse(rest) {
            Ok(None) => Ok(Step::End(at)),
            Err(error) => Ok(Step::Broken(at, error)),
            Ok(Some(frame)) => {
                self.start += frame.bytes();
                Ok(Step::Frame(at, frame))
            }
        }
    }

    /// Forgets what was read ahead if it is no frame: the file may have been written to since.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn look_anew(&mut self) -> io::Result<()> {
        if !matches!(Frame::parse(self.ahead()?), Ok(Some(_))) {
            self.look_again();
        }
        Ok(())
    }

    /// What begins where the next frame does, as it was read: as many bytes as its length
    /// says, or as the shortest frame has.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        let ahead = self.buffer.get(self.start..).unwrap_or_default();
        ahead.get(..next_bytes(ahead)).unwrap_or(ahead)
    }

    /// Whether what comes next says that it is a checkpoint.
    pub(crate) fn is_checkpoint_next(&mut self) -> io::Result<bool> {
        Ok(Shape::is_checkpoint(self.ahead()?))
    }

    /// Keeps what is read from here on, until it is called again.
    pub fn keep(&mut self) {
        self.kept = Some(self.start);
    }

    /// Goes back to where [`Frames::keep`] was called.
    pub fn go_back(&mut self) {
        self.start = self.kept.unwrap_or(self.start);
    }

    /// These bytes of the file, if they are kept.
    #[must_use]
    pub fn raw(&self, at: u64, bytes: usize) -> &[u8] {
        let start = usize::try_from(at.saturating_sub(self.buffer_at)).unwrap_or(usize::MAX);
        self.buffer.get(start..start.saturating_add(bytes)).unwrap_or_default()
    }

    /// Forgets what was read ahead, so that the next step sees what is there now.
    pub fn look_again(&mut self) {
        self.buffer_at = self.position();
        self.buffer.clear();
        (self.start, self.kept) = (0, None);
        self.read_next = LOOK_BYTES;
    }

    /// Whether something stands where the next frame begins.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn has_more(&self) -> io::Result<bool> {
        let mut length = [0; 4];
        let read = self.file.read_at(&mut length, self.position())?;
        Ok(length.iter().take(read).any(|byte| *byte != 0))
    }

    /// Whether the file is still the one of that name.
    ///
    /// # Errors
    /// If it cannot be asked for.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let (held, named) = (self.file.metadata()?, fs::metadata(path)?);
        Ok((held.dev(), held.ino()) == (named.dev(), named.ino()))
    }

    /// The file itself.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether the last checkpoint is `head`, by the end of the file alone: so much is left
    /// unused there at most as the longest record takes.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn ends_with(&self, head: Head) -> io::Result<bool> {
        let mut window = vec![0; 2 * (FRAME_MAX_BYTES + CHECKPOINT_MAX_BYTES)];
        let whole = self.header.segment_bytes;
        let from = whole.saturating_sub(window.len() as u64);
        let from = from.next_multiple_of(FRAME_ALIGNMENT as u64).max(HEADER_BYTES as u64);
        let read = read_at(&self.file, &mut window, from)?;
        let bytes = window.get(..read).unwrap_or_default();
        Ok((0..read).step_by(FRAME_ALIGNMENT).any(|offset| {
            let rest = bytes.get(offset..).unwrap_or_default();
            let Ok(Some(Frame::Checkpoint(sealing))) = Frame::parse(rest) else { return false };
            let unused = rest.get(sealing.bytes..).unwrap_or_default();
            let is_last = unused.iter().all(|byte| *byte == 0);
            is_last && Head::of(sealing.checkpoint.checkpoint()) == head
        }))
    }

    /// Looks for the first byte that is not zero at or after `from`.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn first_nonzero(&self, from: u64) -> io::Result<Option<u64>> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut at = from;
        loop {
            let read = self.file.read_at(&mut chunk, at)?;
            let bytes = chunk.get(..read).unwrap_or_default();
            if let Some(index) = bytes.iter().position(|byte| *byte != 0) {
                return Ok(Some(at + index as u64));
            }
            if read == 0 {
                return Ok(None);
            }
            at += read as u64;
        }
    }

    /// What was read and not stepped over, whole as far as the next frame goes.
    fn ahead(&mut self) -> io::Result<&[u8]> {
        loop {
            let ahead = self.buffer.get(self.start..).unwrap_or_default();
            if ahead.len() >= next_bytes(ahead) || self.fill()? == 0 {
                return Ok(self.buffer.get(self.start..).unwrap_or_default());
            }
        }
    }

    /// Drops what was read, and reads on from there: how many bytes, 0 at the end of the file.
    fn fill(&mut self) -> io::Result<usize> {
        let gone = self.kept.unwrap_or(self.start);
        self.buffer.drain(..gone);
        self.buffer_at += gone as u64;
        self.start -= gone;
        self.kept = self.kept.map(|_| 0);
        let filled = self.buffer.len();
        self.buffer.resize(filled + self.read_next, 0);
        // Who finds more than a few records reads on in large pieces.
        self.read_next = CHUNK_BYTES.min(LONGER * self.read_next);
        let place = self.buffer.get_mut(filled..).unwrap_or_default();
        let read = read_at(&self.file, place, self.buffer_at + filled as u64)?;
        self.buffer.truncate(filled + read);
        Ok(read)
    }
}

/// How many bytes the frame at the start of `ahead` has by its length, or the shortest one where it says none.
fn next_bytes(ahead: &[u8]) -> usize {
    Shape::parse(ahead).ok().flatten().unwrap_or(Shape::new(false, 1)).bytes
}

/// Reads until `place` is full or the file ends.
pub(crate) fn read_at(file: &File, place: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = place.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

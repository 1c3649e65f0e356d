//! The one way through a segment: each frame in its place, held against the tree of all before
//! it. Recovery, the check of older segments, linkage and the walk all read by it.

use std::fs::File;
use std::io;

use signing_core::journal::{FrameError, Growing, Grown, Header, Leaf, Sealing};

use crate::scan::{Frames, SegmentError, SegmentFile, Step};
use crate::tail::{Place, Tail};

/// A segment that is read from its beginning.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) frames: Frames,
    growing: Growing,
}

/// What stands at a place.
#[derive(Debug)]
pub(crate) enum Item<'b> {
    /// The next record. No checkpoint covers it yet.
    Record { at: u64, leaf: Leaf, bytes: usize, body: &'b [u8] },
    /// A checkpoint that covers what is before it. Who signed it is not checked.
    Sealed { at: u64, sealing: Sealing },
    /// The frames end here: the length is zero.
    End(u64),
    /// What stands here is no frame, or not the next one: the record that this is about.
    Broken { at: u64, record: u64, error: FrameError },
}

impl Reader {
    /// Opens a segment.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub(crate) fn open(file: &SegmentFile) -> Result<Self, SegmentError> {
        Ok(Self::new(Frames::open(file)?))
    }

    /// Reads a segment that is open.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub(crate) fn of(handle: File, file: &SegmentFile) -> Result<Self, SegmentError> {
        Ok(Self::new(Frames::of(handle, file)?))
    }

    fn new(frames: Frames) -> Self {
        let growing = frames.header().growing();
        Self { frames, growing }
    }

    pub(crate) fn header(&self) -> &Header {
        self.frames.header()
    }

    /// All that was read so far.
    pub(crate) fn growing(&self) -> &Growing {
        &self.growing
    }

    /// The next frame. After [`Item::End`] or [`Item::Broken`] it is of no more use, but after
    /// [`Reader::go_back`].
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn step(&mut self) -> io::Result<Item<'_>> {
        let record = self.growing.about(self.frames.is_checkpoint_next()?);
        Ok(match self.frames.step()? {
            Step::End(at) => Item::End(at),
            Step::Broken(at, error) => Item::Broken { at, record, error },
            Step::Frame(at, frame) => {
                let bytes = frame.bytes();
                match self.growing.take(frame) {
                    Ok(Grown::Record { leaf, body }) => Item::Record { at, leaf, bytes, body },
                    Ok(Grown::Sealed(sealing)) => Item::Sealed { at, sealing },
                    Err(error) => Item::Broken { at, record, error },
                }
            }
        })
    }

    /// What stands from `end` on, behind everything in `before`.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn tail(&self, before: &Growing, end: u64) -> io::Result<Tail> {
        let (file, bytes) = (self.frames.file(), self.header().segment_bytes);
        Place { file, bytes, before, end, claimed: None }.judge()
    }

    /// Goes back to where it keeps, when this was all that was read, and reads anew from there.
    pub(crate) fn go_back(&mut self, growing: Growing) {
        self.frames.go_back();
        self.frames.look_again();
        self.growing = growing;
    }
}

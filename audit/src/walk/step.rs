//! What a way through a journal meets, and why it ends.

use std::fmt;
use std::io;
use std::path::PathBuf;

use signing_core::journal::{HEADER_BYTES, Leaf};
use signing_core::tree::SignedCheckpoint;

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
    /// The directory cannot be read.
    #[error("{}: {error}", path.display())]
    Directory {
        /// The journal's directory.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// No file in the directory has a segment's name.
    #[error("{}: there is no journal here: no file is named like 00000000000000000001.journal", .0.display())]
    NoJournal(PathBuf),
    /// A segment cannot be read.
    #[error("{}: {error}", path.display())]
    Segment {
        /// The segment's file.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// The journal is not as it was written.
    #[error("{0}")]
    Defect(Defect),
}

/// A step on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalkStep {
    /// A record that a checkpoint covers.
    Record(Place),
    /// The checkpoint of the records before. It fits them; who signed it is not checked.
    Sealed(Seal),
    /// The end of the journal.
    End,
    /// At the end of the last segment stands a write of which not all is there. Either
    /// it is being written, or it was torn, and the next start cuts it.
    TornWrite(TornWrite),
}

/// A torn write, which is no defect: nothing here says that it was on disk, so nobody was told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornWrite {
    /// The first record of which not all is there.
    pub record: u64,
    /// The segment.
    pub file: PathBuf,
    /// The byte at which the write begins, or what of it is missing.
    pub at: u64,
}

impl fmt::Display for TornWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, file, at } = self;
        write!(
            f,
            "the journal ends in the middle of a write, at record {record} in {} at byte {at}, as after a \
             crash: the next start cuts that write and records the cut",
            file.display()
        )
    }
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The record.
    pub leaf: Leaf,
    /// The byte at which it begins.
    pub at: u64,
    /// How many bytes it takes.
    pub bytes: usize,
}

/// A checkpoint in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// What it states, and its signatures.
    pub checkpoint: SignedCheckpoint,
    /// The newest record that was known to be on disk when it was written.
    pub durable: u64,
    /// The byte at which it begins.
    pub at: u64,
}

impl Place {
    /// Whether it is the first of its segment.
    #[must_use]
    pub fn begins_segment(&self) -> bool {
        self.at == HEADER_BYTES as u64
    }
}

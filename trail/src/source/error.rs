//! Why a journal cannot be shipped on, with what to do.

use std::io;
use std::path::PathBuf;

use audit::walk::Stop;
use signing_core::journal::{FrameError, Head};

/// Why a journal cannot be shipped on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Its files cannot be read, or are not as they were written.
    #[error(transparent)]
    Stop(#[from] Stop),
    /// What an idle writer states cannot be read.
    #[error("{}: {error}", path.display())]
    Stated {
        /// The directory.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// A checkpoint is not by an audit key of the registry.
    #[error(
        "{}: the checkpoint of record {size}: {error}; put the journal's audit key into the registry, or find out who wrote it",
        path.display()
    )]
    Checkpoint {
        /// The directory.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// What is wrong with it.
        error: FrameError,
    },
    /// The sink has records that are not here, or other ones.
    #[error(
        "{}: the sink holds record {} with the root {}, and the journal {here}; it was cut short, rewritten or replaced by a copy: bring the right one back",
        path.display(), known.size, known.root
    )]
    Other {
        /// The directory.
        path: PathBuf,
        /// What the sink knows.
        known: Head,
        /// What is here.
        here: String,
    },
    /// A body is no record.
    #[error("{}: record {seq} is no record that this version knows: use a later version", path.display())]
    Unknown {
        /// The directory.
        path: PathBuf,
        /// The record's number.
        seq: u64,
    },
}

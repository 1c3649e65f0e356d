//! What an archive has, by what each object is; who hears of it, and why it cannot be read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use signing_core::journal::Leaf;
use signing_core::tree::LogId;

use super::error::ArchiveError;
use super::name::{Name, Part};
use super::verify::Found;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] ArchiveError),
    /// A file or a directory.
    #[error("{}: {error}", path.display())]
    File {
        /// The path of the file or directory.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// There is nothing of an archive.
    #[error("{0}: there is no object of an archive: audit/YYYY/MM/DD/<log>-<first>-<last>.jsonl")]
    Empty(String),
}

/// Who hears what is sound.
pub trait ReadObserver {
    /// A record, in the order of its log.
    fn record(&mut self, log: LogId, leaf: Leaf);
    /// The payload of a row that has an object of its own.
    fn event(&mut self, id: &str, payload: &serde_json::Map<String, serde_json::Value>);
    /// How many objects are read, and how many there are.
    fn progress(&mut self, read: u64, of: u64);
}

/// One object, and what may be wrong with how it is kept.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) key: String,
    /// Of a bucket: the version that was written first.
    pub(super) version: Option<String>,
}

/// The objects of an archive.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) parts: BTreeMap<Part, Pair>,
    pub(super) events: BTreeMap<String, Place>,
}

/// Records and their checkpoint.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub(super) records: Option<Place>,
    pub(super) checkpoint: Option<Place>,
}

impl Listing {
    /// Adds an object, unless another one has its name: in another day, or in a copy.
    pub(super) fn add(&mut self, name: Name, place: Place, found: &mut Found) {
        let key = place.key.clone();
        let before = match name {
            Name::Records(part) => self.parts.entry(part).or_default().records.replace(place),
            Name::Checkpoint(part) => self.parts.entry(part).or_default().checkpoint.replace(place),
            Name::Event(id) => self.events.insert(id, place),
        };
        if let Some(before) = before {
            found.defect(format!("{key}: {} is the same object", before.key));
        }
    }

    /// How many there are.
    pub(super) fn objects(&self) -> u64 {
        (self.parts.len() + self.events.len()) as u64
    }
}

/// The error of a file.
pub(super) fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> ReadError + '_ {
    move |error| ReadError::File { path: path.to_owned(), error }
}

//! The state directory: the newest record of the journal, and what has to be known for ever
//! even if old segments were moved away. Replaced whole; one process holds it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use signing_core::breakglass::wire::JournalHead;
use signing_core::json::{self, JsonError};

use crate::past::Past;

const NAME: &str = "breakglass-signer.json";

/// What is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// The newest record that is known to have been on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<JournalHead>,
    /// What has to be known for ever.
    pub past: Past,
}

/// The directory.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("state.dir {}: {why}", file.display())]
pub struct StoreError {
    file: PathBuf,
    why: String,
}

impl Store {
    /// Opens it and reads what is there; nothing yet is fine, damage is not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(directory: &Path) -> Result<(Self, Stored), StoreError> {
        let error = |why: String| StoreError { file: directory.join(NAME), why };
        let stored = match fs::read(directory.join(NAME)) {
            Ok(bytes) => Stored::parse(&bytes).map_err(|why| {
                error(format!(
                    "is damaged: {why}; bring a copy back, since it knows which requests were used"
                ))
            })?,
            Err(why) if why.kind() == io::ErrorKind::NotFound => Stored::default(),
            Err(why) => return Err(error(why.to_string())),
        };
        let store = Self { directory: directory.to_owned() };
        store.save(&stored).map_err(|why| {
            error(format!(
                "cannot be written: {why}; the directory has to exist and belong to this user"
            ))
        })?;
        Ok((store, stored))
    }

    /// What is there, without touching it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn peek(directory: &Path) -> io::Result<Stored> {
        match fs::read(directory.join(NAME)) {
            Ok(bytes) => Stored::parse(&bytes).map_err(io::Error::other),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Stored::default()),
            Err(why) => Err(why),
        }
    }

    /// Replaces it: write, fsync, rename, fsync of the directory. Dying anywhere leaves the one
    /// or the other.
    ///
    /// # Errors
    /// If that fails.
    pub fn save(&self, stored: &Stored) -> io::Result<()> {
        let (file, new) = (self.directory.join(NAME), self.directory.join(format!("{NAME}.new")));
        let bytes = stored.encode()?;
        let mut out =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        out.write_all(&bytes)?;
        out.sync_all()?;
        fs::rename(&new, &file)?;
        File::open(&self.directory)?.sync_all()
    }
}

impl Stored {
    /// Reads the file's content.
    ///
    /// # Errors
    /// If it is not what was written.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        json::from_file(bytes)
    }

    /// The file's content.
    ///
    /// # Errors
    /// None, in practice: its form is plain.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
    }
}

//! The state directory: the newest record of the journal, and what has to be known for ever
//! even if old segments were moved away. Replaced whole; one process holds it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use audit::Presence;
use host::files;
use serde::{Deserialize, Serialize};
use signing_core::breakglass::wire::JournalHead;
use signing_core::json::{self, JsonError};

use crate::history::History;

const NAME: &str = "breakglass-signer.json";
/// What to do where it cannot be read.
const UNKNOWN: &str = "it knows which requests were used and which keys are destroyed, also where the \
                       journal's old records were moved away: bring a copy back, or make it of the journal: \
                       `breakglass-signer state rebuild --config FILE --reason WHY`; the signer then starts \
                       sealed";

/// What is in it. Every member is always written, so one that is missing was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// The newest record that is known to have been on disk.
    #[serde(deserialize_with = "json::written")]
    pub witness: Option<JournalHead>,
    /// What has to be known for ever.
    #[serde(rename = "past")]
    pub history: History,
    /// Why no session begins until an operator has ended that.
    #[serde(deserialize_with = "json::written")]
    pub seal: Option<Seal>,
}

/// What is doubted, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// RFC 3339.
    pub at: String,
    /// What, with what to do.
    pub detail: String,
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
    /// The state in this directory; nothing is read yet.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Reads what is there, beside the journal in `journal`. Nothing is fine while there is no journal
    /// either; damage is not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read(&self, journal: &Path) -> Result<Stored, StoreError> {
        match files::read(&self.file()) {
            Ok(bytes) => Stored::parse(&bytes)
                .map_err(|why| self.error(format!("is damaged: {why}; {UNKNOWN}"))),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                // What cannot be looked at may be there.
                let is_there = Presence::inspect(journal, "").is_there != Some(false);
                let gone =
                    || self.error(format!("it is gone, and the journal is there; {UNKNOWN}"));
                if is_there { Err(gone()) } else { Ok(Stored::default()) }
            }
            Err(why) => Err(self.error(why.to_string())),
        }
    }

    /// Replaces it, as the first thing that a process does with it.
    ///
    /// # Errors
    /// [`StoreError`], with what to do.
    pub fn begin(&self, stored: &Stored) -> Result<(), StoreError> {
        self.save(stored).map_err(|why| {
            self.error(format!(
                "cannot be written: {why}; the directory has to exist and belong to this user"
            ))
        })
    }

    /// Renames it, if it is there, so that nothing in it is lost.
    ///
    /// # Errors
    /// If that fails.
    pub fn put_aside(&self) -> io::Result<Option<PathBuf>> {
        let file = self.file();
        let aside = (1_u32..)
            .map(|number| self.directory.join(format!("{NAME}.aside-{number}")))
            .find(|aside| fs::symlink_metadata(aside).is_err());
        match (fs::symlink_metadata(&file), aside) {
            (Ok(_), Some(aside)) => fs::rename(&file, &aside).map(|()| Some(aside)),
            _ => Ok(None),
        }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    fn error(&self, why: String) -> StoreError {
        StoreError { file: self.file(), why }
    }

    /// What is there, without touching it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn peek(directory: &Path) -> io::Result<Stored> {
        match files::read(&directory.join(NAME)) {
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
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut out = files::open_with(&mut options, &new)?;
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_state_file_without_one_of_its_members_is_damaged() {
        let bytes = Stored::default().encode().unwrap_or_default();
        let whole: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        assert!(Stored::parse(&bytes).is_ok());
        for (place, count) in [("", 3), ("/past", 6)] {
            let members = whole.pointer(place).and_then(Value::as_object);
            let members: Vec<_> = members.into_iter().flatten().map(|(name, _)| name).collect();
            assert_eq!(members.len(), count, "{whole}");
            for member in members {
                let mut less = whole.clone();
                let fields = less.pointer_mut(place).and_then(Value::as_object_mut);
                assert!(fields.is_some_and(|fields| fields.remove(member).is_some()));
                let why = Stored::parse(less.to_string().as_bytes()).err();
                let why = why.map(|why| why.to_string()).unwrap_or_default();
                assert!(why.contains(&format!("missing field `{member}`")), "{member}: {why}");
            }
        }
    }
}

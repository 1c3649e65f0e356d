//! The freeze and the seals on disk: they survive restarts.
//!
//! One small JSON file, replaced as a whole: write a new file, fsync it, rename
//! it over the old one, fsync the directory. Whoever dies in between leaves the
//! old state or the new, never half of one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use signing_core::Kid;
use time::OffsetDateTime;

/// Name of the file in the state directory.
const FILE: &str = "freeze-and-seals.json";

/// What is stored, and the right to change it: the directory is locked, so that
/// no second proxy works on it.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    state: Stored,
    seals: BTreeMap<Kid, StoredSeal>,
    _lock: Flock<File>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    freeze: Option<StoredFreeze>,
    seals: BTreeMap<String, StoredSeal>,
}

/// A freeze on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredFreeze {
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
    /// When.
    #[serde(with = "instant")]
    pub at: OffsetDateTime,
}

/// A seal on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredSeal {
    /// What is doubted.
    pub detail: String,
    /// When.
    #[serde(with = "instant")]
    pub at: OffsetDateTime,
}

/// Why the store can not be used. The proxy does not start without it: what it
/// can not read could be a freeze.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory can not be used.
    #[error("state.dir {}: {error}; create it and give it to the user of signing-proxy, mode 0700", directory.display())]
    Directory {
        /// Which.
        directory: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process holds it.
    #[error("state.dir {}: another signing-proxy works on it; give each its own", .0.display())]
    Locked(PathBuf),
    /// The file can not be read or written.
    #[error("{}: {error}", file.display())]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is not what was written.
    #[error("{}: {why}; it holds the freeze and the seals, so nothing is signed until it is restored, or removed by someone who knows that no freeze and no seal is in force", file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// Why.
        why: String,
    },
}

impl Store {
    /// Opens the store in `directory`, which has to exist. No file means that
    /// nothing was ever frozen or sealed here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let cannot = |error| StoreError::Directory { directory: directory.to_owned(), error };
        let lock_file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(directory.join("lock"))
            .map_err(cannot)?;
        let lock = Flock::lock(lock_file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| StoreError::Locked(directory.to_owned()))?;
        let state = read(&directory.join(FILE))?;
        let seals = parse_seals(&state, &directory.join(FILE))?;
        Ok(Self { directory: directory.to_owned(), state, seals, _lock: lock })
    }

    /// The freeze in force.
    #[must_use]
    pub fn freeze(&self) -> Option<&StoredFreeze> {
        self.state.freeze.as_ref()
    }

    /// The seals in force.
    #[must_use]
    pub fn seals(&self) -> &BTreeMap<Kid, StoredSeal> {
        &self.seals
    }

    /// Sets or ends the freeze. When it returns, that is on disk.
    ///
    /// # Errors
    /// [`StoreError`]; what is stored is as it was.
    pub fn set_freeze(&mut self, freeze: Option<StoredFreeze>) -> Result<(), StoreError> {
        let next = Stored { freeze, ..self.state.clone() };
        self.replace(next)
    }

    /// Sets or ends the seal of `kid`. When it returns, that is on disk.
    ///
    /// # Errors
    /// [`StoreError`]; what is stored is as it was.
    pub fn set_seal(&mut self, kid: &Kid, seal: Option<StoredSeal>) -> Result<(), StoreError> {
        let mut next = self.state.clone();
        match seal {
            Some(seal) => next.seals.insert(kid.to_string(), seal),
            None => next.seals.remove(kid.as_str()),
        };
        self.replace(next)
    }

    fn replace(&mut self, next: Stored) -> Result<(), StoreError> {
        let file = self.directory.join(FILE);
        let seals = parse_seals(&next, &file)?;
        write(&self.directory, &file, &next).map_err(|error| StoreError::Io { file, error })?;
        self.state = next;
        self.seals = seals;
        Ok(())
    }
}

fn read(file: &Path) -> Result<Stored, StoreError> {
    match fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| StoreError::Damaged { file: file.to_owned(), why: error.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Stored::default()),
        Err(error) => Err(StoreError::Io { file: file.to_owned(), error }),
    }
}

fn parse_seals(stored: &Stored, file: &Path) -> Result<BTreeMap<Kid, StoredSeal>, StoreError> {
    let parse = |(kid, seal): (&String, &StoredSeal)| {
        let kid = Kid::parse(kid).map_err(|error| StoreError::Damaged {
            file: file.to_owned(),
            why: format!("seal of {kid:?}: {error}"),
        })?;
        Ok((kid, seal.clone()))
    };
    stored.seals.iter().map(parse).collect()
}

fn write(directory: &Path, file: &Path, state: &Stored) -> io::Result<()> {
    let new = directory.join(format!("{FILE}.new"));
    let mut bytes = serde_json::to_vec_pretty(state)?;
    bytes.push(b'\n');
    let mut handle =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    handle.write_all(&bytes)?;
    handle.sync_all()?;
    // Dying before this line leaves the old state in force.
    fs::rename(&new, file)?;
    // Dying before this line: the new state may or may not survive a power loss;
    // the caller has not been told that it does.
    File::open(directory)?.sync_all()
}

mod instant {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    pub(super) fn serialize<S: Serializer>(at: &OffsetDateTime, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&crate::time::rfc3339(*at))
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(
        from: D,
    ) -> Result<OffsetDateTime, D::Error> {
        let text = String::deserialize(from)?;
        OffsetDateTime::parse(&text, &Rfc3339).map_err(D::Error::custom)
    }
}

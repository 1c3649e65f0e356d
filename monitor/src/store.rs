//! The freeze and the seals on disk: they survive restarts. So does the journal's newest
//! record, as far as it was seen: a journal that lacks it is not the one that was here.
//!
//! One small JSON file, replaced as a whole: write a new file, fsync it, rename
//! it over the old one, fsync the directory. Whoever dies in between leaves the
//! old state or the new, never half of one. A thread of its own writes, so that
//! a disk that hangs holds up no gate and no freeze.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};

use host::files;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use signing_core::fleet::{FreezeId, Memory};
use signing_core::journal::{Frozen, Head, InForce, KeyModes, OpenIncident, PeerLogs, SealedFor};
use signing_core::tree::{LogId, TreeHash};
use signing_core::{Kid, json};
use tokio::sync::oneshot;

/// Name of the file in the state directory.
const FILE: &str = "freeze-and-seals.json";

/// Saves that may wait for the disk.
const SAVES_MAX: usize = 64;

/// The state directory, locked, so that no second proxy works on it.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    _lock: Flock<File>,
}

/// What is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The freeze and the seals in force.
    pub in_force: InForce,
    /// The journal's seal, if it is in force.
    pub audit_seal: Option<SealedFor>,
    /// Whether this member has ever read its fleet.
    pub has_read_fleet: bool,
    /// The freezes of the fleet that a statement ended, the newest last.
    pub ended: VecDeque<FreezeId>,
    /// How much of the journal was on disk, at most some seconds ago.
    pub witness: Option<Witness>,
}

/// How much of a journal was on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Of which journal.
    pub log: LogId,
    /// How far it went.
    pub head: Head,
}

/// Saves on a thread of its own, in order.
#[derive(Clone, Debug)]
pub(super) struct Saver(SyncSender<Save>);

struct Save {
    state: Stored,
    done: oneshot::Sender<Result<(), String>>,
}

/// Why the store cannot be used. The proxy does not start without it: what it
/// cannot read could be a freeze.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be used.
    #[error("state.dir {}: {error}; create it and give it to the user of signing-proxy, mode 0700", directory.display())]
    Directory {
        /// The state directory.
        directory: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// Another process holds it.
    #[error("state.dir {}: another signing-proxy works on it; give each its own", .0.display())]
    Locked(PathBuf),
    /// The file cannot be read or written.
    #[error("{}: {error}", file.display())]
    Io {
        /// `freeze-and-seals.json` in the state directory.
        file: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// There is a journal and no file.
    #[error("{}: it is gone, and the journal is there; it holds the freeze and the seals, so nothing is signed until it is restored, or made again of the journal: `signing-proxy state rebuild --config FILE --reason WHY`; the proxy then starts frozen", .0.display())]
    Missing(PathBuf),
    /// The system gives no thread to write with.
    #[error("the store's thread does not start: {0}")]
    Thread(io::Error),
    /// The file is not what was written.
    #[error("{}: {why}; it holds the freeze and the seals, so nothing is signed until it is restored, or made again of the journal: `signing-proxy state rebuild --config FILE --reason WHY`", file.display())]
    Damaged {
        /// `freeze-and-seals.json` in the state directory.
        file: PathBuf,
        /// What is wrong, as a sentence for a person.
        why: String,
    },
}

impl Store {
    /// Opens the store in `directory`, which has to exist, and reads what is stored. None: the
    /// file does not exist, as before `init`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(directory: &Path) -> Result<(Self, Option<Stored>), StoreError> {
        let (store, stored) = Self::open_for_rebuild(directory)?;
        Ok((store, stored?))
    }

    /// As [`Self::open`], also if what is stored cannot be read.
    ///
    /// # Errors
    /// [`StoreError`] of the directory; the inner one is the file's.
    pub fn open_for_rebuild(
        directory: &Path,
    ) -> Result<(Self, Result<Option<Stored>, StoreError>), StoreError> {
        let cannot = |error| StoreError::Directory { directory: directory.to_owned(), error };
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock_file = files::open_with(&mut options, &directory.join("lock")).map_err(cannot)?;
        let lock = Flock::lock(lock_file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| StoreError::Locked(directory.to_owned()))?;
        let store = Self { directory: directory.to_owned(), _lock: lock };
        let stored = read(&store.file());
        Ok((store, stored))
    }

    /// What is stored in a state directory that nobody opened.
    ///
    /// # Errors
    /// [`StoreError`] of the file.
    pub fn peek(directory: &Path) -> Result<Option<Stored>, StoreError> {
        read(&Self::file_in(directory))
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        Self::file_in(&self.directory)
    }

    /// The file in a state directory that nobody opened.
    #[must_use]
    pub fn file_in(directory: &Path) -> PathBuf {
        directory.join(FILE)
    }

    /// Renames the file, if there is one, so that nothing in it is lost.
    ///
    /// # Errors
    /// [`StoreError::Io`]; it has its name still.
    pub fn put_aside(&self) -> Result<Option<PathBuf>, StoreError> {
        let file = self.file();
        let aside = (1_u32..)
            .map(|number| self.directory.join(format!("{FILE}.aside-{number}")))
            .find(|aside| fs::symlink_metadata(aside).is_err());
        match (fs::symlink_metadata(&file), aside) {
            (Ok(_), Some(aside)) => match fs::rename(&file, &aside) {
                Ok(()) => Ok(Some(aside)),
                Err(error) => Err(StoreError::Io { file, error }),
            },
            _ => Ok(None),
        }
    }

    /// Replaces what is stored. When it returns, that is on disk.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the old state or the new is stored then.
    pub fn save(&self, state: &Stored) -> Result<(), StoreError> {
        let file = self.file();
        write(&self.directory, &file, state).map_err(|error| StoreError::Io { file, error })
    }

    /// Moves the store to a thread of its own.
    pub(super) fn into_saver(self) -> io::Result<Saver> {
        let (saves, jobs) = mpsc::sync_channel::<Save>(SAVES_MAX);
        let body = move || {
            while let Ok(Save { state, done }) = jobs.recv() {
                // Whoever asked may be gone; it is on disk all the same.
                let _ = done.send(self.save(&state).map_err(|error| error.to_string()));
            }
        };
        std::thread::Builder::new().name("store".into()).spawn(body)?;
        Ok(Saver(saves))
    }
}

impl Saver {
    /// Saves `state` after what was given before. What comes back resolves once
    /// it is on disk; a saver that is gone or too far behind says so.
    pub(super) fn save(&self, state: Stored) -> oneshot::Receiver<Result<(), String>> {
        let (done, saved) = oneshot::channel();
        if let Err(refused) = self.0.try_send(Save { state, done }) {
            let (mpsc::TrySendError::Full(save) | mpsc::TrySendError::Disconnected(save)) = refused;
            let _ = save.done.send(Err("the disk does not keep up".to_owned()));
        }
        saved
    }
}

/// The file's own form: kids as they are written, checked when read. Every member is always written, so
/// one that is missing was taken away, and with it a freeze or a seal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    #[serde(deserialize_with = "json::written")]
    freeze: Option<Frozen>,
    #[serde(deserialize_with = "json::written")]
    incident: Option<OpenIncident>,
    seals: BTreeMap<String, SealedFor>,
    fleet: FleetOnDisk,
    #[serde(deserialize_with = "json::written")]
    audit_seal: Option<SealedFor>,
    #[serde(deserialize_with = "json::written")]
    journal: Option<WitnessOnDisk>,
}

/// What of the fleet has to survive: a member that forgot a freeze would sign.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetOnDisk {
    has_read: bool,
    held: BTreeMap<FreezeId, Frozen>,
    ended: VecDeque<FreezeId>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WitnessOnDisk {
    log: String,
    size: u64,
    root: String,
}

fn read(file: &Path) -> Result<Option<Stored>, StoreError> {
    let damaged = |why: String| StoreError::Damaged { file: file.to_owned(), why };
    let bytes = match files::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // No regular file, or far too long.
        Err(error) if error.kind() == io::ErrorKind::Other => {
            return Err(damaged(error.to_string()));
        }
        Err(error) => return Err(StoreError::Io { file: file.to_owned(), error }),
    };
    Stored::parse(&bytes).map(Some).map_err(damaged)
}

impl Stored {
    /// Reads the file's content.
    ///
    /// # Errors
    /// Why it is not what was written.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let on_disk: StateFile = json::from_file(bytes).map_err(|error| error.to_string())?;
        let seals = on_disk.seals.into_iter().map(|(kid, seal)| {
            let parsed = Kid::parse(&kid).map_err(|why| format!("seal of {kid:?}: {why}"))?;
            Ok::<_, String>((parsed, seal))
        });
        let witness = on_disk.journal.map(|witness| {
            let WitnessOnDisk { log, size, root } = witness;
            let parsed = LogId::parse(&log).zip(TreeHash::parse(&root));
            let (log, root) =
                parsed.ok_or_else(|| format!("journal {log:?}, {root:?}: not hex"))?;
            Ok::<_, String>(Witness { log, head: Head { size, root } })
        });
        let seals = seals.collect::<Result<_, _>>()?;
        Ok(Self {
            // The logs of emergency signers are the journal's to tell.
            in_force: InForce {
                freeze: on_disk.freeze,
                fleet: on_disk.fleet.held,
                incident: on_disk.incident,
                seals,
                key_modes: KeyModes::default(),
                signer_logs: PeerLogs::default(),
            },
            audit_seal: on_disk.audit_seal,
            has_read_fleet: on_disk.fleet.has_read,
            ended: on_disk.fleet.ended,
            witness: witness.transpose()?,
        })
    }

    /// What a member of a fleet remembers.
    #[must_use]
    pub fn fleet_memory(&self) -> Memory {
        Memory {
            has_read: self.has_read_fleet,
            held: self.in_force.fleet.clone(),
            ended: self.ended.clone(),
        }
    }

    /// Takes in what a member of a fleet has to remember.
    pub fn remember(&mut self, memory: &Memory) {
        self.has_read_fleet = memory.has_read;
        self.in_force.fleet.clone_from(&memory.held);
        self.ended.clone_from(&memory.ended);
    }

    /// The file's content.
    ///
    /// # Errors
    /// None, in practice: its form is plain.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let InForce { freeze, fleet, incident, seals, .. } = &self.in_force;
        let seals = seals.iter().map(|(kid, seal)| (kid.to_string(), seal.clone()));
        let on_disk = StateFile {
            freeze: freeze.clone(),
            incident: incident.clone(),
            seals: seals.collect(),
            fleet: FleetOnDisk {
                has_read: self.has_read_fleet,
                held: fleet.clone(),
                ended: self.ended.clone(),
            },
            audit_seal: self.audit_seal.clone(),
            journal: self.witness.map(|Witness { log, head }| WitnessOnDisk {
                log: log.to_string(),
                size: head.size,
                root: head.root.to_string(),
            }),
        };
        let mut bytes = serde_json::to_vec_pretty(&on_disk)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

fn write(directory: &Path, file: &Path, state: &Stored) -> io::Result<()> {
    let bytes = state.encode()?;
    let new = directory.join(format!("{FILE}.new"));
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    let mut handle = files::open_with(&mut options, &new)?;
    handle.write_all(&bytes)?;
    handle.sync_all()?;
    // Dying before this line leaves the old state in force.
    fs::rename(&new, file)?;
    // Dying before this line: the new state may or may not survive a power loss;
    // the caller has not been told that it does.
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_state_file_without_one_of_its_members_is_damaged() {
        let whole: Value = serde_json::from_slice(&Stored::default().encode().unwrap_or_default())
            .unwrap_or_default();
        let members = whole.as_object().cloned().unwrap_or_default();
        assert_eq!(members.len(), 6, "{whole}");
        assert!(Stored::parse(whole.to_string().as_bytes()).is_ok());
        for member in members.keys() {
            let mut less = members.clone();
            less.remove(member);
            let why = Stored::parse(Value::Object(less).to_string().as_bytes()).err();
            let named = format!("missing field `{member}`");
            assert!(why.as_ref().is_some_and(|why| why.contains(&named)), "{member}: {why:?}");
        }
    }
}

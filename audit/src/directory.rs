//! The journal's directory: held by one process, and made by `init` only.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use host::files;
use nix::fcntl::{Flock, FlockArg};
use signing_core::journal::{Head, Header, Layout, Record};
use signing_core::tree::{Checkpoint, Frontier, LogId};
use time::OffsetDateTime;

use crate::error::OpenError;
use crate::key::AuditKey;
use crate::scan::{segment_name, segments};
use crate::segment::Segment;

/// How often its lock is asked for, and after how long again: a reader that looks whether
/// somebody writes holds it for a moment.
const LOCK_ATTEMPTS: u32 = 5;
const LOCK_AGAIN: Duration = Duration::from_millis(10);

/// The directory, locked as itself: no lock file that could be deleted.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    handle: Flock<File>,
}

impl Directory {
    /// Opens and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let handle = files::open_directory(path).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                OpenError::NoJournal(path.to_owned())
            } else {
                OpenError::io(path)(error)
            }
        })?;
        let mut handle = handle;
        for _ in 0..LOCK_ATTEMPTS {
            handle = match Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
                Ok(handle) => return Ok(Self { path: path.to_owned(), handle }),
                Err((handle, nix::Error::EWOULDBLOCK)) => handle,
                Err((_, error)) => return Err(OpenError::io(path)(error.into())),
            };
            thread::sleep(LOCK_AGAIN);
        }
        Err(OpenError::Locked(path.to_owned()))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// To be synced.
    pub(crate) fn handle(&self) -> &File {
        &self.handle
    }

    /// Whether the directory of that name is still the one that is held.
    pub(crate) fn is_in_place(&self) -> io::Result<()> {
        let (held, named) = (self.handle.metadata()?, fs::metadata(&self.path)?);
        if (held.dev(), held.ino()) != (named.dev(), named.ino()) {
            return Err(io::Error::other("another directory has taken its place"));
        }
        Ok(())
    }
}

/// Makes a journal: a new log whose first record is `record`, an `init`.
///
/// open directory, flock, fallocate, fsync and pwrite of `next`, fdatasync, renameat2,
/// fsync of the directory and of the one above. Dying before the rename leaves no journal,
/// and `init` can be run again; after it there is one whose first record is whole.
///
/// # Errors
/// [`OpenError`]; one is there already, or cannot be made.
pub fn init(
    path: &Path,
    segment_bytes: u64,
    key: &AuditKey,
    record: &Record<'_>,
    at: OffsetDateTime,
) -> Result<(LogId, Head), OpenError> {
    let io = || OpenError::io(path);
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io()(error)),
        _ => {}
    }
    let directory = Directory::open(path)?;
    if !segments(path).map_err(io())?.is_empty() {
        return Err(OpenError::Exists(path.to_owned()));
    }
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id)
        .map_err(|_| io()(io::Error::other("the system gives no randomness")))?;
    let log = LogId::new(id);
    let body = record.encode(at).ok_or_else(|| io()(io::Error::other("no such record")))?;
    let mut tree = Frontier::default();
    let empty = Checkpoint { log, size: 0, root: tree.root() };
    let sign = |text: &[u8]| key.sign(text);
    let checkpoint = empty.sign(&[(key.public(), &sign)]);
    let header = Header { checkpoint, frontier: tree.clone(), segment_bytes };
    let mut bytes = header.encode().to_vec();
    let layout = Layout::new(log);
    tree.push(layout.record(1, &body, &mut bytes).hash);
    let signed = layout.checkpoint(&tree, 0, &[(key.public(), &sign)], &mut bytes);

    let mut segment = Segment::prepare(path, segment_bytes).map_err(io())?;
    segment.write(&bytes, 0).map_err(io())?;
    segment.sync().map_err(io())?;
    segment.publish(directory.handle(), &segment_name(1)).map_err(io())?;
    if let Some(parent) = path.parent() {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(io())?;
    }
    Ok((log, Head::of(signed.checkpoint())))
}

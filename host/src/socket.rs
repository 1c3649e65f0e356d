//! Unix sockets at a path: bound so that nobody else can stand in their place, and watched, so
//! that a path which no longer leads here does not go unnoticed.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};

/// What of 0777 the socket's mode lacks: its owner and its group may connect.
const NOT_FOR_OTHERS: u32 = 0o117;
/// How long the end of a process waits for the disk of its sockets.
const REMOVAL_MAX: Duration = Duration::from_secs(1);

/// Why the socket cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Something else is there.
    #[error("{key} {}: is there already and is {what}; remove it or name another path", path.display())]
    Occupied {
        /// The config key that names it.
        key: &'static str,
        /// The socket's path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It cannot be made.
    #[error("{key} {}: {error}; its directory has to exist and belong to the user of this process", path.display())]
    Io {
        /// The config key that names it.
        key: &'static str,
        /// The socket's path.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
}

/// The path of a bound socket, and which file there is ours.
#[derive(Clone, Debug)]
pub struct Bound {
    key: &'static str,
    path: PathBuf,
    /// Device and inode.
    ours: (u64, u64),
}

/// What a look at a bound socket's path showed.
#[derive(Debug)]
pub enum Found {
    /// Our socket: who connects there reaches this process.
    Ours,
    /// Nothing was there, and a new socket is bound: serve it instead of the one before.
    BoundAgain(UnixListener),
    /// Nobody reaches this process through the path; the error says why and what to do.
    Lost(SocketError),
}

/// Binds a unix socket at `path`, which `key` of the configuration names, with mode 0660. A socket that a dead process
/// left behind is replaced; anything else is not.
///
/// # Errors
/// [`SocketError`].
pub fn bind(key: &'static str, path: &Path) -> Result<(UnixListener, Bound), SocketError> {
    let failed = |error| SocketError::Io { key, path: path.to_owned(), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            let what = if found.is_symlink() { "a symbolic link" } else { "no socket" };
            return Err(SocketError::Occupied { key, path: path.to_owned(), what });
        }
        Ok(_) => match UnixStream::connect(path) {
            // Nobody listens: whoever did is dead.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
            Ok(_) => {
                let what = "the socket of a process that answers";
                return Err(SocketError::Occupied { key, path: path.to_owned(), what });
            }
        },
    }
    let listener = made(path).map_err(failed)?;
    let ours = identity(path).map_err(failed)?;
    Ok((listener, Bound { key, path: path.to_owned(), ours }))
}

/// Whether a connection waits to be accepted; also if that cannot be told. Out of descriptors accept(2)
/// fails before it looks, so nobody has to give way to nobody.
#[must_use]
pub fn has_waiting(listener: impl AsFd) -> bool {
    let mut polled = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO) != Ok(0)
}

impl Bound {
    /// Looks whether the path still leads to this process. Where nothing is left, the socket is
    /// bound again. What somebody else put there stays: it may be another process's.
    pub fn look(&mut self) -> Found {
        match identity(&self.path) {
            Ok(found) if found == self.ours => Found::Ours,
            Ok(_) => {
                let (key, path) = (self.key, self.path.clone());
                let what = "not the socket that this process bound";
                Found::Lost(SocketError::Occupied { key, path, what })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let again = made(&self.path).and_then(|bound| Ok((bound, identity(&self.path)?)));
                match again {
                    Ok((listener, ours)) => {
                        self.ours = ours;
                        Found::BoundAgain(listener)
                    }
                    Err(error) => Found::Lost(self.failed(error)),
                }
            }
            Err(error) => Found::Lost(self.failed(error)),
        }
    }

    /// Removes the socket's file, if it is still ours: for the end of the process.
    pub fn remove(&self) {
        if identity(&self.path).is_ok_and(|found| found == self.ours) {
            // The next start would replace it: a failure harms nobody.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, error: io::Error) -> SocketError {
        SocketError::Io { key: self.key, path: self.path.clone(), error }
    }
}

/// Removes the files of sockets at the end of a process. It waits a second for their disk, and no longer: the next start
/// replaces what is left.
pub fn remove_in_time(sockets: Vec<Bound>) {
    let (done, ended) = mpsc::sync_channel(1);
    let removing = move || {
        sockets.iter().for_each(Bound::remove);
        let _ = done.send(());
    };
    if thread::Builder::new().name("sockets".to_owned()).spawn(removing).is_ok() {
        let _ = ended.recv_timeout(REMOVAL_MAX);
    }
}

/// A listening socket at a path where nothing is.
///
/// The umask is the whole process's: a file that another thread makes in that instant is more
/// closed than it asked for, never more open. So the socket is never open to others either.
fn made(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::from_bits_truncate(NOT_FOR_OTHERS));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_but_who_has_connected_and_was_not_taken() {
        let path = std::env::temp_dir().join(format!("waiting-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(!has_waiting(&listener));
        let connected = [UnixStream::connect(&path).unwrap(), UnixStream::connect(&path).unwrap()];
        for _ in connected {
            assert!(has_waiting(&listener));
            let _ = listener.accept().unwrap();
        }
        assert!(!has_waiting(&listener));
        fs::remove_file(path).unwrap();
    }
}

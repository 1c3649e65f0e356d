//! Binding a unix socket so that nobody else can stand in its place.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

/// Why the socket can not be bound.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Something else is there.
    #[error("{key} {}: is there already and is {what}; remove it or name another path", path.display())]
    Occupied {
        /// The config key that names it.
        key: &'static str,
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It can not be made.
    #[error("{key} {}: {error}; its directory has to exist and belong to the user of this process", path.display())]
    Io {
        /// The config key that names it.
        key: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Binds a unix socket at `path`, which `key` of the configuration names, with mode 0660. A socket that a dead process
/// left behind is replaced; anything else is not.
///
/// Call it before other threads start: it sets the process's umask meanwhile,
/// so that the socket is never open to others, not for an instant.
///
/// # Errors
/// [`SocketError`].
pub fn bind(key: &'static str, path: &Path) -> Result<UnixListener, SocketError> {
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
    let before = umask(Mode::from_bits_truncate(0o117));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound.map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

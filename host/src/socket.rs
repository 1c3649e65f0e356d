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
/// How often a path that is lost is said again, in looks.
const SAY_EVERY: u32 = 20;
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

/// A bound socket whose path is looked at again and again, as the last look left it.
#[derive(Debug)]
pub struct Watched {
    bound: Bound,
    /// Nobody listens at the path: the next look removes what is there, and binds it anew.
    is_deaf: bool,
    /// How many looks in a row did not find it.
    lost: u32,
}

/// What became of a watched socket.
#[derive(Debug)]
pub enum Seen<L> {
    /// Nothing: who connects to the path reaches this process.
    Ours,
    /// It was lost or could not be looked at, and is as it was.
    Back,
    /// Nothing was there, and a new socket is bound: serve it instead of the one before.
    BoundAgain(L),
    /// Nobody reaches this process through the path. It is looked at again.
    Lost(Failure),
    /// The path cannot be looked at. It is looked at again.
    Unseen(Failure),
}

/// Why a look did not find the socket.
#[derive(Debug)]
pub struct Failure {
    /// One sentence for an operator.
    pub why: String,
    /// Whether a log is to have it: the first of such looks in a row, and then one in so many.
    pub is_to_be_said: bool,
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
    pub fn inspect(&mut self) -> Found {
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

impl Watched {
    /// That socket, which a listener serves.
    #[must_use]
    pub const fn new(bound: Bound) -> Self {
        Self { bound, is_deaf: false, lost: 0 }
    }

    /// The socket, as the last look left it.
    #[must_use]
    pub const fn bound(&self) -> &Bound {
        &self.bound
    }

    /// One look, for a thread that serves nobody: its disk may hang. What comes of it is for [`Self::looked`].
    pub fn inspection(&self) -> impl FnOnce() -> (Bound, Found) + Send + use<> {
        let (mut bound, is_deaf) = (self.bound.clone(), self.is_deaf);
        move || {
            if is_deaf {
                bound.remove();
            }
            let found = bound.inspect();
            (bound, found)
        }
    }

    /// What came of a look, or why nothing came of it; `take` has the runtime take a new listener over. One that it does not
    /// take is bound anew by the next look.
    pub fn looked<L>(
        &mut self,
        look: Result<(Bound, Found), String>,
        take: impl FnOnce(UnixListener) -> io::Result<L>,
    ) -> Seen<L> {
        let found = match look {
            Ok((bound, found)) => {
                self.bound = bound;
                found
            }
            Err(why) => return Seen::Unseen(self.failure(why)),
        };
        let seen = match found {
            Found::Lost(error) => return Seen::Lost(self.failure(error.to_string())),
            Found::Ours if self.is_deaf => {
                let path = self.bound.path.display();
                let why = format!("{path}: nobody listens there, and it cannot be removed");
                return Seen::Lost(self.failure(why));
            }
            Found::Ours if self.lost > 0 => Seen::Back,
            Found::Ours => Seen::Ours,
            Found::BoundAgain(listener) => match take(listener) {
                Ok(listener) => Seen::BoundAgain(listener),
                Err(error) => {
                    self.is_deaf = true;
                    let error = self.bound.failed(error);
                    return Seen::Lost(self.failure(error.to_string()));
                }
            },
        };
        (self.lost, self.is_deaf) = (0, false);
        seen
    }

    fn failure(&mut self, why: String) -> Failure {
        let is_to_be_said = self.lost.is_multiple_of(SAY_EVERY);
        self.lost = self.lost.saturating_add(1);
        Failure { why, is_to_be_said }
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

    fn watched(name: &str) -> (PathBuf, Watched) {
        let path = std::env::temp_dir().join(format!("{name}-{}.sock", std::process::id()));
        let _ = fs::remove_file(&path);
        let (_listener, bound) = bind("test.socket", &path).unwrap();
        (path, Watched::new(bound))
    }

    /// A look whose socket the runtime takes, or does not.
    fn inspect(watched: &mut Watched, takes: bool) -> Seen<UnixListener> {
        let found = watched.inspection()();
        let take = |listener| if takes { Ok(listener) } else { Err(io::Error::other("no")) };
        watched.looked(Ok(found), take)
    }

    #[test]
    fn a_socket_that_the_runtime_does_not_take_is_bound_anew_until_it_does() {
        let (path, mut watched) = watched("not-taken");
        assert!(matches!(inspect(&mut watched, true), Seen::Ours));
        fs::remove_file(&path).unwrap();
        for is_first in [true, false] {
            let seen = inspect(&mut watched, false);
            assert!(
                matches!(&seen, Seen::Lost(failure) if failure.is_to_be_said == is_first),
                "{seen:?}"
            );
            assert!(path.exists(), "nothing is removed but by a look");
        }
        // A look that came to nothing changes nothing.
        let none = watched.looked(Err("in a test".to_owned()), Ok::<UnixListener, _>);
        assert!(matches!(none, Seen::Unseen(_)), "{none:?}");
        // Nor does one that could not remove what nobody serves.
        let ours = (watched.bound().clone(), Found::Ours);
        let not_removed = watched.looked(Ok(ours), Ok::<UnixListener, _>);
        assert!(matches!(not_removed, Seen::Lost(_)), "{not_removed:?}");
        let again = inspect(&mut watched, true);
        let Seen::BoundAgain(listener) = again else { panic!("{again:?}") };
        let _connected = UnixStream::connect(&path).unwrap();
        assert!(has_waiting(&listener));
        assert!(matches!(inspect(&mut watched, true), Seen::Ours));
        watched.bound().remove();
    }

    #[test]
    fn what_stands_in_its_place_is_left_and_told_and_its_end_is_told_too() {
        let (path, mut watched) = watched("in-place");
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        fs::write(&path, "not yours").unwrap();
        let said: Vec<_> = (0..SAY_EVERY + 1)
            .map(|_| match inspect(&mut watched, true) {
                Seen::Lost(failure) => failure.is_to_be_said,
                other => panic!("{other:?}"),
            })
            .collect();
        let ends = [said.first(), said.last()];
        assert_eq!((ends, said.iter().filter(|said| **said).count()), ([Some(&true); 2], 2));
        assert_eq!(fs::read_to_string(&path).unwrap(), "not yours");
        fs::rename(&aside, &path).unwrap();
        assert!(matches!(inspect(&mut watched, true), Seen::Back));
        watched.bound().remove();
    }
}

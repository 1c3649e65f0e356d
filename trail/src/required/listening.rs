//! The socket for a proxy, whose path is watched: who is removed from the path cannot be reached, and a proxy that
//! requires this sink and has no connection refuses to sign.

use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;

use host::log::Log;
use host::socket::{Bound, Failure, Found, Seen, Watched};
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Interval, interval};

/// How often the path is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The socket, while the process serves.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) listener: UnixListener,
    path: Watched,
    look: Interval,
    /// The look that is under way, on a thread of its own: proxies are served though the path's disk hangs.
    under_way: Option<JoinHandle<(Bound, Found)>>,
}

impl Listening {
    /// Takes over what was bound at the start.
    ///
    /// # Errors
    /// If the runtime does not take the socket.
    pub(super) fn new((listener, bound): (StdListener, Bound)) -> std::io::Result<Self> {
        let listener = UnixListener::from_std(listener)?;
        Ok(Self {
            listener,
            path: Watched::new(bound),
            look: interval(LOOK_EVERY),
            under_way: None,
        })
    }

    /// The next connection, or why the system gave none. The path is watched meanwhile.
    pub(super) async fn accept(&mut self, log: &Log) -> std::io::Result<UnixStream> {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => return accepted.map(|(stream, _)| stream),
                _ = self.look.tick() => {
                    // A look that hangs is waited for, and no other begins.
                    if self.under_way.is_none() {
                        self.under_way = Some(spawn_blocking(self.path.inspection()));
                    }
                }
                looked = end_of(&mut self.under_way) => {
                    self.under_way = None;
                    self.looked(log, looked);
                }
            }
        }
    }

    /// Connections that are open go on, whatever became of the path.
    fn looked(&mut self, log: &Log, looked: Result<(Bound, Found), JoinError>) {
        let looked = looked.map_err(|error| error.to_string());
        let seen = self.path.looked(looked, UnixListener::from_std);
        let place = self.path.bound().path().display().to_string();
        let path = json!({"path": place});
        let because = |why| json!({"path": place, "error": why});
        match seen {
            Seen::Ours => {}
            Seen::Back => log.info("the required socket is back", path),
            Seen::BoundAgain(listener) => {
                self.listener = listener;
                log.warn("the required socket was removed, and is bound again", path);
            }
            Seen::Lost(Failure { why, is_to_be_said: true }) => log.error(
                "the required socket is lost: no proxy reaches this process through its path",
                because(why),
            ),
            Seen::Unseen(Failure { why, is_to_be_said: true }) => {
                log.error("the path of the required socket cannot be looked at", because(why));
            }
            Seen::Lost(_) | Seen::Unseen(_) => {}
        }
    }
}

/// What comes of the look that is under way. Cancel safe.
async fn end_of(
    under_way: &mut Option<JoinHandle<(Bound, Found)>>,
) -> Result<(Bound, Found), JoinError> {
    match under_way {
        Some(look) => look.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::path::{Path, PathBuf};

    use super::*;

    /// More than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn listening(name: &str) -> (PathBuf, Listening) {
        let path = std::env::temp_dir().join(format!("{name}-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let door = host::socket::bind("required.socket", &path).unwrap();
        (path, Listening::new(door).unwrap())
    }

    /// Serves until somebody is reached through the path.
    async fn reached(listening: &mut Listening, log: &Log, path: &Path) {
        let connecting = async {
            while UnixStream::connect(path).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        let both = async { tokio::join!(listening.accept(log), connecting).0 };
        tokio::time::timeout(PATIENCE, both).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_the_runtime_does_not_take_is_bound_anew() {
        let (path, mut listening) = listening("required-anew");
        let log = Log::start().unwrap();
        // What is no socket, no runtime waits for.
        let odd = StdListener::from(OwnedFd::from(File::open("/dev/null").unwrap()));
        odd.set_nonblocking(true).unwrap();
        // As if the path had been bound again, and nobody listened there.
        std::fs::remove_file(&path).unwrap();
        let (bound, found) = listening.path.inspection()();
        assert!(matches!(found, Found::BoundAgain(_)), "{found:?}");
        listening.looked(&log, Ok((bound, Found::BoundAgain(odd))));
        drop(found);
        assert!(UnixStream::connect(&path).await.is_err());
        reached(&mut listening, &log, &path).await;
        std::fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn a_look_that_hangs_stops_nobody_from_connecting() {
        let (path, mut listening) = listening("required-hangs");
        let log = Log::start().unwrap();
        let (goes_on, hangs) = std::sync::mpsc::sync_channel::<()>(1);
        let look = listening.path.inspection();
        listening.under_way = Some(spawn_blocking(move || {
            let _ = hangs.recv();
            look()
        }));
        for _ in 0..3 {
            reached(&mut listening, &log, &path).await;
        }
        // Once it does not hang, the path is looked at again.
        std::fs::remove_file(&path).unwrap();
        goes_on.send(()).unwrap();
        reached(&mut listening, &log, &path).await;
        std::fs::remove_file(&path).unwrap();
    }
}

//! A listening unix socket whose path is watched: who is removed from the path cannot be reached
//! for an activation or an end, and nobody would notice until then.

use std::os::unix::net::UnixListener as StdListener;
use std::rc::Rc;
use std::time::Duration;

use host::places::Places;
use host::socket::{Bound, Failure, Found, Seen, Watched, has_waiting};
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinError, JoinHandle, spawn_local};
use tokio::time::{Interval, interval};

use crate::config::Socket;
use crate::log::Log;
use crate::service::Service;
use crate::worker::{Busy, Worker};

/// A socket as it was bound at the start.
pub(crate) type Door = (StdListener, Bound);

/// How often its path is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// One of the two sockets, while the process serves.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: UnixListener,
    path: Watched,
    look: Interval,
    /// Looks at this path alone: the other's disk may hang.
    paths: Rc<Worker>,
    /// The look that is under way, on a thread of its own: peers are served though the path's disk hangs.
    under_way: Option<JoinHandle<Looked>>,
}

type Looked = Result<(Bound, Found), Busy>;

impl Listening {
    /// Takes over what was bound at the start.
    ///
    /// # Errors
    /// If the runtime does not take the socket, or the system gives no thread.
    pub(crate) fn new((listener, bound): Door) -> std::io::Result<Self> {
        let listener = UnixListener::from_std(listener)?;
        let look = interval(LOOK_EVERY);
        let paths = Rc::new(Worker::start("path")?);
        Ok(Self { listener, path: Watched::new(bound), look, paths, under_way: None })
    }

    /// The next peer that may use the socket, with its uid; others see their connection close.
    pub(crate) async fn accept(
        &mut self,
        service: &Rc<Service>,
        socket: &Socket,
        places: &Places<u32>,
    ) -> Option<(UnixStream, u32)> {
        let accepted = tokio::select! {
            accepted = self.listener.accept() => accepted,
            _ = self.look.tick() => {
                self.begin_look();
                return None;
            }
            looked = end_of(&mut self.under_way) => {
                self.under_way = None;
                self.looked(&service.log, looked);
                return None;
            }
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors: a closed connection gives one back.
            if has_waiting(&self.listener) {
                places.give_way();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            return None;
        };
        // A peer that the kernel does not name is nobody.
        let uid = stream.peer_cred().ok()?.uid();
        if !socket.allowed_uids.contains(&uid) {
            service.refuse_peer(uid, &socket.path);
            return None;
        }
        Some((stream, uid))
    }

    /// A look that hangs is waited for, and no other begins.
    fn begin_look(&mut self) {
        if self.under_way.is_some() {
            return;
        }
        let (look, paths) = (self.path.inspection(), Rc::clone(&self.paths));
        self.under_way = Some(spawn_local(async move { paths.run_in_turn(look).await }));
    }

    /// Connections that are open go on, whatever became of the path.
    fn looked(&mut self, log: &Log, looked: Result<Looked, JoinError>) {
        let looked = looked.map_err(|error| error.to_string());
        let looked = looked.and_then(|looked| looked.map_err(|busy| busy.to_string()));
        let seen = self.path.looked(looked, UnixListener::from_std);
        let place = self.path.bound().path().display().to_string();
        let path = json!({"path": place});
        let because = |why| json!({"path": place, "error": why});
        match seen {
            Seen::Ours => {}
            Seen::Back => log.info("a socket is back", path),
            Seen::BoundAgain(listener) => {
                self.listener = listener;
                log.warn("a socket was removed, and is bound again", path);
            }
            Seen::Lost(Failure { why, is_to_be_said: true }) => log.error(
                "a socket is lost: nobody reaches this process through its path",
                because(why),
            ),
            Seen::Unseen(Failure { why, is_to_be_said: true }) => {
                log.error("the path of a socket cannot be looked at", because(why));
            }
            Seen::Lost(_) | Seen::Unseen(_) => {}
        }
    }
}

/// What comes of the look that is under way. Cancel safe.
async fn end_of(under_way: &mut Option<JoinHandle<Looked>>) -> Result<Looked, JoinError> {
    match under_way {
        Some(look) => look.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::{Path, PathBuf};

    use tokio::task::LocalSet;

    use super::*;

    fn listening(name: &str) -> (PathBuf, Listening) {
        let path = std::env::temp_dir().join(format!("{name}-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let door = host::socket::bind("signer.socket", &path).unwrap();
        (path, Listening::new(door).unwrap())
    }

    /// One look, to its end.
    async fn inspected(listening: &mut Listening, log: &Log) {
        listening.begin_look();
        let looked = end_of(&mut listening.under_way).await;
        listening.under_way = None;
        listening.looked(log, looked);
    }

    async fn is_reached(listening: &Listening, path: &Path) -> bool {
        let connected = UnixStream::connect(path).await.is_ok();
        connected && has_waiting(&listening.listener) && listening.listener.accept().await.is_ok()
    }

    #[tokio::test]
    async fn a_look_that_came_to_nothing_is_no_reason_to_look_no_more() {
        let test = async {
            let (path, mut listening) = listening("looks-on");
            let log = Log::start().unwrap();
            let panics = listening.paths.run_in_turn(|| panic!("in a test")).await;
            listening.looked(&log, Ok(panics));
            std::fs::remove_file(&path).unwrap();
            inspected(&mut listening, &log).await;
            assert!(is_reached(&listening, &path).await);
            std::fs::remove_file(&path).unwrap();
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn a_socket_that_the_runtime_does_not_take_is_bound_anew_by_the_next_look_on_its_thread()
    {
        let test = async {
            let (path, mut listening) = listening("anew");
            let log = Log::start().unwrap();
            // What is no socket, no runtime waits for.
            let odd =
                OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/null");
            let odd = StdListener::from(OwnedFd::from(odd.unwrap()));
            let bound = listening.path.bound().clone();
            listening.looked(&log, Ok(Ok((bound, Found::BoundAgain(odd)))));
            assert!(path.exists(), "nothing is removed here");
            inspected(&mut listening, &log).await;
            assert!(is_reached(&listening, &path).await);
            std::fs::remove_file(&path).unwrap();
        };
        LocalSet::new().run_until(test).await;
    }
}

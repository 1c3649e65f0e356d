//! A listening unix socket whose path is watched: who is removed from the path cannot be reached
//! for an activation or an end, and nobody would notice until then.

use std::os::unix::net::UnixListener as StdListener;
use std::rc::Rc;
use std::time::Duration;

use host::places::Places;
use host::socket::has_waiting;
use host::socket::{Bound, Found};
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinError, JoinHandle, spawn_local};
use tokio::time::{Interval, interval};

use crate::config::Socket;
use crate::service::Service;
use crate::worker::Busy;

/// A socket as it was bound at the start.
pub(crate) type Door = (StdListener, Bound);

/// How often its path is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a path that is lost is said again.
const SAY_EVERY: u32 = 20;

/// One of the two sockets, while the process serves.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: UnixListener,
    /// None while it is looked at.
    bound: Option<Bound>,
    look: Interval,
    /// The look that is under way, on a thread of its own: peers are served though the path's disk hangs.
    under_way: Option<JoinHandle<Looked>>,
    /// How many looks in a row showed that nobody reaches this process through the path.
    lost: u32,
}

type Looked = Result<(Bound, Found), Busy>;

impl Listening {
    /// Takes over what was bound at the start.
    ///
    /// # Errors
    /// If the runtime does not take the socket.
    pub(crate) fn new((listener, bound): Door) -> std::io::Result<Self> {
        let listener = UnixListener::from_std(listener)?;
        let look = interval(LOOK_EVERY);
        Ok(Self { listener, bound: Some(bound), look, under_way: None, lost: 0 })
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
                self.begin_look(service);
                return None;
            }
            looked = end_of(&mut self.under_way) => {
                self.under_way = None;
                self.looked(service, looked);
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

    fn begin_look(&mut self, service: &Rc<Service>) {
        let Some(mut bound) = self.bound.take() else { return };
        let service = Rc::clone(service);
        self.under_way = Some(spawn_local(async move {
            let look = move || {
                let found = bound.look();
                (bound, found)
            };
            service.paths.run_in_turn(look).await
        }));
    }

    /// Connections that are open go on, whatever became of the path.
    fn looked(&mut self, service: &Service, looked: Result<Looked, JoinError>) {
        // Neither panics: then the path is watched no more, and those who know it are served.
        let Ok(Ok((bound, found))) = looked else { return };
        let path = json!({"path": bound.path().display().to_string()});
        let bound = self.bound.insert(bound);
        let found = match found {
            Found::BoundAgain(listener) => UnixListener::from_std(listener).map(Some),
            Found::Ours => Ok(None),
            Found::Lost(error) => {
                if self.lost.is_multiple_of(SAY_EVERY) {
                    service.log.error(
                        "a socket is lost: nobody reaches this process through its path",
                        json!({"error": error.to_string()}),
                    );
                }
                self.lost = self.lost.saturating_add(1);
                return;
            }
        };
        match found {
            Ok(Some(listener)) => {
                self.listener = listener;
                service.log.warn("a socket was removed, and is bound again", path);
            }
            Ok(None) if self.lost > 0 => service.log.info("a socket is back", path),
            Ok(None) => {}
            Err(error) => {
                // Nobody listens there: the next look binds it anew.
                bound.remove();
                service.log.error("a socket is lost", json!({"error": error.to_string()}));
            }
        }
        self.lost = 0;
    }
}

/// What comes of the look that is under way. Cancel safe.
async fn end_of(under_way: &mut Option<JoinHandle<Looked>>) -> Result<Looked, JoinError> {
    match under_way {
        Some(look) => look.await,
        None => std::future::pending().await,
    }
}

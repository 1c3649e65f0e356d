//! The local doors: bound before anything runs, served once everything does.

use std::io;
use std::sync::Arc;

use configuration::{Local, LocalListen};
use host::socket::Bound;
use server::{DataPlane, LocalDoor, LocalListener, accept_local};
use tokio::runtime::Runtime;

use super::StartError;
use super::listeners::listen;

/// Doors that are bound and not served.
#[derive(Debug)]
pub(super) struct LocalDoors(Vec<(Arc<LocalDoor>, Listening)>);

#[derive(Debug)]
enum Listening {
    Loopback(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, Bound),
}

/// Doors that are served.
#[derive(Debug, Default)]
pub struct LocalPlaces {
    /// Where each stands: `127.0.0.1:8444`, `unix:/run/...`; in the order of the configuration.
    pub places: Vec<String>,
    sockets: Vec<Bound>,
}

/// Binds every door.
///
/// # Errors
/// [`StartError`], of the first that cannot be bound.
pub(super) fn bind(places: &[Local], doors: Vec<Arc<LocalDoor>>) -> Result<LocalDoors, StartError> {
    let bound = places.iter().zip(doors).map(|(place, door)| {
        let listening = match &place.listen {
            LocalListen::Loopback(address) => {
                Listening::Loopback(listen("server.local.listen", *address)?)
            }
            LocalListen::Unix(path) => {
                let (listener, bound) = host::socket::bind("server.local.listen", path)?;
                Listening::Unix(listener, bound)
            }
        };
        Ok((door, listening))
    });
    bound.collect::<Result<_, StartError>>().map(LocalDoors)
}

impl LocalDoors {
    /// Serves them on `data` until `plane` drains.
    ///
    /// # Errors
    /// If the runtime does not take a listener.
    pub(super) fn serve(self, data: &Runtime, plane: &Arc<DataPlane>) -> io::Result<LocalPlaces> {
        let mut served = LocalPlaces::default();
        let _entered = data.enter();
        for (door, listening) in self.0 {
            let listener = match listening {
                Listening::Loopback(listener) => {
                    served.places.push(listener.local_addr()?.to_string());
                    LocalListener::Loopback(tokio::net::TcpListener::from_std(listener)?)
                }
                Listening::Unix(listener, bound) => {
                    served.places.push(LocalListen::Unix(bound.path().to_owned()).to_string());
                    served.sockets.push(bound);
                    LocalListener::Unix(tokio::net::UnixListener::from_std(listener)?)
                }
            };
            data.spawn(accept_local(listener, door, Arc::clone(plane)));
        }
        Ok(served)
    }
}

impl LocalPlaces {
    /// The unix sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = Bound> {
        self.sockets.iter().cloned()
    }
}

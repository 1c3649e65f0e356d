//! From a new connection to a client whose certificate is verified, within the places for
//! handshakes and the time that a handshake may take.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use host::clock::now;
use host::log_limit::LogLimit;
use host::socket::has_waiting;
use mtls::ServerTls;
use rustls::server::Acceptor;
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::handshakes::{Handshake, Handshakes};
use super::socket::Socket;
use super::{DataPlane, serve};

/// How long to wait after the kernel gave no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Counts an open connection until it is dropped.
struct Counted<'m>(&'m metrics::Gauge);

impl<'m> Counted<'m> {
    fn new(gauge: &'m metrics::Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Why a client is not let in.
enum NotShaken {
    /// Its handshake had to give way to others.
    NoPlace,
    /// Its handshake failed.
    Failed(String),
}

/// Accepts until the proxy drains. Open connections go on; see
/// [`super::Connections::close`].
pub async fn accept(listener: TcpListener, plane: Arc<DataPlane>) {
    let limits = &plane.limits;
    let places = Arc::new(Semaphore::new(limits.connections_max));
    // Handshakes have places of their own: whoever has no certificate can take these.
    let handshakes = Handshakes::new(limits.handshakes_max, limits.handshakes_per_address_max);
    let accept_log = LogLimit::default();
    let mut draining = plane.draining.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or memory: a closed connection gives some back, a busy loop
                // does not.
                if has_waiting(&listener) {
                    handshakes.give_way();
                }
                if let Some(left_out) = accept_log.pass(now()) {
                    tracing::warn!(%error, left_out, "accept failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(handshake) = handshakes.begin(peer.ip(), now()) else {
            plane.metrics.connections_refused.increment(1);
            continue;
        };
        let (plane, places) = (Arc::clone(&plane), Arc::clone(&places));
        tokio::spawn(async move {
            let _counted = Counted::new(&plane.metrics.connections);
            let tls = plane.tls.load_full();
            let (stream, until) = match shake_hands(socket, &tls, handshake, &plane).await {
                Ok(shaken) => shaken,
                Err(why) => return not_shaken(why, peer, &plane),
            };
            match places.try_acquire() {
                Ok(_place) => serve(stream, until, tls, &plane).await,
                Err(_) => plane.metrics.connections_refused.increment(1),
            }
        });
    }
}

async fn shake_hands(
    socket: TcpStream,
    tls: &ServerTls,
    mut place: Handshake,
    plane: &DataPlane,
) -> Result<(TlsStream<Socket>, Option<OffsetDateTime>), NotShaken> {
    // Without it small answers wait for acknowledgements; with an error they only do that.
    let _ = socket.set_nodelay(true);
    let failed = |error: io::Error| NotShaken::Failed(tls.why(&error));
    let other_took_the_place = place.other_took_it();
    let shaking = async {
        let socket = Socket::new(socket);
        let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await.map_err(failed)?;
        if !place.greeted(now()) {
            return Err(NotShaken::NoPlace);
        }
        let (shaken, until) = mtls::handshake(hello.into_stream(Arc::clone(&tls.config))).await;
        Ok((shaken.map_err(failed)?, until))
    };
    tokio::select! {
        biased;
        () = other_took_the_place => Err(NotShaken::NoPlace),
        shaken = tokio::time::timeout(plane.limits.handshake_timeout, shaking) => shaken
            .unwrap_or_else(|_| Err(NotShaken::Failed("no handshake in time".to_owned()))),
    }
}

fn not_shaken(why: NotShaken, peer: SocketAddr, plane: &DataPlane) {
    let metrics = &plane.metrics;
    let why = match why {
        NotShaken::NoPlace => {
            metrics.connections_refused.increment(1);
            "it gave way to newer ones: handshakes_max or handshakes_per_address_max is reached"
                .to_owned()
        }
        NotShaken::Failed(why) => {
            metrics.handshakes_failed.increment(1);
            why
        }
    };
    if let Some(left_out) = plane.handshake_log.pass(now()) {
        tracing::warn!(%peer, why, left_out, "handshake failed");
    }
}

//! From a new connection to a client whose certificate is verified, or that is at a local door,
//! within the places for handshakes and the time that a handshake may take.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use host::clock::now;
use host::log_limit::LogLimit;
use host::peer_address::PeerAddress;
use host::socket::has_waiting;
use mtls::ServerTls;
use rustls::server::Acceptor;
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::handshakes::{Handshake, Handshakes};
use super::loopback_peer;
use super::socket::Socket;
use super::{DataPlane, LocalDoor, serve, serve_local};

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
enum HandshakeFailure {
    /// Its handshake had to give way to others.
    NoPlace,
    /// Its handshake failed.
    Failed(String),
}

/// Where a local door listens.
#[derive(Debug)]
pub enum LocalListener {
    /// On a loopback address.
    Loopback(TcpListener),
    /// On a unix socket.
    Unix(UnixListener),
}

/// A new connection.
enum Arrived {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// Accepts clients with certificates until the proxy drains. Open connections go on; see
/// [`super::Connections::close`].
pub async fn accept(listener: TcpListener, plane: Arc<DataPlane>) {
    let limits = &plane.limits;
    // Handshakes have places of their own: whoever has no certificate can take these.
    let handshakes = Handshakes::new(limits.handshakes_max, limits.handshakes_per_address_max);
    let from = |arrived: &Arrived| arrived.address();
    let meet = |arrived, _, place, plane| meet(arrived, place, plane);
    accept_all(LocalListener::Loopback(listener), (&handshakes, from), &plane, meet).await;
}

/// Accepts clients of a local door until the proxy drains.
pub async fn accept_local(listener: LocalListener, door: Arc<LocalDoor>, plane: Arc<DataPlane>) {
    // Each user has a share of the places. Where the kernel does not say who it is, the address has.
    let from = |arrived: &Arrived| arrived.user().unwrap_or_else(|| arrived.address());
    let admit =
        |arrived, source, place, plane| admit(arrived, source, (Arc::clone(&door), place), plane);
    accept_all(listener, (&plane.newcomers, from), &plane, admit).await;
}

async fn accept_all<S>(
    listener: LocalListener,
    (handshakes, from): (&Handshakes, impl Fn(&Arrived) -> PeerAddress),
    plane: &Arc<DataPlane>,
    serve: impl Fn(Arrived, PeerAddress, Handshake, Arc<DataPlane>) -> S,
) where
    S: Future<Output = ()> + Send + 'static,
{
    let accept_log = LogLimit::default();
    let mut draining = plane.draining.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        let arrived = match accepted {
            Ok(arrived) => arrived,
            Err(error) => {
                // Out of descriptors or memory: a closed connection gives some back, a busy loop
                // does not.
                if listener.has_waiting() {
                    handshakes.give_way();
                }
                if let Some(left_out) = accept_log.pass(now()) {
                    tracing::warn!(target: "signing_proxy", %error, left_out, "accept failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let source = from(&arrived);
        let Some(place) = handshakes.begin(source, now()) else {
            plane.metrics.connections_refused.increment(1);
            continue;
        };
        let serving = serve(arrived, source, place, Arc::clone(plane));
        let plane = Arc::clone(plane);
        tokio::spawn(async move {
            let _counted = Counted::new(&plane.metrics.connections);
            serving.await;
        });
        // It gets a look at what it brought before a newer one can take its place.
        tokio::task::yield_now().await;
    }
}

/// From a client's handshake to its requests.
async fn meet(arrived: Arrived, handshake: Handshake, plane: Arc<DataPlane>) {
    // The data plane's own listener is never a unix socket.
    let Arrived::Tcp(socket, peer) = arrived else { return };
    let tls = plane.tls.load_full();
    let (stream, until) = match finish_handshake(socket, &tls, handshake, &plane).await {
        Ok(accepted) => accepted,
        Err(why) => return handshake_failed(why, peer, &plane),
    };
    match plane.places.try_acquire() {
        Ok(_place) => serve(stream, until, tls, &plane).await,
        Err(_) => plane.metrics.connections_refused.increment(1),
    }
}

/// From a client of a local door to its requests.
async fn admit(
    arrived: Arrived,
    source: PeerAddress,
    at: (Arc<LocalDoor>, Handshake),
    plane: Arc<DataPlane>,
) {
    let socket = match arrived {
        Arrived::Tcp(tcp, _) => {
            // As for clients with certificates.
            let _ = tcp.set_nodelay(true);
            Socket::tcp(tcp)
        }
        Arrived::Unix(unix) => Socket::unix(unix),
    };
    match plane.places.try_acquire() {
        Ok(_place) => serve_local(socket, source, at, &plane).await,
        Err(_) => plane.metrics.connections_refused.increment(1),
    }
}

impl LocalListener {
    async fn accept(&self) -> io::Result<Arrived> {
        match self {
            Self::Loopback(tcp) => tcp.accept().await.map(|(tcp, peer)| Arrived::Tcp(tcp, peer)),
            Self::Unix(unix) => unix.accept().await.map(|(unix, _)| Arrived::Unix(unix)),
        }
    }

    fn has_waiting(&self) -> bool {
        match self {
            Self::Loopback(tcp) => has_waiting(tcp),
            Self::Unix(unix) => has_waiting(unix),
        }
    }
}

impl Arrived {
    /// The address that it comes from.
    fn address(&self) -> PeerAddress {
        match self {
            Self::Tcp(_, peer) => PeerAddress::of(peer.ip()),
            Self::Unix(_) => PeerAddress::of(Ipv4Addr::LOCALHOST.into()),
        }
    }

    /// The user whose process made its other end. What the kernel does not say is nobody.
    fn user(&self) -> Option<PeerAddress> {
        let uid = match self {
            Self::Tcp(tcp, peer) => loopback_peer::uid(*peer, tcp.local_addr().ok()?).ok(),
            Self::Unix(unix) => unix.peer_cred().ok().map(|peer| peer.uid()),
        };
        uid.map(PeerAddress::User)
    }
}

async fn finish_handshake(
    socket: TcpStream,
    tls: &ServerTls,
    mut place: Handshake,
    plane: &DataPlane,
) -> Result<(TlsStream<Socket>, Option<OffsetDateTime>), HandshakeFailure> {
    // Without it small answers wait for acknowledgements; with an error they only do that.
    let _ = socket.set_nodelay(true);
    let failed = |error: io::Error| HandshakeFailure::Failed(tls.why(&error));
    let other_took_the_place = place.other_took_it();
    // In a box, which goes with it: what serves the connection after it lives for long.
    let finishing = Box::pin(async {
        let socket = Socket::tcp(socket);
        let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await.map_err(failed)?;
        if !place.greeted(now()) {
            return Err(HandshakeFailure::NoPlace);
        }
        let (finished, until) = mtls::handshake(hello.into_stream(Arc::clone(&tls.config))).await;
        Ok((finished.map_err(failed)?, until))
    });
    tokio::select! {
        biased;
        () = other_took_the_place => Err(HandshakeFailure::NoPlace),
        finished = tokio::time::timeout(plane.limits.handshake_timeout, finishing) => finished
            .unwrap_or_else(|_| Err(HandshakeFailure::Failed("no handshake in time".to_owned()))),
    }
}

fn handshake_failed(why: HandshakeFailure, peer: SocketAddr, plane: &DataPlane) {
    let metrics = &plane.metrics;
    let why = match why {
        HandshakeFailure::NoPlace => {
            metrics.connections_refused.increment(1);
            "it gave way to newer ones: handshakes_max or handshakes_per_address_max is reached"
                .to_owned()
        }
        HandshakeFailure::Failed(why) => {
            metrics.handshakes_failed.increment(1);
            why
        }
    };
    if let Some(left_out) = plane.handshake_log.pass(now()) {
        tracing::warn!(target: "signing_proxy", %peer, why, left_out, "handshake failed");
    }
}

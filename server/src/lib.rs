//! The data plane: accept within limits, TLS, HTTP, dialects. It never sees an
//! upstream.
//!
//! For callers, at every door. It proves who calls and reads what is asked; who may and what may leave, the
//! pipeline decides ([`sign`]). It changes no gate, and can neither reach the emergency signer nor open a
//! file of the configuration.

mod accept;
mod answer;
mod answers;
mod bodies;
mod caller_rates;
mod connection;
mod connections;
mod dialects;
mod entrance;
mod expiry;
mod handshakes;
mod http;
mod http2;
mod http_date;
mod in_flight;
mod kms;
mod let_in;
mod local;
mod loopback_peer;
mod openapi;
mod own_wakes;
mod reading;
pub mod refusals;
mod registry_answer;
mod request_body;
mod route;
mod send_queue;
mod share;
mod shared;
mod socket;
mod stream;
pub mod traces;
mod unproved;
pub mod untrusted_input;
mod verify;
mod watched;

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use host::clock::{now, wall_now};
use host::log_limit::LogLimit;
use host::peer_address::PeerAddress;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use monitor::Monitor;
use mtls::{FinishedHandshake, ServerTls};
use sign::SigningRoom;
use signing_core::Moment;
use telemetry::conditions::Conditions;
use telemetry::metrics::{Metrics, ResetReason};
use time::OffsetDateTime;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::server::TlsStream;

pub use accept::{LocalListener, accept, accept_local};
pub use answer::{Answer, json_answer, problem, problem_with_mistakes, status_of};
pub use caller_rates::CallerRates;
pub use connections::{Connections, settle_after_stops};
pub use in_flight::signed_max;
pub use local::LocalDoor;
pub use registry_answer::RegistryAnswer;
pub use traces::SPAN_MAX_BYTES;

use crate::refusals::Refusals;
use crate::traces::Traces;
use connection::{CloseRequest, Connection};
use connections::Owner;
use entrance::Entrance;
use expiry::Expiry;
use handshakes::{Handshake, Handshakes};
use let_in::LetIn;
use local::Visit;
use own_wakes::OwnWakes;
use request_body::RequestBody;
use socket::Socket;
use stream::Stream;
use watched::Watched;

/// How often a connection's driver looks at its limits.
const PACE_MIN: Duration = Duration::from_millis(50);
const PACE_MAX: Duration = Duration::from_secs(1);

/// What the data plane is built of: handles on what others use too.
#[derive(Debug)]
pub struct Parts {
    /// The gates, and the rulebook in force.
    pub monitor: Monitor,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Open connections.
    pub connections: Connections,
    /// The proxy's own side, for health.
    pub conditions: Arc<Conditions>,
    /// Where the spans of requests go.
    pub traces: Traces,
    /// True once the proxy shuts down.
    pub draining: watch::Receiver<bool>,
}

/// What all connections share.
#[derive(Debug)]
pub struct DataPlane {
    /// Certificates, keys and authorities in force: a reload replaces them.
    tls: Arc<ArcSwap<ServerTls>>,
    /// Limits.
    limits: configuration::Server,
    /// The gates, and the rulebook in force.
    monitor: Monitor,
    /// Counts.
    metrics: Arc<Metrics>,
    /// The pipeline.
    room: Arc<SigningRoom>,
    /// Open connections.
    connections: Connections,
    /// Places for them, at all doors together.
    places: Semaphore,
    /// Places for connections to local doors that have not proved who calls.
    newcomers: Handshakes,
    /// The registry, as it is answered.
    registry: RegistryAnswer,
    /// How often each caller may ask.
    rates: Arc<CallerRates>,
    /// The proxy's own side, for health.
    conditions: Arc<Conditions>,
    /// Where the spans of requests go.
    traces: Traces,
    /// True once the proxy shuts down.
    draining: watch::Receiver<bool>,
    /// Refusals on their way to the journal.
    refusals: Arc<Refusals>,
    /// For lines about handshakes, which anyone can cause.
    handshake_log: LogLimit,
    /// For lines about refusals, which any caller can cause.
    refusal_log: LogLimit,
}

impl DataPlane {
    /// What serves callers through `room`.
    #[must_use]
    pub fn new(
        parts: Parts,
        limits: &configuration::Server,
        room: Arc<SigningRoom>,
        tls: Arc<ArcSwap<ServerTls>>,
        rates: Arc<CallerRates>,
    ) -> Self {
        let Parts { monitor, metrics, connections, conditions, traces, draining } = parts;
        // As many may wait without a proof as elsewhere without a certificate. Each takes a connection too, and
        // half of these are callers'.
        let newcomers = limits.handshakes_max.min(limits.connections_max / 2).max(1);
        Self {
            tls,
            limits: limits.clone(),
            monitor,
            metrics,
            room,
            connections,
            places: Semaphore::new(limits.connections_max),
            newcomers: Handshakes::new(newcomers, limits.handshakes_per_address_max),
            registry: RegistryAnswer::default(),
            rates,
            conditions,
            traces,
            draining,
            refusals: Arc::default(),
            handshake_log: LogLimit::default(),
            refusal_log: LogLimit::default(),
        }
    }

    /// Refusals on their way to the journal.
    #[must_use]
    pub fn refusals(&self) -> Arc<Refusals> {
        Arc::clone(&self.refusals)
    }
}

/// Serves a client that `let_in_by` let in, until `until`.
async fn serve(
    stream: TlsStream<Socket>,
    until: Option<OffsetDateTime>,
    mut let_in_by: Arc<ServerTls>,
    plane: &Arc<DataPlane>,
) {
    let (_, session) = stream.get_ref();
    let is_http2 = session.alpn_protocol() == Some(b"h2".as_slice());
    let caller = mtls::caller(session.peer_certificates()).map(Arc::new);
    let owner = caller.as_ref().map_or(Owner::Nameless, |caller| Owner::Caller(Arc::clone(caller)));
    let handshake = FinishedHandshake::of(session);
    let Some(until) = until.or_else(|| let_in_by.lets_in(&handshake, wall_now())) else {
        plane.metrics.handshakes_failed.increment(1);
        return;
    };
    let let_in = LetIn::certificate(handshake, Expiry::new(until, now(), wall_now()));
    let stream = Stream::Tls(Box::new(stream));
    let listed = plane.connections.list(stream, let_in, is_http2, owner);
    let Some(listed) = listed else {
        plane.metrics.connections_refused.increment(1);
        return;
    };
    let connection = listed.connection();
    // A reload during the handshake: either it finds this connection on the list,
    // or this finds the reload.
    loop {
        let current = plane.tls.load_full();
        if Arc::ptr_eq(&let_in_by, &current) {
            break;
        }
        if !connection.is_let_in(&current, wall_now()) {
            plane.metrics.handshakes_failed.increment(1);
            return;
        }
        let_in_by = current;
    }
    let ended = speak(connection, is_http2, Entrance::Mtls(caller), plane).await;
    finish(ended, connection, plane).await;
}

/// Serves a client of a local door: HTTP/1.1 without TLS.
async fn serve_local(
    socket: Socket,
    source: PeerAddress,
    (door, place): (Arc<LocalDoor>, Handshake),
    plane: &Arc<DataPlane>,
) {
    let owner = door.owner(source);
    let stream = Stream::Plain(socket);
    let owned_by = owner.clone().map_or(Owner::Newcomer, Owner::Caller);
    let Some(listed) = plane.connections.list(stream, LetIn::Local, false, owned_by) else {
        plane.metrics.connections_refused.increment(1);
        return;
    };
    let visit = Arc::new(Visit::new(door, listed, (source, owner), place));
    let connection = visit.listed().connection();
    let ended = tokio::select! {
        biased;
        () = visit.other_took_its_place() => {
            plane.metrics.connections_refused.increment(1);
            Ended::Cut
        }
        ended = speak(connection, false, Entrance::Local(Arc::clone(&visit)), plane) => ended,
    };
    finish(ended, connection, plane).await;
}

/// Answers the requests of a connection until it ends.
async fn speak(
    connection: &Arc<Connection>,
    is_http2: bool,
    entrance: Entrance,
    plane: &Arc<DataPlane>,
) -> Ended {
    let limits = &plane.limits;
    let io = Watched::new(Arc::clone(connection));
    let answer = {
        let (plane, connection) = (Arc::clone(plane), Arc::clone(connection));
        move |request| {
            http::respond(Arc::clone(&plane), Arc::clone(&connection), entrance.clone(), request)
        }
    };
    if is_http2 {
        let serving = pin!(http2::Connection::new(io, limits, answer));
        let go = |serving: Pin<&mut http2::Connection<_, _>>| serving.get_mut().graceful_shutdown();
        drive(serving, go, connection, limits).await
    } else {
        let service = service_fn(move |request| {
            // hyper keeps room for it as long as the connection is open: in a box it is there while a request is
            // answered, and not on a connection that idles.
            let answering = Box::pin(answer(RequestBody::of_http1(request)));
            async move { Ok::<_, Infallible>(answering.await) }
        });
        let serving = pin!(http1(limits).serve_connection(TokioIo::new(io), service));
        drive(serving, |serving| serving.graceful_shutdown(), connection, limits).await
    }
}

/// Sees to it that what was released arrives, or never will.
async fn finish(ended: Ended, connection: &Connection, plane: &DataPlane) {
    match ended {
        Ended::Served => connection.deliver(plane.limits.write_timeout).await,
        Ended::Cut => {
            if connection.cut() {
                plane.metrics.resets.count(ResetReason::Unread, 1);
            }
        }
    }
}

/// How a connection's driver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The HTTP library is done with it. The kernel may still have something for the client.
    Served,
    /// Whatever is on its way is to be lost.
    Cut,
}

/// Drives a connection until it ends, is asked to go, or is cut. Whatever the
/// client does, it ends: when it is too old, when its certificate or what vouched
/// for it has expired, when nothing is asked, when answers are not read, and, once
/// asked to go, after the time that answers may take.
async fn drive<C: Future>(
    mut serving: Pin<&mut C>,
    shut_down: impl Fn(Pin<&mut C>),
    connection: &Connection,
    limits: &configuration::Server,
) -> Ended {
    let grace = limits.request_timeout + limits.write_timeout;
    let pace = limits.write_timeout.min(limits.header_read_timeout) / 2;
    let mut look = tokio::time::interval(pace.clamp(PACE_MIN, PACE_MAX));
    // By the boot-time clock, like leases: time asleep counts.
    let started = now();
    let mut going_since: Option<Moment> = None;
    let mut was_idle = false;
    let own_wakes = OwnWakes::new();
    loop {
        let go = tokio::select! {
            // First what was told: after a cut nothing more is written.
            biased;
            requested = connection.close_requested(going_since.is_some()) => match requested {
                CloseRequest::Cut => return Ended::Cut,
                CloseRequest::Drain => true,
            },
            // Whatever ends it, the peer sees the connection close.
            _ = own_wakes.wait(serving.as_mut()) => return Ended::Served,
            _ = look.tick() => {
                let now = now();
                let gone_too_long = going_since.is_some_and(|since| now.since(since) > grace);
                let is_idle = connection.is_idle(limits.header_read_timeout);
                // Asked to go at the last look, and neither gone nor at work: its client
                // drips headers.
                let drips = was_idle && is_idle && connection.has_nothing_to_write();
                if gone_too_long || connection.is_stuck(limits.write_timeout) {
                    return Ended::Cut;
                }
                if drips {
                    return Ended::Served;
                }
                was_idle = is_idle;
                let is_too_old = now.since(started) >= limits.connection_age_max;
                is_too_old || is_idle || connection.is_expired(now, wall_now())
            }
        };
        if go && going_since.is_none() {
            going_since = Some(now());
            shut_down(serving.as_mut());
        }
    }
}

fn http1(limits: &configuration::Server) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        // By the driver, which looks at times anyway: hyper would arm a timer for
        // each request.
        .header_read_timeout(None)
        // Twice our own limit, so that ours answers with its reason.
        .max_buf_size(limits.headers_max_bytes.saturating_mul(2).max(8192))
        .half_close(false);
    builder
}

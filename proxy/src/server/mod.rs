//! The data plane: accept within limits, TLS, HTTP, dialects. It never sees an
//! upstream.

mod answer;
mod connections;
mod dialects;
mod http;
mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use answer::{Answer, json_answer, problem};
pub use connections::Connections;
pub use tls::ServerTls;

use crate::config;
use crate::log_limit::LogLimit;
use crate::sign::SigningRoom;
use crate::time::now;
use connections::{Connection, Flushes, Listed, Told};

/// What all connections share.
#[derive(Debug)]
pub struct DataPlane {
    /// Limits.
    pub limits: config::Server,
    /// The pipeline.
    pub room: Arc<SigningRoom>,
    /// Open connections.
    pub connections: Connections,
    /// True once the proxy shuts down.
    pub draining: watch::Receiver<bool>,
    /// For lines about handshakes, which anyone can cause.
    pub handshake_log: LogLimit,
}

/// Accepts until the proxy drains. Open connections go on; see
/// [`Connections::close`].
pub async fn accept(listener: TcpListener, tls: ServerTls, plane: Arc<DataPlane>) {
    let acceptor = TlsAcceptor::from(tls.config);
    let places = Arc::new(Semaphore::new(plane.limits.connections_max));
    let mut draining = plane.draining.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed(&error).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            plane.room.metrics.connections_refused.increment(1);
            continue;
        };
        let (acceptor, plane) = (acceptor.clone(), Arc::clone(&plane));
        tokio::spawn(async move {
            plane.room.metrics.connections.increment(1.0);
            connect(socket, peer, acceptor, &plane).await;
            plane.room.metrics.connections.decrement(1.0);
            drop(place);
        });
    }
}

/// Out of descriptors or memory: closing connections mends it, a busy loop does not.
async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "accept failed");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn connect(
    socket: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    plane: &Arc<DataPlane>,
) {
    // Without it small answers wait for acknowledgements; with an error they only do that.
    let _ = socket.set_nodelay(true);
    let handshake = tokio::time::timeout(plane.limits.handshake_timeout, acceptor.accept(socket));
    let failed = |why: &str| {
        plane.room.metrics.handshakes_failed.increment(1);
        if let Some(left_out) = plane.handshake_log.pass(now()) {
            tracing::warn!(%peer, why, left_out, "handshake failed");
        }
    };
    match handshake.await {
        Ok(Ok(stream)) => serve(stream, plane).await,
        Ok(Err(error)) => failed(&error.to_string()),
        Err(_) => failed("no handshake in time"),
    }
}

async fn serve(stream: TlsStream<TcpStream>, plane: &Arc<DataPlane>) {
    let listed = plane.connections.list();
    let connection = Arc::clone(listed.connection());
    let (_, session) = stream.get_ref();
    let is_http2 = session.alpn_protocol() == Some(b"h2".as_slice());
    let caller = tls::caller(session.peer_certificates()).map(Arc::new);
    let io = TokioIo::new(Flushes::new(stream, Arc::clone(&connection)));
    let service = {
        let (plane, connection) = (Arc::clone(plane), Arc::clone(&connection));
        service_fn(move |request| {
            http::respond(Arc::clone(&plane), Arc::clone(&connection), caller.clone(), request)
        })
    };
    let limits = &plane.limits;
    if is_http2 {
        connection.is_http2();
        let serving = http2(limits).serve_connection(io, service);
        let driven = pin!(serving);
        drive(driven, |serving| serving.graceful_shutdown(), &listed, limits).await;
    } else {
        let serving = http1(limits).serve_connection(io, service);
        let driven = pin!(serving);
        drive(driven, |serving| serving.graceful_shutdown(), &listed, limits).await;
    }
}

/// Drives a connection until it ends, is asked to go, or is cut.
async fn drive<C: Future>(
    mut serving: std::pin::Pin<&mut C>,
    shut_down: impl Fn(std::pin::Pin<&mut C>),
    listed: &Listed,
    limits: &config::Server,
) {
    let connection: &Connection = listed.connection();
    let mut too_old = pin!(tokio::time::sleep(limits.connection_age_max));
    let mut first_request = pin!(tokio::time::sleep(limits.header_read_timeout));
    let mut going = false;
    let mut asked = false;
    loop {
        tokio::select! {
            // Whatever ends it, the peer sees the connection close.
            _ = serving.as_mut() => return,
            told = connection.told(going) => match told {
                Told::Cut => return,
                Told::Go => going = true,
            },
            () = too_old.as_mut(), if !going => going = true,
            () = first_request.as_mut(), if !asked => {
                asked = true;
                if !connection.saw_a_request() {
                    return;
                }
                continue;
            }
        }
        shut_down(serving.as_mut());
    }
}

fn http1(limits: &config::Server) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        // Twice our own limit, so that ours answers with its reason.
        .max_buf_size(limits.headers_max_bytes.saturating_mul(2).max(8192))
        .max_headers(64)
        .half_close(false);
    builder
}

fn http2(limits: &config::Server) -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams_max)
        .max_header_list_size(
            u32::try_from(limits.headers_max_bytes.saturating_mul(2)).unwrap_or(u32::MAX),
        )
        .max_pending_accept_reset_streams(32)
        .max_local_error_reset_streams(64)
        .max_send_buf_size(256 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

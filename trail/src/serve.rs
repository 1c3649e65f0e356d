//! `serve`: the loop that ships, and a listener for metrics and the status.

use std::convert::Infallible;
use std::io::{self, Read as _};
use std::sync::Arc;

use bytes::Bytes;
use host::clock::now;
use host::listening::{ACCEPT_AGAIN, CONNECTION_MAX, HEAD_MAX_BYTES, HEAD_WITHIN};
use host::log::Log;
use host::log_limit::LogLimit;
use host::peer_address::PeerAddress;
use host::places::{Place, Places};
use host::process::Process;
use host::service_manager::ServiceManager;
use host::socket::{SocketError, has_waiting};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::archive::events::Events;
use crate::archive::ship::Archiving;
use crate::check::Parts;
use crate::event::Owner;
use crate::fleet::{Agent, Gauges as AgentGauges};
use crate::metrics::{Metrics, Sink};
use crate::notify::{Deliveries, Notifying};
use crate::postgres::DatabaseError;
use crate::replica::{Gauges, Watch};
use crate::required::{Doors, Required};
use crate::ship::Shipping;

/// Why it does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The system says no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The listener cannot be had.
    #[error("metrics.listen: {address}: {error}{}", host::listening::fix(.address.is_ipv6(), .error))]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system answered.
        error: io::Error,
    },
    /// Another process keeps the state of notifications.
    #[error("notify.state_dir: {0}")]
    Notify(String),
    /// The socket for a proxy cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The database cannot be used as it is.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Serves until SIGTERM or SIGINT, of which `manager` hears. What is under way then is cut off: the sink knows how far it is.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    parts: Parts,
    manager: Result<ServiceManager, String>,
    while_stdin_open: bool,
) -> Result<(), ServeError> {
    let log = Log::start()?;
    let manager = manager.unwrap_or_else(|error| {
        log.error("systemd does not hear of this process", json!({"trouble": error}));
        ServiceManager::default()
    });
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let address = parts.config.listen;
    let listener =
        TcpListener::bind(address).await.map_err(|error| ServeError::Listen { address, error })?;
    let parts = Arc::new(parts);
    let notifying = Notifying::new(&parts)?;
    let mut sinks = vec![Sink::Postgres];
    sinks.extend(parts.config.archive.as_ref().map(|_| Sink::Archive));
    let metrics = Metrics::new(&sinks, parts.config.journals.iter().map(|(owner, _)| *owner));
    if parts.config.archive.as_ref().is_some_and(|archive| archive.per_event) {
        // Its series are there before it first succeeds or fails: only the emergency signer has such objects.
        metrics.update(Sink::ArchiveEvents, Owner::Signer, |_| {});
    }
    let listens = listener.local_addr()?.to_string();
    log.info("serving", json!({"metrics": listens, "signer_kid": parts.kid}));
    let gauges = Gauges::default();
    let has_agent = parts.config.fleet.is_some();
    let agent = if has_agent { AgentGauges::of_agent() } else { AgentGauges::default() };
    let shown = Shown {
        metrics: metrics.clone(),
        gauges: gauges.clone(),
        agent: agent.clone(),
        deliveries: notifying.deliveries(),
        process: Process::started(),
    };
    let listening = listen(listener, shown, log.clone());
    let notifying = notifying.run(Arc::clone(&parts), metrics.clone(), log.clone());
    let config = &parts.config;
    let watching = config.replica.clone().map(|name| {
        let (place, journals) = (config.postgres.clone(), config.journals.clone());
        Watch::new(place, name, journals, gauges, log.clone()).run()
    });
    let carrying = config.fleet.clone().map(|fleet| {
        let gauges = (metrics.clone(), agent);
        Agent::new(config.postgres.clone(), fleet, gauges, log.clone()).run()
    });
    let archiving = config.archive.clone().map(|settings| {
        Archiving::new(Arc::clone(&parts), settings, metrics.clone(), log.clone()).run()
    });
    let writing_events = config.archive.clone().filter(|settings| settings.per_event);
    let writing_events = writing_events.map(|settings| {
        Events::new(Arc::clone(&parts), settings, metrics.clone(), log.clone()).run()
    });
    let required = config.required.as_ref().map(|_| Required::new());
    let doors = match (&config.required, &required) {
        (Some(settings), Some(required)) => {
            let place = (settings.socket.as_path(), settings.uids.clone());
            Some(Doors::bind(place, Arc::clone(&parts), required.clone(), log.clone())?)
        }
        _ => None,
    };
    let shipping = Shipping::new(Arc::clone(&parts), metrics, log.clone(), required);
    let shipping = ship_apart(shipping, doors, manager.clone())?;
    manager.serving();
    let ended = tokio::select! {
        error = shipping => Err(error.unwrap_or_else(|_| {
            io::Error::other("the thread that ships ended by itself").into()
        })),
        () = listening => Ok(()),
        () = if_any(carrying) => Ok(()),
        () = if_any(watching) => Ok(()),
        () = notifying => Ok(()),
        never = if_any(archiving) => match never {},
        never = if_any(writing_events) => match never {},
        () = if_any(while_stdin_open.then(stdin_closed)) => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    manager.stopping();
    log.info("stopped", json!({}));
    log.flush();
    ended
}

/// Ships, and serves proxies that wait for that, on a thread of its own: nothing else takes its turn, and a disk that
/// hangs in it leaves the metrics to be read. It ends with an error alone.
fn ship_apart(
    shipping: Shipping,
    doors: Option<Doors>,
    manager: ServiceManager,
) -> io::Result<oneshot::Receiver<ServeError>> {
    let (ended, has_ended) = oneshot::channel();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("shipping".to_owned()).spawn(move || {
        let error = runtime.block_on(async {
            tokio::spawn(stay_alive(manager));
            tokio::select! {
                error = shipping.run() => error.into(),
                error = if_any(doors.map(Doors::run)) => error.into(),
            }
        });
        // Whoever heard it may be gone: then the process ends anyway.
        let _ = ended.send(error);
        // A look-up of a name or a file that hangs holds nobody up.
        runtime.shutdown_background();
    })?;
    Ok(has_ended)
}

/// Tells the watchdog that the thread which ships moves. A database that hangs is no reason to be restarted.
async fn stay_alive(manager: ServiceManager) {
    let Some(every) = manager.alive_every() else { return };
    let mut beat = tokio::time::interval(every);
    loop {
        beat.tick().await;
        manager.alive();
    }
}

/// Waits until standard input is closed: then whoever started this process is gone, or wants it to stop.
async fn stdin_closed() {
    let (closed, is_closed) = oneshot::channel::<()>();
    let waiting = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut some = [0; 64];
        // What is written there says nothing.
        while matches!(std::io::stdin().lock().read(&mut some), Ok(1..)) {}
        drop(closed);
    });
    if waiting.is_ok() {
        // Nothing is ever sent: the end of the thread is the word.
        let _ = is_closed.await;
    }
}

/// What is configured runs; what is not never ends.
async fn if_any<F: Future>(runs: Option<F>) -> F::Output {
    match runs {
        Some(runs) => runs.await,
        None => std::future::pending().await,
    }
}

/// What the listener shows.
#[derive(Clone)]
struct Shown {
    metrics: Metrics,
    gauges: Gauges,
    agent: AgentGauges,
    deliveries: Deliveries,
    process: Process,
}

impl Shown {
    fn render(&self) -> String {
        self.metrics.render()
            + &self.gauges.render()
            + &self.agent.render()
            + &self.deliveries.render()
            + &self.process.metrics()
    }
}

async fn listen(listener: TcpListener, shown: Shown, log: Log) {
    let (places, gave_way) = (Places::for_anybody(), Arc::new(LogLimit::default()));
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors: a closed connection gives one back.
            if has_waiting(&listener) {
                places.give_way();
            }
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        if let Some(place) = places.begin(PeerAddress::of(peer.ip())) {
            let (shown, log, gave_way) = (shown.clone(), log.clone(), Arc::clone(&gave_way));
            tokio::spawn(async move {
                if !connection(stream, Arc::new(place), shown).await
                    && let Some(left_out) = gave_way.pass(now())
                {
                    log.warn(
                        "a connection without a request gave way to newer ones",
                        json!({"peer": peer.ip().to_string(), "left_out": left_out}),
                    );
                }
            });
        }
        // Whoever has asked already is heard before the next one can take its place.
        yield_now().await;
    }
}

/// False if it gave its place away.
async fn connection(stream: TcpStream, place: Arc<Place<PeerAddress>>, shown: Shown) -> bool {
    let service = {
        let place = Arc::clone(&place);
        service_fn(move |request| {
            std::future::ready(Ok::<_, Infallible>(answer(&request, &shown, place.asked())))
        })
    };
    let serving = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // First what has arrived of a request: whoever has asked does not give way.
        biased;
        // An error here is the peer's: it sees its connection close. A place is nobody's for ever.
        _ = tokio::time::timeout(CONNECTION_MAX, serving) => true,
        () = place.gave_way() => false,
    }
}

/// `has_room`: this source, and all together, leave places for others' requests.
fn answer(request: &Request<Incoming>, shown: &Shown, has_room: bool) -> Response<Full<Bytes>> {
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        // A short answer is the kernel's at once, whether its client reads or not. A long one waits for its
        // client, and keeps its place.
        (&Method::GET, "/metrics" | "/status") if !has_room => {
            let why = "too many answers of this listener are not read yet; read them, then retry\n";
            (StatusCode::SERVICE_UNAVAILABLE, "text/plain", why.to_owned())
        }
        (&Method::GET, "/metrics") => (StatusCode::OK, "text/plain; version=0.0.4", shown.render()),
        (&Method::GET, "/livez") => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        (&Method::GET, "/status") => {
            let status = shown.deliveries.added_to(shown.metrics.status());
            (StatusCode::OK, "application/json", status.to_string())
        }
        (_, "/metrics" | "/livez" | "/status") => {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "use GET\n".to_owned())
        }
        _ => (StatusCode::NOT_FOUND, "text/plain", "/metrics, /status, /livez\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

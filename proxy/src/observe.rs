//! Metrics and health on their own listener, without TLS: for Prometheus and
//! for orchestrators on the same host. No incident text leaves here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use audit::Journal;
use breakglass::emergency::Emergency;
use host::clock::{now, wall_now};
use host::listening::{ACCEPT_AGAIN, CONNECTION_MAX, HEAD_MAX_BYTES, HEAD_WITHIN};
use host::log_limit::LogLimit;
use host::peer_address::PeerAddress;
use host::places::{Place, Places};
use host::socket::has_waiting;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use monitor::Monitor;
use serde_json::json;
use server::{Answer, json_answer, problem, status_of};
use signing_core::{Reason, Refusal};
use telemetry::conditions::{Conditions, Reader};
use telemetry::health::Health;
use telemetry::metrics::{EmergencySigner, Metrics};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::yield_now;

use crate::handles::Handles;

/// How often histogram samples are folded, scraped or not.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// What the listener shows.
#[derive(Debug)]
pub struct Observed {
    /// The gates.
    monitor: Monitor,
    /// The journal.
    journal: Journal,
    /// The emergency signer.
    emergency: Emergency,
    /// The proxy's own side.
    conditions: Arc<Conditions>,
    /// The metrics.
    metrics: Arc<Metrics>,
    /// True once the proxy shuts down: not ready any more.
    draining: watch::Receiver<bool>,
}

impl Observed {
    /// What these show.
    #[must_use]
    pub fn new(handles: &Handles) -> Self {
        Self {
            monitor: handles.monitor.clone(),
            journal: handles.journal.clone(),
            emergency: handles.emergency.clone(),
            conditions: Arc::clone(&handles.conditions),
            metrics: Arc::clone(&handles.metrics),
            draining: handles.draining.clone(),
        }
    }
}

/// Serves metrics and health until the process ends.
pub async fn serve(listener: TcpListener, observed: Arc<Observed>) {
    let metrics = Arc::clone(&observed.metrics);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_EVERY).await;
            metrics.upkeep();
        }
    });
    let places = Places::for_anybody();
    let log = Arc::new(LogLimit::default());
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Some(place) = places.begin(PeerAddress::of(peer.ip())) {
                    let (observed, log) = (Arc::clone(&observed), Arc::clone(&log));
                    tokio::spawn(async move {
                        if !connection(stream, Arc::new(place), observed).await
                            && let Some(left_out) = log.pass(now())
                        {
                            tracing::warn!(
                                peer = %peer.ip(),
                                left_out,
                                "a connection without a request gave way to newer ones"
                            );
                        }
                    });
                }
                // Whoever has asked already is heard before the next one can take its place.
                yield_now().await;
            }
            Err(_) => {
                // Out of descriptors: a closed connection gives one back.
                if has_waiting(&listener) {
                    places.give_way();
                }
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// False if it gave its place away.
async fn connection(
    stream: TcpStream,
    place: Arc<Place<PeerAddress>>,
    observed: Arc<Observed>,
) -> bool {
    let service = {
        let place = Arc::clone(&place);
        service_fn(move |request| {
            let answer = respond(&observed, &request, place.asked());
            std::future::ready(Ok::<_, Infallible>(answer))
        })
    };
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_MAX_BYTES);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // First what has arrived of a request: whoever has asked does not give way.
        biased;
        // An error here is the peer's: it sees its connection close. A place is nobody's for ever.
        _ = tokio::time::timeout(CONNECTION_MAX, serving) => true,
        () = place.gave_way() => false,
    }
}

/// `has_room`: this source, and all together, leave places for others' requests.
fn respond(observed: &Observed, request: &Request<Incoming>, has_room: bool) -> Response<Answer> {
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/health" | "/livez" | "/readyz") {
        let detail = "no such path; GET /metrics, /health, /livez, /readyz";
        return problem(&Refusal::new(Reason::NotFound, detail), None);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return problem(&Refusal::new(Reason::MethodNotAllowed, "this path takes GET"), None);
    }
    // A short answer is the kernel's at once, whether its client reads or not. A long one waits for
    // its client, and keeps its place.
    if !has_room && matches!(path, "/metrics" | "/health") {
        let detail = "too many answers of this listener are not read yet; read them, then retry";
        return problem(&Refusal::new(Reason::Overloaded, detail), None);
    }
    let gates = observed.monitor.gates();
    let conditions = observed.conditions.all();
    let health = Health::of(&gates, &conditions, now(), wall_now());
    match path {
        "/metrics" => {
            let known = observed.emergency.known();
            let signer = known
                .as_deref()
                .map(|known| EmergencySigner { state: &known.state, remaining: known.remaining() });
            metrics(&observed.metrics.render(&gates, &conditions, &observed.journal, signer))
        }
        "/health" => {
            let open = observed.monitor.incident();
            json_answer(status_of(health.ok), &health.message(Reader::Anonymous, open.as_deref()))
        }
        "/livez" => json_answer(StatusCode::OK, &json!({"ok": true})),
        _ => {
            let readiness = health.readiness(*observed.draining.borrow());
            json_answer(status_of(readiness.ok), &readiness)
        }
    }
}

fn metrics(text: &str) -> Response<Answer> {
    let mut response = Response::new(Answer::new(text.to_owned()));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

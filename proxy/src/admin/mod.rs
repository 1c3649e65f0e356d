//! The admin socket: HTTP/1.1 over a unix socket, for peers that the kernel
//! vouches for. It can stop signing and look; it can never sign.

mod breakglass;
pub mod outside;
mod peer;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use audit::Journal;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use signing_core::gate::Slots;
use signing_core::{Kid, Moment, Reason, Refusal, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use crate::breakglass::Breakglass;
use crate::conditions::Conditions;
use crate::config::{self, REASON_MAX_CHARS};
use crate::doctor::{Busy, Doctor};
use crate::drill::Drills;
use crate::health::{Health, Reader};
use crate::json::put;
use crate::monitor::{Monitor, Outcome, Sealed};
use crate::reload::{ReloadError, Reloaded, Reloader};
use crate::server::{Answer, Connections, json_answer, problem, problem_with_mistakes};
use crate::time::{now, wall_now};
use crate::workers::{Worker, put_workers};
use peer::Peer;

pub use host::socket::SocketError;

const CONNECTIONS_MAX: usize = 32;
const STRANGERS_MAX: usize = 4;
const CONNECTION_MAX: Duration = Duration::from_secs(60);
const BODY_MAX_BYTES: usize = 65_536;
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a freeze that is in force waits to be on disk before it says that
/// it is not.
const STORE_PATIENCE: Duration = Duration::from_secs(3);

/// Every path.
const PATHS: &[&str] = &[
    "/v1/status",
    "/v1/freeze",
    "/v1/unfreeze",
    "/v1/unseal",
    "/v1/reload",
    "/v1/doctor",
    "/v1/drill",
    "/v1/breakglass",
    "/v1/breakglass/activate",
    "/v1/breakglass/end",
    "/v1/breakglass/destroy",
];

/// What the admin socket works on.
#[derive(Debug)]
pub struct Admin {
    /// Who may use it.
    pub access: config::Admin,
    /// The name of the deployment.
    pub deployment: String,
    /// The gates.
    pub monitor: Monitor,
    /// The journal.
    pub journal: Journal,
    /// Requests in flight.
    pub slots: Slots,
    /// Open connections of the data plane.
    pub connections: Connections,
    /// Reads the configuration again.
    pub reloader: Arc<Reloader>,
    /// Break-glass.
    pub breakglass: Arc<Breakglass>,
    /// The proxy's own side.
    pub conditions: Arc<Conditions>,
    /// Looks at the upstreams.
    pub doctor: Doctor,
    /// Of tokens.
    pub workers: Arc<[Worker]>,
    /// Runs drills.
    pub drills: Arc<Drills>,
    /// When the process started.
    pub started: Moment,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Freeze {
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drill {
    signer_kid: Option<String>,
    seconds: Option<u64>,
    #[serde(default)]
    i_understand: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unseal {
    signer_kid: Option<String>,
    #[serde(default)]
    audit: bool,
    reason: String,
}

impl Unseal {
    /// What is to be unsealed: a signer, or the journal.
    fn what(&self) -> Result<Sealed, Refusal> {
        match (&self.signer_kid, self.audit) {
            (Some(kid), false) => Kid::parse(kid)
                .map(Sealed::Signer)
                .map_err(|error| Refusal::new(Reason::SignerUnknown, error.to_string())),
            (None, true) => Ok(Sealed::Journal),
            (Some(_), true) | (None, false) => Err(Refusal::new(
                Reason::InvalidRequest,
                "send either \"signer_kid\" or \"audit\": true",
            )),
        }
    }
}

/// Serves the admin socket until the process ends; `again` hands over the socket that was bound in
/// place of one whose file was removed.
pub async fn serve(
    mut listener: UnixListener,
    mut again: mpsc::Receiver<UnixListener>,
    admin: Arc<Admin>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(bound) = again.recv() => {
                listener = bound;
                continue;
            }
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // A peer that the kernel does not name is nobody.
        let peer = stream.peer_cred().ok().map(|credentials| Peer::new(&credentials));
        let peer = peer.filter(|peer| peer.may_use(&admin.access));
        // Who may not use it has few places of its own, only to be told so.
        let places = if peer.is_some() { &places } else { &strangers };
        let Ok(place) = Arc::clone(places).try_acquire_owned() else { continue };
        let admin = Arc::clone(&admin);
        tokio::spawn(async move {
            let serving = connection(stream, peer, admin);
            // A place is nobody's for ever.
            let _ = tokio::time::timeout(CONNECTION_MAX, serving).await;
            drop(place);
        });
    }
}

async fn connection(stream: UnixStream, peer: Option<Peer>, admin: Arc<Admin>) {
    let stranger = match (&peer, stream.peer_cred()) {
        (None, Ok(credentials)) => format!("uid {}", credentials.uid()),
        _ => "an unknown peer".to_owned(),
    };
    let service = service_fn(move |request| {
        let (admin, stranger) = (Arc::clone(&admin), stranger.clone());
        async move {
            let answer = match peer {
                Some(peer) => respond(&admin, peer, request).await,
                None => Err(not_allowed(&stranger)),
            };
            Ok::<_, Infallible>(answer.unwrap_or_else(|refusal| problem(&refusal, None)))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(READ_TIMEOUT).max_buf_size(65_536);
    // An error here is the peer's: it sees its connection close.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn not_allowed(who: &str) -> Refusal {
    tracing::warn!(target: "admin", peer = who, "refused on the admin socket");
    Refusal::new(
        Reason::CallerNotAuthorized,
        format!(
            "{who} may not use this socket; admin.allowed_uids and admin.allowed_gids say who may"
        ),
    )
}

async fn respond(
    admin: &Admin,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Refusal> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match (path.as_str(), &method) {
        ("/v1/status", &Method::GET) => Ok(json_answer(StatusCode::OK, &status(admin))),
        ("/v1/freeze", &Method::POST) => {
            let Freeze { reason } = read(request).await?;
            let reason = one_line(reason)?;
            let reset_before = admin.connections.reset_by_stops();
            let freezing = admin.monitor.freeze(reason, peer.name_soon().await);
            let outcome = match tokio::time::timeout(STORE_PATIENCE, freezing).await {
                Ok(outcome) => outcome.map_err(gone)?,
                Err(_) => {
                    Outcome::NotStored("a restart would forget it: the disk does not answer".into())
                }
            };
            // In force since before this line: only what was released earlier can
            // still be on its way.
            admin.connections.settle().await;
            let cut = admin.connections.reset_by_stops() - reset_before;
            answer(outcome, json!({"frozen": still_frozen(admin), "connections_cut": cut}))
        }
        ("/v1/unfreeze", &Method::POST) => {
            let outcome = admin.monitor.unfreeze(peer.name().await).await.map_err(gone)?;
            answer(outcome, json!({"frozen": still_frozen(admin)}))
        }
        ("/v1/unseal", &Method::POST) => {
            let asked: Unseal = read(request).await?;
            let what = asked.what()?;
            let Unseal { signer_kid, reason, .. } = asked;
            let reason = one_line(reason)?;
            let by = peer.name().await;
            let outcome = admin.monitor.unseal(what, reason, by).await.map_err(gone)?;
            let mut body = json!({"unsealed": outcome == Outcome::Done});
            match signer_kid {
                Some(kid) => put(&mut body, "signer_kid", kid),
                None => put(&mut body, "audit", true),
            }
            answer(outcome, body)
        }
        ("/v1/reload", &Method::POST) => {
            let by = peer.name().await;
            Ok(reload(Arc::clone(&admin.reloader).reload(by).await))
        }
        ("/v1/drill", &Method::POST) => {
            let Drill { signer_kid, seconds, i_understand } = read(request).await?;
            let (drills, by) = (Arc::clone(&admin.drills), peer.name().await);
            let report = drills.run(signer_kid.as_deref(), seconds, i_understand, by).await?;
            Ok(json_answer(StatusCode::OK, &report))
        }
        ("/v1/doctor", &Method::POST) => match admin.doctor.visit().await {
            Ok(report) => Ok(json_answer(StatusCode::OK, &report.to_json())),
            Err(Busy) => Err(Refusal::new(
                Reason::Overloaded,
                "another visit of the doctor is under way; ask again in a minute",
            )),
        },
        ("/v1/breakglass", &Method::GET) => {
            Ok(json_answer(StatusCode::OK, &breakglass::status(admin).await))
        }
        ("/v1/breakglass/activate", &Method::POST) => {
            breakglass::activate(admin, peer, request).await
        }
        ("/v1/breakglass/end", &Method::POST) => breakglass::end(admin, peer, request).await,
        ("/v1/breakglass/destroy", &Method::POST) => {
            breakglass::destroy(admin, peer, request).await
        }
        (path, _) if PATHS.contains(&path) => Err(Refusal::new(
            Reason::MethodNotAllowed,
            format!(
                "{path} does not take {method}; /v1/status and /v1/breakglass take GET, the \
                     others POST"
            ),
        )),
        _ => Err(Refusal::new(
            Reason::NotFound,
            format!("no such path; there are {}", PATHS.join(", ")),
        )),
    }
}

fn still_frozen(admin: &Admin) -> bool {
    admin.monitor.gates().freeze().is_some()
}

fn status(admin: &Admin) -> Value {
    let gates = admin.monitor.gates();
    let conditions = admin.conditions.all();
    let mut body = Health::of(&gates, &conditions, now(), wall_now()).to_json(Reader::Operator);
    put(&mut body, "deployment", &admin.deployment);
    put(&mut body, "version", env!("CARGO_PKG_VERSION"));
    put(&mut body, "config_generation", gates.rulebook().generation());
    put(&mut body, "uptime_s", now().since(admin.started).as_secs());
    put(&mut body, "min_outage_s", admin.breakglass.min_outage.as_secs());
    put(&mut body, "requests_in_flight", admin.slots.taken());
    put(&mut body, "connections", admin.connections.count());
    let (head, older) = (admin.journal.head(), admin.journal.older_segments());
    let mut journal = json!({
        "chain": admin.journal.chain().to_string(),
        "seq": head.seq,
        "hash": head.hash.to_string(),
        "directory": admin.journal.path().display().to_string(),
        "set_aside_bytes": admin.journal.space().set_aside,
        "older_segments": {"checked": older.checked, "of": older.of},
        "sealed": gates.audit_stop().is_some_and(|stop| stop.sealed),
    });
    if let Some(stop) = gates.audit_stop() {
        put(&mut journal, "trouble", &stop.detail);
    }
    put(&mut body, "audit", journal);
    put_workers(&admin.workers, &mut body);
    breakglass::put_status(admin, &gates, &mut body);
    body
}

/// The answer to a command: what became of it, in words and in status.
fn answer(outcome: Outcome, done: Value) -> Result<Response<Answer>, Refusal> {
    let (status, note) = match outcome {
        Outcome::Done => (StatusCode::OK, None),
        Outcome::Nothing(why) => (StatusCode::CONFLICT, Some(why)),
        Outcome::NotStored(why) => {
            (StatusCode::INSUFFICIENT_STORAGE, Some(format!("in force now, but {why}")))
        }
        Outcome::Failed(why) => {
            return Err(Refusal::new(Reason::Internal, format!("nothing changed: {why}")));
        }
    };
    let mut body = done;
    if let Some(note) = note {
        put(&mut body, "note", note);
    }
    Ok(json_answer(status, &body))
}

/// What a reload did, or every mistake that kept it from doing anything.
fn reload(reloaded: Result<Reloaded, ReloadError>) -> Response<Answer> {
    let error = match reloaded {
        Ok(Reloaded { generation, signers_touched, connections_cut }) => {
            let touched: Vec<_> = signers_touched.iter().map(Kid::as_str).collect();
            let body = json!({
                "reloaded": true,
                "generation": generation,
                "signers_touched": touched,
                "connections_cut": connections_cut,
            });
            return json_answer(StatusCode::OK, &body);
        }
        Err(error) => error,
    };
    let (reason, mistakes): (_, &[String]) = match &error {
        ReloadError::Mistakes(config) => (Reason::InvalidRequest, &config.mistakes),
        ReloadError::Busy => (Reason::Overloaded, &[]),
        ReloadError::TooSlow | ReloadError::Gone(_) => (Reason::Internal, &[]),
        ReloadError::Unrecorded(_) => (Reason::AuditUnavailable, &[]),
    };
    problem_with_mistakes(&Refusal::new(reason, error.to_string()), mistakes)
}

fn gone(error: crate::monitor::MonitorGone) -> Refusal {
    Refusal::new(Reason::Internal, error.to_string())
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let invalid = |why: String| Refusal::new(Reason::InvalidRequest, why);
    let reading = Limited::new(request.into_body(), BODY_MAX_BYTES).collect();
    let body = tokio::time::timeout(READ_TIMEOUT, reading)
        .await
        .map_err(|_| Refusal::new(Reason::RequestTimeout, "the body did not arrive in time"))?
        .map_err(|error| invalid(error.to_string()))?;
    parsed(&body.to_bytes())
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    json::from_slice(body).map_err(|error| Refusal::new(Reason::InvalidRequest, error.to_string()))
}

fn one_line(reason: String) -> Result<String, Refusal> {
    let reason = reason.trim().to_owned();
    let length = reason.chars().count();
    if length == 0 || length > REASON_MAX_CHARS || reason.chars().any(char::is_control) {
        return Err(Refusal::new(
            Reason::InvalidRequest,
            format!("\"reason\" has to be one line of 1 to {REASON_MAX_CHARS} characters"),
        ));
    }
    Ok(reason)
}

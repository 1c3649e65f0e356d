//! The admin socket: HTTP/1.1 over a unix socket, for peers that the kernel
//! vouches for. It can stop signing and look; it can never sign.

mod accept;
mod breakglass;
pub mod outside;
mod peer;

use std::sync::Arc;
use std::time::Duration;

use audit::Journal;
use bytes::Bytes;
use host::clock::{now, wall_now};
use http::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use signing_core::gate::Slots;
use signing_core::{Kid, Moment, Reason, Refusal, json};

use crate::breakglass::Breakglass;
use crate::conditions::Conditions;
use crate::config;
use crate::doctor::{Busy, Doctor};
use crate::drill::Drills;
use crate::health::{Health, Reader};
use crate::json::put;
use crate::monitor::{Monitor, Outcome, Sealed};
use crate::reload::{ReloadError, Reloaded, Reloader};
use crate::server::{Answer, Connections, json_answer, problem_with_mistakes};
use crate::workers::{Worker, put_workers};
use peer::Peer;

pub use accept::serve;
pub use host::socket::SocketError;

/// How long a freeze that is in force waits to be on disk before it says that
/// it is not.
const STORE_PATIENCE: Duration = Duration::from_secs(3);

/// The path that stops signing.
const FREEZE: &str = "/v1/freeze";

/// Every path.
const PATHS: &[&str] = &[
    "/v1/status",
    FREEZE,
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

async fn respond(
    admin: &Admin,
    peer: Peer,
    request: Request<Bytes>,
) -> Result<Response<Answer>, Refusal> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match (path.as_str(), &method) {
        ("/v1/status", &Method::GET) => Ok(json_answer(StatusCode::OK, &status(admin))),
        (FREEZE, &Method::POST) => {
            let Freeze { reason } = read(&request)?;
            let reason = one_line(&reason)?;
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
            let asked: Unseal = read(&request)?;
            let what = asked.what()?;
            let Unseal { signer_kid, reason, .. } = asked;
            let reason = one_line(&reason)?;
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
            let Drill { signer_kid, seconds, i_understand } = read(&request)?;
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
            breakglass::activate(admin, peer, &request).await
        }
        ("/v1/breakglass/end", &Method::POST) => breakglass::end(admin, peer, &request).await,
        ("/v1/breakglass/destroy", &Method::POST) => {
            breakglass::destroy(admin, peer, &request).await
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
        "log": admin.journal.log().origin(),
        "size": head.size,
        "root": head.root.to_string(),
        "directory": admin.journal.path().display().to_string(),
        "set_aside_bytes": admin.journal.space().set_aside,
        "older_segments": {"checked": older.checked, "of": older.of, "waits": older.waits},
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

fn read<T: DeserializeOwned>(request: &Request<Bytes>) -> Result<T, Refusal> {
    parsed(request.body())
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    json::from_slice(body).map_err(|error| Refusal::new(Reason::InvalidRequest, error.to_string()))
}

fn one_line(reason: &str) -> Result<String, Refusal> {
    config::reason(reason).map_err(|why| Refusal::new(Reason::InvalidRequest, why))
}

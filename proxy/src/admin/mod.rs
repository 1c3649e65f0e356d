//! The admin socket: HTTP/1.1 over a unix socket, for peers that the kernel
//! vouches for. It can stop signing and look; it can never sign.

mod accept;
mod breakglass;
mod events;
mod fleet;
mod incident;
mod peer;
pub mod untrusted_input;

use std::sync::Arc;
use std::time::Duration;

use ::breakglass::Breakglass;
use audit::{Journal, SegmentCheck};
use bytes::Bytes;
use configuration::Config;
use host::clock::{now, wall_now};
use http::{Method, Request, Response, StatusCode};
use monitor::{Monitor, Outcome, Sealed};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use server::{Answer, Connections, json_answer, problem_with_mistakes};
use signing_core::admin::breakglass::UndoneCommand;
use signing_core::admin::{
    self, Drill, Freeze, Frozen, JournalStatus, OlderSegments, ProxyStatus, RehearsalRecorded,
    Status, Unfreeze, Unseal, Unsealed, path,
};
use signing_core::gate::{AuditStop, Slots};
use signing_core::{FreezeId, Kid, Moment, Reason, Refusal, json};
use telemetry::conditions::{Conditions, Reader};
use telemetry::events::Events;
use telemetry::health::Health;
use telemetry::metrics::Metrics;
use telemetry::workers::{Worker, Workers};

use crate::doctor::{Busy, Doctor};
use crate::drill::{Drills, NotDrilled};
use crate::handles::Handles;
use crate::reload::{ReloadError, Reloaded, Reloader};
use peer::Peer;

pub use accept::serve;
pub use fleet::Fleet;
pub use host::socket::SocketError;

/// How long a freeze that is in force waits to be on disk before it says that
/// it is not.
const STORE_PATIENCE: Duration = Duration::from_secs(3);

/// What the admin socket works on.
#[derive(Debug)]
pub struct Admin {
    /// Who may use it.
    access: configuration::Admin,
    /// The name of the deployment.
    deployment: String,
    /// The gates.
    monitor: Monitor,
    /// The journal.
    journal: Journal,
    /// Its newest events.
    events: Events,
    /// Who waits for them.
    waiting: events::Waiting,
    /// Counts.
    metrics: Arc<Metrics>,
    /// Requests in flight.
    slots: Slots,
    /// Open connections of the data plane.
    connections: Connections,
    /// Reads the configuration again.
    reloader: Arc<Reloader>,
    /// Break-glass.
    breakglass: Arc<Breakglass>,
    /// The proxy's own side.
    conditions: Arc<Conditions>,
    /// Looks at the upstreams.
    doctor: Arc<Doctor>,
    /// Of tokens.
    workers: Arc<Workers>,
    /// The fleet; none: it is of none.
    fleet: Option<Fleet>,
    /// Runs drills.
    drills: Arc<Drills>,
    /// When the process started.
    started: Moment,
}

impl Admin {
    /// What `config` lets operators do.
    #[must_use]
    pub fn new(
        handles: &Handles,
        config: &Config,
        reloader: Arc<Reloader>,
        (breakglass, fleet): (Arc<Breakglass>, Option<Fleet>),
        doctor: Arc<Doctor>,
        drills: Arc<Drills>,
        workers: Arc<Workers>,
    ) -> Self {
        Self {
            access: config.admin.clone(),
            deployment: config.deployment.clone(),
            monitor: handles.monitor.clone(),
            journal: handles.journal.clone(),
            events: handles.events.clone(),
            waiting: events::Waiting::default(),
            metrics: Arc::clone(&handles.metrics),
            slots: handles.slots.clone(),
            connections: handles.connections.clone(),
            reloader,
            breakglass,
            fleet,
            conditions: Arc::clone(&handles.conditions),
            doctor,
            workers,
            drills,
            started: now(),
        }
    }
}

/// What is to be unsealed: a signer, or the journal.
fn sealed(asked: &Unseal) -> Result<Sealed, Refusal> {
    match (&asked.signer_kid, asked.audit) {
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

async fn respond(
    admin: &Admin,
    peer: Peer,
    request: Request<Bytes>,
) -> Result<Response<Answer>, Refusal> {
    let (method, asked) = (request.method().clone(), request.uri().path().to_owned());
    match (asked.as_str(), &method) {
        (path::STATUS, &Method::GET) => Ok(json_answer(StatusCode::OK, &status(admin))),
        (path::EVENTS, &Method::GET) => events::show(admin, peer, &request).await,
        (path::FREEZE, &Method::POST) => {
            let Freeze { reason } = read(&request)?;
            let reason = one_line(&reason)?;
            let by = peer.name_soon().await;
            let (outcome, cut) = settled(admin, admin.monitor.freeze(reason, by)).await?;
            let (frozen, id) = still_frozen(admin);
            answer(outcome, |note| Frozen { frozen, id, connections_cut: Some(cut), note })
        }
        (path::UNFREEZE, &Method::POST) => {
            let Unfreeze { reason } = read(&request)?;
            let reason = one_line(&reason)?;
            let by = peer.name().await;
            let outcome = admin.monitor.unfreeze(reason, by).await.map_err(gone)?;
            let (frozen, id) = still_frozen(admin);
            answer(outcome, |note| Frozen { frozen, id, connections_cut: None, note })
        }
        (path::FLEET_FREEZE, &Method::POST) => fleet::freeze(admin, peer, &request).await,
        (path::FLEET_STATEMENT, &Method::POST) => fleet::statement(admin, peer, &request).await,
        (path::FLEET_HEARTBEAT, &Method::POST) => fleet::heartbeat(admin, &request).await,
        (path::UNSEAL, &Method::POST) => {
            let asked: Unseal = read(&request)?;
            let what = sealed(&asked)?;
            let Unseal { signer_kid, audit, reason } = asked;
            let reason = one_line(&reason)?;
            let by = peer.name().await;
            let outcome = admin.monitor.unseal(what, reason, by).await.map_err(gone)?;
            let unsealed = outcome == Outcome::Done;
            answer(outcome, |note| Unsealed { unsealed, signer_kid, audit, note })
        }
        (path::RELOAD, &Method::POST) => {
            asks_for_no_more(&request)?;
            let by = peer.name().await;
            Ok(reload(Arc::clone(&admin.reloader).reload(by).await))
        }
        (path::DRILL, &Method::POST) => {
            let asked: Drill = read(&request)?;
            let (drills, by) = (Arc::clone(&admin.drills), peer.name().await);
            if let Some(rehearsal) = &asked.rehearsal {
                drills.rehearsed(rehearsal, &by).await?;
                return Ok(json_answer(StatusCode::OK, &RehearsalRecorded { recorded: true }));
            }
            match drills.run(asked, by).await {
                Ok(report) => Ok(json_answer(StatusCode::OK, &report)),
                Err(NotDrilled::Refused(refusal)) => Err(refusal),
                Err(NotDrilled::InSession(refused)) => {
                    let drilled: Result<(), _> = Err(refused);
                    Ok(breakglass::answer(drilled, UndoneCommand::Drilled(false)))
                }
            }
        }
        (path::DOCTOR, &Method::POST) => {
            asks_for_no_more(&request)?;
            match admin.doctor.visit().await {
                Ok(report) => Ok(json_answer(StatusCode::OK, &report.message())),
                Err(Busy) => Err(Refusal::new(
                    Reason::Overloaded,
                    "another visit of the doctor is under way; retry in a minute",
                )),
            }
        }
        (path::BREAKGLASS, &Method::GET) => {
            let status = admin.breakglass.status(&admin.deployment).await;
            Ok(json_answer(StatusCode::OK, &status))
        }
        (path::ACTIVATE, &Method::POST) => breakglass::activate(admin, peer, &request).await,
        (path::ACCEPT_SIGNER, &Method::POST) => {
            breakglass::accept_signer(admin, peer, &request).await
        }
        (path::INCIDENT, &Method::GET) => Ok(incident::show(admin)),
        (path::INCIDENT_BEGIN, &Method::POST) => incident::begin(admin, peer, &request).await,
        (path::INCIDENT_CAPTURED, &Method::POST) => incident::captured(admin, peer, &request).await,
        (path::INCIDENT_ITEM, &Method::POST) => incident::item(admin, peer, &request).await,
        (path::INCIDENT_END, &Method::POST) => incident::end(admin, peer, &request).await,
        (path::END, &Method::POST) => breakglass::end(admin, peer, &request).await,
        (path::DESTROY, &Method::POST) => breakglass::destroy(admin, peer, &request).await,
        (known, _) if path::ALL.contains(&known) => Err(Refusal::new(
            Reason::MethodNotAllowed,
            format!(
                "{known} does not take {method}; /v1/status, /v1/events, /v1/breakglass and /v1/incident take GET, the \
                     others POST"
            ),
        )),
        _ => Err(Refusal::new(
            Reason::NotFound,
            format!("no such path; there are {}", path::ALL.join(", ")),
        )),
    }
}

/// What became of a freeze, and how many connections it reset, once nothing that was released before it
/// can still arrive.
async fn settled(
    admin: &Admin,
    freezing: impl Future<Output = Result<Outcome, monitor::MonitorGone>>,
) -> Result<(Outcome, usize), Refusal> {
    let reset_before = admin.connections.reset_by_stops();
    let outcome = match tokio::time::timeout(STORE_PATIENCE, freezing).await {
        Ok(outcome) => outcome.map_err(gone)?,
        Err(_) => Outcome::NotStored("a restart would forget it: the disk does not answer".into()),
    };
    // In force since before this line: only what was released earlier can still be on its way.
    admin.connections.settle().await;
    Ok((outcome, admin.connections.reset_by_stops() - reset_before))
}

/// Whether a freeze is in force, and its name.
fn still_frozen(admin: &Admin) -> (bool, Option<FreezeId>) {
    let gates = admin.monitor.gates();
    let freeze = gates.freeze();
    (freeze.is_some(), freeze.and_then(|freeze| freeze.id))
}

fn status(admin: &Admin) -> Status {
    let gates = admin.monitor.gates();
    let conditions = admin.conditions.all();
    let health = Health::of(&gates, &conditions, now(), wall_now());
    let open = admin.monitor.incident();
    let mut health = health.message(Reader::Operator, open.as_deref());
    let mut proxy = ProxyStatus {
        deployment: admin.deployment.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config_generation: gates.rulebook().generation(),
        uptime_s: now().since(admin.started).as_secs(),
        min_outage_s: admin.breakglass.min_outage().as_secs(),
        requests_in_flight: admin.slots.taken(),
        connections: admin.connections.count(),
        incident: incident::open(admin),
        activity: admin.metrics.activity.message(now()),
        audit: journal(&admin.journal, gates.audit_stop()),
        fleet: fleet::in_status(admin),
        workers: admin.workers.all().iter().map(Worker::message).collect(),
        emergency_signer_connected: None,
        emergency_keys: None,
        emergency_cannot_arm: Vec::new(),
    };
    admin.breakglass.add_to(&mut proxy, health.breakglass.as_mut());
    Status { health, proxy }
}

fn journal(journal: &Journal, stop: Option<&AuditStop>) -> JournalStatus {
    let (head, SegmentCheck { checked, of, waits }) = (journal.head(), journal.older_segments());
    let space = journal.space();
    JournalStatus {
        log: journal.log().origin(),
        size: head.size,
        root: head.root.to_string(),
        directory: journal.path().display().to_string(),
        queued: space.queued,
        set_aside_bytes: space.set_aside,
        older_segments: OlderSegments { checked, of, waits },
        sealed: stop.is_some_and(|stop| stop.sealed),
        trouble: stop.map(|stop| stop.detail.clone()),
    }
}

/// The answer to a command: what became of it, in words and in status.
fn answer<T: Serialize>(
    outcome: Outcome,
    done: impl FnOnce(Option<String>) -> T,
) -> Result<Response<Answer>, Refusal> {
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
    Ok(json_answer(status, &done(note)))
}

/// What a reload did, or every mistake that kept it from doing anything.
fn reload(reloaded: Result<Reloaded, ReloadError>) -> Response<Answer> {
    let error = match reloaded {
        Ok(Reloaded { generation, registry_sha256, signers_touched, connections_cut }) => {
            let body = admin::Reloaded {
                reloaded: true,
                generation,
                registry_sha256,
                signers_touched: signers_touched.iter().map(Kid::to_string).collect(),
                connections_cut,
            };
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

fn gone(error: monitor::MonitorGone) -> Refusal {
    Refusal::new(Reason::Internal, error.to_string())
}

fn read<T: DeserializeOwned>(request: &Request<Bytes>) -> Result<T, Refusal> {
    parsed(request.body())
}

/// What is asked for by its path alone has no body, or an empty object.
fn asks_for_no_more(request: &Request<Bytes>) -> Result<(), Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    if request.body().is_empty() { Ok(()) } else { read(request).map(|Nothing {}| ()) }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    json::from_slice(body).map_err(|error| Refusal::new(Reason::InvalidRequest, error.to_string()))
}

fn one_line(reason: &str) -> Result<String, Refusal> {
    configuration::reason(reason).map_err(|why| Refusal::new(Reason::InvalidRequest, why))
}

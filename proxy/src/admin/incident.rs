//! Incidents on the admin socket: what is open, the runbook over what is known, and what changes.

use bytes::Bytes;
use host::clock::{now, rfc3339_seconds, wall_now};
use http::{Request, Response, StatusCode};
use monitor::{IncidentChange, Outcome};
use server::{Answer, json_answer};
use signing_core::admin::incident::{Begin, Captured, Done, End, Incident, Open};
use signing_core::admin::{Level, ProxyStatus, Status};
use signing_core::breakglass::is_out;
use signing_core::gate::{Cause, State};
use signing_core::incident::{ASKED, Facts, IncidentId, Item, PARTS, checklist, left};
use signing_core::journal::OpenIncident;
use signing_core::{Reason, Refusal};

use super::peer::Peer;
use super::{Admin, answer, gone, one_line, read, status};

/// What is open, and what is left to do.
pub(super) fn show(admin: &Admin) -> Response<Answer> {
    json_answer(StatusCode::OK, &message(admin, None))
}

pub(super) async fn begin(
    admin: &Admin,
    peer: Peer,
    request: &Request<Bytes>,
) -> Result<Response<Answer>, Refusal> {
    let Begin { incident, reason } = read(request)?;
    let (incident, reason) = (named(&incident)?, one_line(&reason)?);
    change(admin, peer, IncidentChange::Begin { incident, reason }).await
}

pub(super) async fn captured(
    admin: &Admin,
    peer: Peer,
    request: &Request<Bytes>,
) -> Result<Response<Answer>, Refusal> {
    let Captured { incident, sha256, missing } = read(request)?;
    let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if sha256.len() != 64 || !sha256.bytes().all(is_hex) {
        let why = "\"sha256\" is 64 hex digits in lower case";
        return Err(Refusal::new(Reason::InvalidRequest, why));
    }
    let is_part = |part: &String| PARTS.contains(&part.as_str());
    // In their order, each once: so a list of any length is one of a few words.
    if !missing.iter().all(is_part) || !missing.is_sorted_by(|one, next| one < next) {
        let why = format!("\"missing\" has, in this order, some of {}", PARTS.join(", "));
        return Err(Refusal::new(Reason::InvalidRequest, why));
    }
    let incident = named(&incident)?;
    change(admin, peer, IncidentChange::Captured { incident, sha256, missing }).await
}

/// Takes down what was done for a line that only people know.
pub(super) async fn item(
    admin: &Admin,
    peer: Peer,
    request: &Request<Bytes>,
) -> Result<Response<Answer>, Refusal> {
    let Done { section, detail, done } = read(request)?;
    if !ASKED.contains(&section.as_str()) {
        let asked = ASKED.join(", ");
        let why = format!("the proxy sees itself what is done, but for the sections {asked}");
        return Err(Refusal::new(Reason::InvalidRequest, why));
    }
    let detail = one_line(&detail)?;
    change(admin, peer, IncidentChange::Item { section, detail, done }).await
}

/// It ends only when nothing is left that the proxy can see, or when whoever ends it says that it is
/// unfinished.
pub(super) async fn end(
    admin: &Admin,
    peer: Peer,
    request: &Request<Bytes>,
) -> Result<Response<Answer>, Refusal> {
    let End { reason, unfinished } = read(request)?;
    let reason = one_line(&reason)?;
    let items = checklist(&facts(admin));
    let left: Vec<_> = left(&items).map(|item| item.section.clone()).collect();
    if admin.monitor.incident().is_some() && !left.is_empty() && !unfinished {
        let sections = left.join(", ");
        let note = format!(
            "it has not ended: sections {sections} of the runbook are left; do them, or end it unfinished, \
             which is recorded"
        );
        return Ok(json_answer(StatusCode::CONFLICT, &message(admin, Some(note))));
    }
    change(admin, peer, IncidentChange::End { reason, left }).await
}

/// The incident that is open, for a status.
pub(super) fn open(admin: &Admin) -> Option<Open> {
    admin.monitor.incident().map(|open| shown(&open))
}

async fn change(
    admin: &Admin,
    peer: Peer,
    change: IncidentChange,
) -> Result<Response<Answer>, Refusal> {
    let by = peer.name().await;
    let outcome: Outcome = admin.monitor.change_incident(change, by).await.map_err(gone)?;
    answer(outcome, |note| message(admin, note))
}

fn message(admin: &Admin, note: Option<String>) -> Incident {
    let checklist: Vec<Item> = checklist(&facts(admin));
    Incident { open: open(admin), checklist, note }
}

fn shown(open: &OpenIncident) -> Open {
    Open {
        incident: open.incident.to_string(),
        reason: open.reason.clone(),
        by: open.by.clone(),
        since: rfc3339_seconds(open.at),
        captured: open.captured.clone(),
        missing: open.missing.clone(),
    }
}

fn named(incident: &str) -> Result<IncidentId, Refusal> {
    IncidentId::parse(incident)
        .map_err(|error| Refusal::new(Reason::InvalidRequest, error.to_string()))
}

fn facts(admin: &Admin) -> Facts {
    let Status { health, proxy: ProxyStatus { emergency_keys, emergency_signer_connected, .. } } =
        status(admin);
    let gates = admin.monitor.gates();
    let (now, wall) = (now(), wall_now());
    let min = admin.breakglass.min_outage();
    let not_well = health.signers.into_iter().filter(|signer| !signer.upstream_ok);
    let is_not_known = |state: &State| match state {
        State::Shut { cause, .. } | State::Probing { cause, .. } => *cause == Cause::Starting,
        State::Open { .. } | State::Sealed { .. } => false,
    };
    let not_known = gates.gates().filter(|(_, gate)| is_not_known(&gate.state));
    let failed = health.conditions.into_iter().filter(|one| one.state == Level::Failed);
    let keys = emergency_keys.into_iter().flatten();
    let due: Vec<_> = keys.filter(|key| key.destruction_due.is_some()).collect();
    let open = admin.monitor.incident();
    let open = open.as_deref();
    Facts {
        incident: open.map(|open| open.incident.to_string()),
        not_captured: open.map(|open| open.missing.clone()).unwrap_or_default(),
        outage: health.outage,
        not_well: not_well.map(|signer| signer.signer_kid).collect(),
        not_known: not_known.map(|(kid, _)| kid.to_string()).collect(),
        failed: failed.map(|one| one.component).collect(),
        frozen: gates.freeze().is_some(),
        captured: open.is_some_and(|open| open.captured.is_some()),
        long_enough: gates.gates().any(|(kid, _)| is_out(&gates, kid, min, now).is_ok()),
        session: gates.armed(now, wall).map(|armed| armed.session.clone()),
        copies_left: due.iter().flat_map(|key| key.copies_left.clone()).collect(),
        keys_due: due.into_iter().map(|key| key.kid).collect(),
        keys_known: emergency_signer_connected.unwrap_or(true),
        said: open.map(|open| open.done.clone()).unwrap_or_default(),
    }
}

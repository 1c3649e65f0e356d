//! Break-glass on the admin socket: it can arm and disarm, and never sign.

use std::sync::Arc;

use bytes::Bytes;
use host::clock::{now, wall_now};
use http::{Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use signing_core::breakglass::Refused;
use signing_core::gate::Snapshot;
use signing_core::{Kid, Reason, Refusal};

use super::peer::Peer;
use super::{Admin, one_line, read};
use crate::json::put;
use crate::server::{Answer, json_answer};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Activate {
    pub(super) request_b64: String,
    approvals_b64: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Destroy {
    pub(super) emergency_kid: String,
    pub(super) reason: String,
}

pub(super) async fn status(admin: &Admin) -> Value {
    let mut body = admin.breakglass.status().await;
    put(&mut body, "deployment", &admin.deployment);
    body
}

/// What `/v1/status` says of break-glass beside the health's own words: what the session has left,
/// which upstreams are back, and what the emergency signer said last of its keys. It asks nobody.
pub(super) fn put_status(admin: &Admin, gates: &Snapshot, body: &mut Value) {
    let emergency = &admin.breakglass.emergency;
    let known = emergency.known();
    if emergency.is_configured() {
        put(body, "emergency_signer_connected", known.is_some());
    }
    if let Some(known) = &known {
        let keys = known.state.keys.iter().map(|key| {
            let mut said = json!({"kid": key.kid, "state": key.state});
            if let Some(due) = &key.destruction_due {
                put(&mut said, "destruction_due", due);
                put(&mut said, "destruction_overdue", key.destruction_overdue);
            }
            said
        });
        put(body, "emergency_keys", keys.collect::<Vec<_>>());
        if !known.state.cannot_arm.is_empty() {
            put(body, "emergency_cannot_arm", &known.state.cannot_arm);
        }
    }
    let now = now();
    let Some(armed) = gates.armed(now, wall_now()) else { return };
    let Some(session) = body.get_mut("breakglass") else { return };
    let is_back = |kid: &&Kid| gates.gate(kid).is_some_and(|gate| gate.state.is_open(now));
    let back: Vec<_> = armed.replaces.iter().filter(is_back).map(Kid::as_str).collect();
    put(session, "replaces", armed.replaces.iter().map(Kid::as_str).collect::<Vec<_>>());
    put(session, "expires_in_s", armed.lease_until.since(now).as_secs());
    put(session, "upstreams_back", back);
    let held = known.as_ref().and_then(|known| known.state.session.as_ref());
    if let Some(held) = held.filter(|held| held.session == armed.session) {
        put(session, "remaining", known.as_ref().and_then(|known| known.remaining()));
        put(session, "max_signatures", held.max_signatures);
    }
}

pub(super) async fn activate(
    admin: &Admin,
    peer: Peer,
    request: &Request<Bytes>,
) -> Result<Response<Answer>, Refusal> {
    let Activate { request_b64, approvals_b64 } = read(request)?;
    let by = peer.name().await;
    let breakglass = Arc::clone(&admin.breakglass);
    let activated =
        finished(async move { breakglass.activate(request_b64, approvals_b64, &by).await }).await?;
    Ok(answer(activated.map(|session| json!({"activated": true, "session": session})), "activated"))
}

pub(super) async fn end(
    admin: &Admin,
    peer: Peer,
    request: &Request<Bytes>,
) -> Result<Response<Answer>, Refusal> {
    let End { reason } = read(request)?;
    let reason = one_line(&reason)?;
    let (breakglass, by) = (Arc::clone(&admin.breakglass), peer.name().await);
    let connections = admin.connections.clone();
    let reset_before = connections.reset_by_stops();
    let mut ended = finished(async move {
        let ended = breakglass.end(&reason, &by).await;
        // Whatever of it had left by then has arrived, or never will.
        connections.settle().await;
        ended
    })
    .await?;
    if let Ok(body) = &mut ended {
        put(body, "connections_cut", admin.connections.reset_by_stops() - reset_before);
    }
    Ok(answer(ended, "ended"))
}

pub(super) async fn destroy(
    admin: &Admin,
    peer: Peer,
    request: &Request<Bytes>,
) -> Result<Response<Answer>, Refusal> {
    let Destroy { emergency_kid, reason } = read(request)?;
    let reason = one_line(&reason)?;
    let kid = signing_core::Kid::parse(&emergency_kid)
        .map_err(|error| Refusal::new(Reason::InvalidRequest, error.to_string()))?;
    let (breakglass, by) = (Arc::clone(&admin.breakglass), peer.name().await);
    let destroyed =
        finished(async move { breakglass.destroy(kid.as_str(), &reason, &by).await }).await?;
    Ok(answer(destroyed, "destroyed"))
}

/// What began is finished, though whoever asked hangs up: a signer that was armed is switched to,
/// or disarmed.
async fn finished<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(work).await.map_err(|died| Refusal::new(Reason::Internal, died.to_string()))
}

/// What was done, or which clause is in the way: 409, since what is asked does not fit what is.
fn answer(done: Result<Value, Refused>, what: &str) -> Response<Answer> {
    match done {
        Ok(body) => json_answer(StatusCode::OK, &body),
        Err(Refused { reason, detail }) => {
            let mut body = json!({"reason": reason.word(), "detail": detail});
            put(&mut body, what, false);
            json_answer(StatusCode::CONFLICT, &body)
        }
    }
}

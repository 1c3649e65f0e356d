//! Break-glass on the admin socket: it can arm and disarm, and never sign.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde::Serialize;
use server::{Answer, json_answer};
use signing_core::admin::breakglass::{
    AcceptSigner, Activate, Activated, Destroy, End, NotDone, UndoneCommand,
};
use signing_core::breakglass::Refused;
use signing_core::{Kid, Reason, Refusal};

use super::peer::Peer;
use super::{Admin, one_line, read};

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
    let activated = activated.map(|session| Activated { activated: true, session });
    Ok(answer(activated, UndoneCommand::Activated(false)))
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
    if let Ok(ended) = &mut ended {
        ended.connections_cut = Some(admin.connections.reset_by_stops() - reset_before);
    }
    Ok(answer(ended, UndoneCommand::Ended(false)))
}

pub(super) async fn accept_signer(
    admin: &Admin,
    peer: Peer,
    request: &Request<Bytes>,
) -> Result<Response<Answer>, Refusal> {
    let AcceptSigner { reason } = read(request)?;
    let reason = one_line(&reason)?;
    let (breakglass, by) = (Arc::clone(&admin.breakglass), peer.name().await);
    let accepted = finished(async move { breakglass.accept_signer(&reason, &by).await }).await?;
    Ok(answer(accepted, UndoneCommand::Accepted(false)))
}

pub(super) async fn destroy(
    admin: &Admin,
    peer: Peer,
    request: &Request<Bytes>,
) -> Result<Response<Answer>, Refusal> {
    let Destroy { emergency_kid, reason, attested } = read(request)?;
    let reason = one_line(&reason)?;
    let kid = Kid::parse(&emergency_kid)
        .map_err(|error| Refusal::new(Reason::InvalidRequest, error.to_string()))?;
    let (breakglass, by) = (Arc::clone(&admin.breakglass), peer.name().await);
    let destroyed =
        finished(async move { breakglass.destroy(kid.as_str(), &reason, attested, &by).await })
            .await?;
    Ok(answer(destroyed, UndoneCommand::Destroyed(false)))
}

/// What began is finished, though whoever asked hangs up: a signer that was armed is switched to,
/// or disarmed.
async fn finished<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(work).await.map_err(|died| Refusal::new(Reason::Internal, died.to_string()))
}

/// What was done, or which clause is in the way: 409, since what is asked does not fit what is.
pub(super) fn answer(
    done: Result<impl Serialize, Refused>,
    what: UndoneCommand,
) -> Response<Answer> {
    match done {
        Ok(body) => json_answer(StatusCode::OK, &body),
        Err(Refused { reason, detail }) => {
            json_answer(StatusCode::CONFLICT, &NotDone { what, reason, detail })
        }
    }
}

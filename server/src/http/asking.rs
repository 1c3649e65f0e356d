//! What is asked for without a signature: whether one verifies, public keys, health.

use std::sync::Arc;

use host::clock::{now, wall_now};
use http::request::Parts;
use http::{Response, StatusCode};
use serde_json::Value;
use signing_core::{Door, Refusal, Signer};
use telemetry::conditions::Reader;
use telemetry::health::Health;

use super::exchange::Exchange;
use crate::answer::{self, Answer, json_answer, status_of};
use crate::dialects::{self, VerifyDialect};
use crate::kms::{self, OfKeys};
use crate::reading::Unread;
use crate::verify;

/// Whether a signature verifies, and under which key.
pub(super) async fn verify(
    exchange: &Exchange,
    head: &Parts,
    body: &mut Unread<'_>,
) -> Result<Response<Answer>, Refusal> {
    let (caller, body) = exchange.asked(head, body).await?;
    let (path, content_type) = (head.uri.path(), dialects::content_type(&head.headers));
    let request = dialects::read_verify(path, content_type, &body)?;
    let rulebook = Arc::clone(exchange.plane.monitor.gates().rulebook());
    let found = verify::verify(&rulebook, caller, &request).await?;
    let signer = found.signer.map(AsRef::as_ref);
    match (request.dialect, signer) {
        (VerifyDialect::Kms { dry_run: true, .. }, _) => Ok(kms::dry_run()),
        (VerifyDialect::Kms { .. }, Some(signer)) if !found.verified => {
            Ok(kms::invalid_signature(&signer.kid))
        }
        (dialect, signer) => Ok(exchange.good(&dialect.verified(found.verified, signer))),
    }
}

/// The public key whose kid is in the body.
pub(super) async fn asked_public_key(
    exchange: &Exchange,
    head: &Parts,
    body: &mut Unread<'_>,
) -> Result<Response<Answer>, Refusal> {
    let (_, body) = exchange.asked(head, body).await?;
    let kid = dialects::public_key_of(&body)?;
    public_key(exchange, Some(&kid), dialects::public_key_der)
}

/// KMS's operations about keys.
pub(super) async fn of_keys(
    exchange: &Exchange,
    of: OfKeys,
    head: &Parts,
    body: &mut Unread<'_>,
) -> Result<Response<Answer>, Refusal> {
    let (caller, body) = exchange.asked(head, body).await?;
    let gates = exchange.plane.monitor.gates();
    of.answer(gates.rulebook(), caller, &body, wall_now()).map(|answer| exchange.good(&answer))
}

/// A registered public key, in the words of the dialect that asks.
pub(super) fn public_key(
    exchange: &Exchange,
    named: Option<&str>,
    words: fn(&Signer) -> Value,
) -> Result<Response<Answer>, Refusal> {
    let caller = exchange.caller()?;
    let gates = exchange.plane.monitor.gates();
    Ok(json_answer(StatusCode::OK, &words(gates.rulebook().find(caller, named)?)))
}

/// The registry.
pub(super) fn signers(exchange: &Exchange) -> Result<Response<Answer>, Refusal> {
    exchange.caller()?;
    let gates = exchange.plane.monitor.gates();
    Ok(answer::written_json(exchange.plane.registry.of(gates.rulebook())))
}

pub(super) fn health(exchange: &Exchange) -> Response<Answer> {
    // At a local door anybody may ask; only a caller reads why signing stopped.
    let reader = match exchange.door {
        Door::Local if exchange.caller.is_err() => Reader::Anonymous,
        Door::Local | Door::Mtls => Reader::Caller,
    };
    let open = exchange.plane.monitor.incident();
    health_now(exchange, |health| {
        json_answer(status_of(health.ok), &health.message(reader, open.as_deref()))
    })
}

pub(super) fn ready(exchange: &Exchange) -> Response<Answer> {
    let readiness =
        health_now(exchange, |health| health.readiness(*exchange.plane.draining.borrow()));
    json_answer(status_of(readiness.ok), &readiness)
}

/// What `say` makes of the health of this moment.
fn health_now<T>(exchange: &Exchange, say: impl FnOnce(&Health<'_>) -> T) -> T {
    let gates = exchange.plane.monitor.gates();
    let conditions = exchange.plane.conditions.all();
    say(&Health::of(&gates, &conditions, now(), wall_now()))
}

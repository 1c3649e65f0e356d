//! A request to sign: what has to hold before its body is read, the pipeline, and the count of what
//! became of it.

use std::fmt::Write as _;

use host::clock::{now, wall_now};
use http::request::Parts;
use http::{HeaderName, Response};
use sign::request_context::{self, RECEIPT, RequestContext};
use signing_core::{Door, Kid, Mode, Reason, Refusal, SignRequest};
use telemetry::metrics::{Metrics, RequestResult, Stages};

use super::exchange::{Exchange, RefusalForm};
use crate::answer::{self, Answer, Held};
use crate::dialects::{self, Dialect};
use crate::in_flight::{Reserved, signed_max, with_receipt_max};
use crate::kms;
use crate::reading::Unread;
use crate::traces::Begun;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// `breakglass`, where an answer has no place to say so.
const SIGNING_MODE: HeaderName = HeaderName::from_static("signing-mode");

/// Every request to sign is counted once, whatever becomes of it.
pub(super) async fn sign(
    exchange: &Exchange,
    head: &Parts,
    body: &mut Unread<'_>,
) -> Response<Answer> {
    let (metrics, door) = (&exchange.plane.metrics, exchange.door);
    let mut unanswered = Unanswered { metrics, door, would_be: Some(Reason::InvalidRequest) };
    let mut span = exchange.plane.traces.begin(&head.headers);
    if let Some(span) = &mut span {
        let caller = exchange.caller.as_ref().map(|caller| caller.as_str()).unwrap_or_default();
        span.asked(door, caller, &exchange.request_id);
    }
    let answered = try_sign(exchange, head, body, (&mut unanswered, &mut span)).await;
    if let Some(mut span) = span {
        span.ended(answered.as_ref().err());
    }
    match answered {
        Ok((response, kid)) => {
            unanswered.answered();
            if let Some(kid) = kid {
                metrics.request(door, Some(&kid), RequestResult::Signed);
            }
            response
        }
        Err(refusal) => {
            unanswered.answered();
            count(exchange, head, &refusal);
            exchange.refuse(&refusal)
        }
    }
}

/// Counts a refused request to sign, in the metrics and for the journal, and logs one a second at
/// most.
pub(super) fn count(exchange: &Exchange, head: &Parts, refusal: &Refusal) {
    let Exchange { plane, door, request_id, .. } = exchange;
    let kid = refusal.signer_kid.as_ref();
    plane.metrics.request(*door, kid, RequestResult::Refused(refusal.reason));
    let caller = exchange.caller.as_ref().map(|caller| caller.as_str()).unwrap_or_default();
    plane.refusals.count(refusal, caller, request_id);
    if let Some(left_out) = plane.refusal_log.pass(now()) {
        tracing::info!(
            target: "refusal",
            reason = refusal.reason.word(),
            title = refusal.reason.title(),
            detail = refusal.detail,
            signer_kid = kid.map(Kid::as_str),
            request_id,
            traceparent = request_context::traceparent(&head.headers),
            caller,
            door = door.word(),
            left_out,
        );
    }
}

/// The kid is that of the signature; a dry run has none.
async fn try_sign(
    exchange: &Exchange,
    head: &Parts,
    body: &mut Unread<'_>,
    (unanswered, span): (&mut Unanswered<'_>, &mut Option<Begun>),
) -> Result<(Response<Answer>, Option<Kid>), Refusal> {
    let (caller, plane) = (exchange.caller()?, &exchange.plane);
    if *plane.draining.borrow() {
        let detail = "the proxy is shutting down; ask another one";
        return Err(Refusal::new(Reason::Draining, detail));
    }
    // Whoever was granted nothing does not get a body into memory.
    plane.monitor.gates().rulebook().known(caller)?;
    plane.rates.take(caller)?;
    dialects::takes(head)?;
    // Before anything is kept of the body, or signed for it.
    let has_receipt = head.headers.contains_key(RECEIPT);
    let signature = plane.monitor.gates().rulebook().signature_max_bytes();
    let longest = if has_receipt { with_receipt_max(signature) } else { signed_max(signature) };
    let reserved = Reserved::new(&exchange.connection, longest)?;
    let body = exchange.read(caller, body).await?;
    let named = (exchange.door, exchange.request_id.as_str());
    let context = RequestContext::read(&head.headers, named, now(), plane.limits.request_timeout)?;
    let (path, content_type) = (head.uri.path(), dialects::content_type(&head.headers));
    let decodes = plane.monitor.gates().rulebook().decodes_sign_data(caller);
    let settings = (decodes, plane.limits.dialects.as_slice());
    let (dialect, sign_request) = dialects::read_sign(path, content_type, &body, settings)?;
    // What was read of it may be needed for longer than its own bytes.
    let place = body.into_place();
    if let Dialect::Kms { dry_run: true } = dialect {
        let gates = plane.monitor.gates();
        let SignRequest { signer, algorithm, format, .. } = &sign_request;
        let named = signer.as_deref();
        let grant = gates.rulebook().authorize(caller, named, *algorithm, wall_now())?;
        grant.signer().format(*format, grant.algorithm())?;
        return Ok((kms::dry_run(), None));
    }

    // From here on a client that is gone leaves work behind that goes on.
    unanswered.would_be = Some(Reason::Indeterminate);
    let leaving = move || reserved.release();
    let (signed, in_flight) =
        sign::sign(&plane.room, caller, sign_request, &context, place, leaving).await?;

    let signature = signed.release.signature();
    let kid = signature.kid().clone();
    let told = (&signed.release, signed.witnessed.as_ref());
    let body = dialect.signed(told, &exchange.request_id).ok_or_else(|| {
        let detail = "a signature has no such form; nothing was released";
        Refusal::new(Reason::Internal, detail).about(&kid)
    })?;
    let total = now().since(context.received);
    plane.metrics.stages(&signed.stages, total);
    if let Some(span) = span {
        let mode = if signed.release.session().is_some() { Mode::Breakglass } else { Mode::Normal };
        span.signed(kid.as_str(), signature.algorithm().name(), mode.word(), signed.stages);
    }
    let mut response = exchange.good(&body);
    answer::set(&mut response, SERVER_TIMING, &server_timing(&signed.stages));
    if matches!(exchange.words, RefusalForm::Kms(_)) && signed.release.session().is_some() {
        answer::set(&mut response, SIGNING_MODE, Mode::Breakglass.word());
    }
    let held = Held { slot: signed.release.into_slot(), in_flight };
    Ok((response.map(|answer| answer.holding(held)), Some(kid)))
}

/// Counts a request whose client hangs up before its answer.
struct Unanswered<'m> {
    metrics: &'m Metrics,
    door: Door,
    would_be: Option<Reason>,
}

impl Unanswered<'_> {
    fn answered(&mut self) {
        self.would_be = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(reason) = self.would_be {
            self.metrics.request(self.door, None, RequestResult::Refused(reason));
        }
    }
}

/// `queue;dur=0.012, upstream;dur=11.3, ...` in milliseconds (W3C Server Timing).
fn server_timing(stages: &Stages) -> String {
    let mut text = String::with_capacity(96);
    for (stage, took) in stages.named() {
        let separator = if text.is_empty() { "" } else { ", " };
        let (millis, micros) = (took.as_millis(), took.subsec_micros() % 1000);
        // Writing into a string does not fail.
        let _ = write!(text, "{separator}{stage};dur={millis}.{micros:03}");
    }
    text
}

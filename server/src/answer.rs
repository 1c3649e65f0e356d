//! Answers: JSON, and refusals as problem+json (RFC 9457).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use host::clock::{rfc3339, wall_now};
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use serde::{Serialize, Serializer};
use sign::request_context::REQUEST_ID;
use signing_core::gate::Slot;
use signing_core::{Reason, Refusal};

use super::connection::Connection;
use super::in_flight::{InFlight, Reserved};

/// What an answer's JSON has room for at first.
const JSON_BYTES: usize = 640;

/// A whole answer in one frame, and what lives until it is written.
#[derive(Debug, Default)]
pub struct Answer {
    bytes: Option<Bytes>,
    is_refusal: bool,
    in_flight: Option<InFlight>,
    _slot: Option<Slot>,
}

/// What the answer of a signed request holds: its slot until the HTTP library has taken the answer,
/// and its place among those in flight until the HTTP library has written it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) slot: Slot,
    pub(super) in_flight: InFlight,
}

/// The bytes of an answer. The HTTP library drops them once they are in the buffer that it writes
/// next, or are never written: HTTP/2 holds them back until the client's windows let them through.
#[derive(Debug)]
pub struct Piece {
    bytes: Bytes,
    in_flight: Option<InFlight>,
}

impl Answer {
    /// An answer that holds nothing.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: Some(bytes.into()), ..Self::default() }
    }

    pub(super) fn holding(self, held: Held) -> Self {
        let Held { slot, mut in_flight } = held;
        in_flight.resize(self.bytes());
        Self { in_flight: Some(in_flight), _slot: Some(slot), ..self }
    }

    /// How long it is.
    fn bytes(&self) -> usize {
        self.bytes.as_ref().map_or(0, Bytes::len)
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(in_flight) = &self.in_flight
            && count > 0
            && self.bytes.has_remaining()
        {
            in_flight.progressed();
        }
    }
}

impl Body for Answer {
    type Data = Piece;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Self::Error>>> {
        let Some(bytes) = self.bytes.take() else { return Poll::Ready(None) };
        let mut in_flight = self.in_flight.take();
        if let Some(in_flight) = &mut in_flight {
            in_flight.taken();
        }
        Poll::Ready(Some(Ok(Frame::data(Piece { bytes, in_flight }))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes() as u64)
    }
}

/// A JSON answer.
#[must_use]
pub fn json_answer(status: StatusCode, body: &impl Serialize) -> Response<Answer> {
    with_type(status, "application/json", body)
}

/// The status that health and readiness are told with.
#[must_use]
pub fn status_of(ok: bool) -> StatusCode {
    if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// A refusal. `request_id` is null where a request has none.
#[must_use]
pub fn problem(refusal: &Refusal, request_id: Option<&str>) -> Response<Answer> {
    problem_with(refusal, request_id, None)
}

/// A refusal that lists mistakes.
#[must_use]
pub fn problem_with_mistakes(refusal: &Refusal, mistakes: &[String]) -> Response<Answer> {
    problem_with(refusal, None, Some(mistakes))
}

fn problem_with(
    refusal: &Refusal,
    request_id: Option<&str>,
    mistakes: Option<&[String]>,
) -> Response<Answer> {
    let reason = refusal.reason;
    let retry_after_s = reason.retry_after_s();
    let since = refusal.age.and_then(|age| {
        let age = time::Duration::try_from(age).ok()?;
        wall_now().checked_sub(age).map(rfc3339)
    });
    let body = Problem {
        kind: Urn(reason),
        title: reason.title(),
        status: reason.status(),
        detail: &refusal.detail,
        reason: reason.word(),
        error: reason.word(),
        request_id,
        signer_kid: refusal.signer_kid.as_ref().map(signing_core::Kid::as_str),
        retry_after_s,
        since,
        mistakes,
    };
    // Every reason's status is one that exists; a test looks at all of them.
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let response = with_type(status, "application/problem+json", &body);
    let mut response = response.map(|answer| Answer { is_refusal: true, ..answer });
    if let Some(seconds) = retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if reason == Reason::UnsupportedMediaType {
        // RFC 9110 15.5.16: what would be taken.
        response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    response
}

/// The body of a refusal. A struct, since refusals have to be cheap: as a tree of
/// values it would take an allocation for each name and each text.
#[derive(Serialize)]
struct Problem<'r> {
    #[serde(rename = "type")]
    kind: Urn,
    title: &'r str,
    status: u16,
    detail: &'r str,
    reason: &'r str,
    error: &'r str,
    request_id: Option<&'r str>,
    signer_kid: Option<&'r str>,
    retry_after_s: Option<u32>,
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mistakes: Option<&'r [String]>,
}

/// What names the kind of a refusal.
struct Urn(Reason);

impl Serialize for Urn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("urn:signing-proxy:refusal:{}", self.0))
    }
}

/// Counts an answer among those in flight until its client has taken it.
///
/// # Errors
/// The refusal, if there is no room for it. A refusal always has room.
pub(super) fn counted(
    response: Response<Answer>,
    connection: &Arc<Connection>,
) -> Result<Response<Answer>, Refusal> {
    let answer = response.body();
    let bytes = answer.bytes();
    if bytes == 0 || answer.in_flight.is_some() {
        return Ok(response);
    }
    let reserved = match answer.is_refusal {
        true => Reserved::beyond_limits(connection, bytes),
        false => Reserved::new(connection, bytes)?,
    };
    Ok(response.map(|answer| Answer { in_flight: Some(reserved.answer()), ..answer }))
}

/// The answer to HEAD: everything but the body (RFC 9110 9.3.2).
pub(super) fn without_body(response: Response<Answer>) -> Response<Answer> {
    let bytes = response.body().size_hint().exact().unwrap_or_default();
    let mut response = response.map(|_| Answer::default());
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    response
}

/// A refusal in other words than ours.
pub(super) fn refusal_of_kind(
    status: StatusCode,
    kind: &'static str,
    body: &impl Serialize,
) -> Response<Answer> {
    with_type(status, kind, body).map(|answer| Answer { is_refusal: true, ..answer })
}

/// Adds `X-Request-Id`.
pub(super) fn name(response: &mut Response<Answer>, request_id: &str) {
    set(response, REQUEST_ID, request_id);
}

/// Adds a header whose value is ours; one that is no header value is left out.
pub(super) fn set(response: &mut Response<Answer>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// JSON that is written already.
pub(super) fn written_json(json: Bytes) -> Response<Answer> {
    whole(StatusCode::OK, "application/json", json)
}

pub(super) fn with_type(
    status: StatusCode,
    kind: &'static str,
    body: &impl Serialize,
) -> Response<Answer> {
    // Room for every refusal, so that it is allocated once.
    let mut json = Vec::with_capacity(JSON_BYTES);
    // Strings and numbers under names that are strings: nothing here fails to be JSON.
    if serde_json::to_writer(&mut json, body).is_err() {
        json.clear();
    }
    whole(status, kind, json)
}

fn whole(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

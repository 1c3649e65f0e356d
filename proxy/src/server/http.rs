//! From an HTTP request to an answer: routing, bounded reading, dialects.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::json;
use signing_core::registry::{Document, Entry};
use signing_core::{Caller, Reason, Refusal};

use super::DataPlane;
use super::answer::{self, Answer, Held, json_answer, problem};
use super::connections::Connection;
use super::dialects;
use crate::health::{Health, Reader};
use crate::metrics::{RequestResult, Stages};
use crate::request_context::{self, RequestContext};
use crate::sign;
use crate::time::now;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What may be asked for, each with its one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Sign,
    Verify,
    Signers,
    Health,
    Live,
    Ready,
}

/// One request on one connection.
struct Exchange {
    plane: Arc<DataPlane>,
    connection: Arc<Connection>,
    caller: Result<Arc<Caller>, Refusal>,
    request_id: String,
}

pub(super) async fn respond(
    plane: Arc<DataPlane>,
    connection: Arc<Connection>,
    caller: Result<Arc<Caller>, Refusal>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    connection.request_seen();
    let request_id = request_context::request_id(request.headers());
    let close = must_close(&request);
    let exchange = Exchange { plane, connection, caller, request_id };
    let mut response = exchange.answer(request).await;
    answer::name(&mut response, &exchange.request_id);
    if close {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// hyper resolves a Content-Length beside a Transfer-Encoding by RFC 9112 6.3,
/// and does not show it: after any chunked request the connection is closed, so
/// that nothing can be smuggled behind one.
fn must_close(request: &Request<Incoming>) -> bool {
    request.version() <= Version::HTTP_11 && request.headers().contains_key(TRANSFER_ENCODING)
}

impl Exchange {
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let method = request.method().clone();
        let (resource, allowed) = match route(request.uri().path()) {
            Some(found) => found,
            None => {
                return self.refuse(Refusal::new(
                    Reason::NotFound,
                    "no such path; POST /v1/sign, POST /v1/verify, GET /v1/signers, GET /health",
                ));
            }
        };
        if method != allowed {
            let detail = format!("this path takes {allowed}");
            let mut response = self.refuse(Refusal::new(Reason::MethodNotAllowed, detail));
            answer::set(&mut response, ALLOW, allowed.as_str());
            return response;
        }
        let answered = match resource {
            Resource::Sign => return self.sign(request).await,
            Resource::Verify => self.verify(request).await,
            Resource::Signers => self.caller.clone().map(|_| self.signers()),
            Resource::Health => Ok(self.health()),
            Resource::Live => Ok(json_answer(StatusCode::OK, &json!({"ok": true}))),
            Resource::Ready => Ok(self.ready()),
        };
        answered.unwrap_or_else(|refusal| self.refuse(refusal))
    }

    /// Every request to sign is counted once, whatever becomes of it.
    async fn sign(&self, request: Request<Incoming>) -> Response<Answer> {
        let metrics = &self.plane.room.metrics;
        let counted = Counted::new(self);
        let (response, result) = match self.try_sign(request).await {
            Ok((response, kid)) => {
                metrics.request(Some(&kid), RequestResult::Signed);
                (response, RequestResult::Signed)
            }
            Err(refusal) => {
                let result = RequestResult::Refused(refusal.reason);
                metrics.request(refusal.signer_kid.as_ref(), result);
                if !matches!(refusal.reason, Reason::SignatureRejected | Reason::Indeterminate) {
                    self.log_refusal(&refusal);
                }
                (self.refuse(refusal), result)
            }
        };
        counted.done(result);
        response
    }

    async fn try_sign(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Response<Answer>, signing_core::Kid), Refusal> {
        let caller = self.caller.as_ref().map_err(Clone::clone)?;
        if *self.plane.draining.borrow() {
            return Err(Refusal::new(
                Reason::Draining,
                "the proxy is shutting down; ask another one",
            ));
        }
        let path = request.uri().path().to_owned();
        let (headers, body) = self.read(request).await?;
        let mut context = RequestContext::read(&headers, now(), self.plane.limits.request_timeout)?;
        context.request_id.clone_from(&self.request_id);
        let (dialect, sign_request) = dialects::read_sign(&path, content_type(&headers), &body)?;

        let connection = Arc::clone(&self.connection);
        let leaving = move || connection.leaving();
        let (signed, leaving) =
            sign::sign(&self.plane.room, caller, sign_request, &context, leaving).await?;

        let signature = signed.release.signature();
        let kid = signature.kid().clone();
        let body = dialect.signed(signature, &self.request_id);
        let total = now().since(context.received);
        self.plane.room.metrics.stages(&signed.stages, total);
        let mut response = json_answer(StatusCode::OK, &body);
        answer::set(&mut response, SERVER_TIMING, &server_timing(&signed.stages));
        let held = Held { _slot: signed.release.into_slot(), _leaving: leaving };
        Ok((response.map(|answer| answer.holding(held)), kid))
    }

    async fn verify(&self, request: Request<Incoming>) -> Result<Response<Answer>, Refusal> {
        let caller = self.caller.as_ref().map_err(Clone::clone)?;
        let (headers, body) = self.read(request).await?;
        let room = &self.plane.room;
        let request = dialects::read_verify(content_type(&headers), &body)?;
        let signer = room.policy.find(&room.registry, caller, request.signer.as_deref())?;
        let input = signing_core::ToBeSigned::prepare(&request.input, signer.algorithm())?;
        let verified = signer.public_key.verifies(&input, &request.signature);
        let body = json!({"verified": verified, "signer_kid": signer.kid.as_str()});
        Ok(json_answer(StatusCode::OK, &body))
    }

    fn signers(&self) -> Response<Answer> {
        let signers =
            self.plane.room.registry.iter().map(|signer| Entry::publish(signer)).collect();
        let body = serde_json::to_value(Document { signers }).unwrap_or_default();
        json_answer(StatusCode::OK, &body)
    }

    fn health(&self) -> Response<Answer> {
        let gates = self.plane.room.monitor.gates();
        let health = Health::of(&gates, now());
        json_answer(status_of(health.ok), &health.to_json(Reader::Caller))
    }

    fn ready(&self) -> Response<Answer> {
        let gates = self.plane.room.monitor.gates();
        let ready = Health::of(&gates, now()).ok && !*self.plane.draining.borrow();
        json_answer(status_of(ready), &json!({"ok": ready}))
    }

    /// Reads headers and body within their limits.
    async fn read(&self, request: Request<Incoming>) -> Result<(HeaderMap, Bytes), Refusal> {
        let limits = &self.plane.limits;
        let (head, body) = request.into_parts();
        check_headers(&head.headers, limits.headers_max_bytes)?;
        let too_large = || {
            let detail = format!("the body has more than {} bytes", limits.body_max_bytes);
            Refusal::new(Reason::BodyTooLarge, detail)
        };
        // A length that is announced too large is refused before a byte is read.
        let announced = hyper::body::Body::size_hint(&body).lower();
        if announced > limits.body_max_bytes as u64 {
            return Err(too_large());
        }
        let reading = Limited::new(body, limits.body_max_bytes).collect();
        match tokio::time::timeout(limits.body_read_timeout, reading).await {
            Ok(Ok(body)) => Ok((head.headers, body.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(Refusal::new(Reason::InvalidRequest, "the body broke off")),
            Err(_) => Err(Refusal::new(
                Reason::RequestTimeout,
                format!(
                    "the body did not arrive within {} ms",
                    limits.body_read_timeout.as_millis()
                ),
            )),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response<Answer> {
        problem(&refusal, Some(&self.request_id))
    }

    /// Outcomes of the pipeline have their line already; this one is for
    /// refusals before and around it.
    fn log_refusal(&self, refusal: &Refusal) {
        tracing::debug!(
            target: "refusal",
            reason = refusal.reason.word(),
            detail = refusal.detail,
            request_id = self.request_id,
            caller = self.caller.as_ref().map(|caller| caller.as_str()).unwrap_or_default(),
        );
    }
}

/// Counts a request whose client hung up before its answer.
struct Counted<'e> {
    exchange: &'e Exchange,
    result: Option<RequestResult>,
}

impl<'e> Counted<'e> {
    fn new(exchange: &'e Exchange) -> Self {
        Self { exchange, result: None }
    }

    fn done(mut self, result: RequestResult) {
        self.result = Some(result);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if self.result.is_none() {
            let gone = RequestResult::Refused(Reason::Indeterminate);
            self.exchange.plane.room.metrics.request(None, gone);
        }
    }
}

fn route(path: &str) -> Option<(Resource, Method)> {
    Some(match path {
        "/v1/sign" | "/sign" => (Resource::Sign, Method::POST),
        "/v1/verify" => (Resource::Verify, Method::POST),
        "/v1/signers" => (Resource::Signers, Method::GET),
        "/health" | "/ping" => (Resource::Health, Method::GET),
        "/livez" => (Resource::Live, Method::GET),
        "/readyz" => (Resource::Ready, Method::GET),
        _ => return None,
    })
}

fn check_headers(headers: &HeaderMap, max_bytes: usize) -> Result<(), Refusal> {
    // As they stand on the wire: name, colon, space, value, CR LF.
    let bytes: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > max_bytes {
        let detail = format!("the headers have {bytes} bytes, more than {max_bytes}");
        return Err(Refusal::new(Reason::HeadersTooLarge, detail));
    }
    Ok(())
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()
}

fn status_of(ok: bool) -> StatusCode {
    if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// `queue;dur=0.012, upstream;dur=11.3, ...` in milliseconds (W3C Server Timing).
fn server_timing(stages: &Stages) -> String {
    let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
    stages.named().map(|(stage, took)| format!("{stage};dur={:.3}", millis(took))).join(", ")
}

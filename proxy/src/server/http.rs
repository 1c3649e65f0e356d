//! From an HTTP request to an answer: routing, bounded reading, dialects.

use std::fmt::Write as _;
use std::sync::Arc;

use host::clock::{now, wall_now};
use http::header::{ALLOW, CONNECTION, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use serde_json::{Value, json};
use signing_core::{Caller, Door, Reason, Refusal, Signer};

use super::DataPlane;
use super::answer::{self, Answer, Held, json_answer, problem, status_of};
use super::bodies::Body;
use super::connection::Connection;
use super::dialects;
use super::entrance::{Entered, Entrance};
use super::in_flight::{RECEIPT_MAX_BYTES, Reserved, SIGNED_MAX_BYTES};
use super::reading;
use super::request_body::RequestBody;
use super::route::{self, Resource};
use super::verify;
use crate::health::{Health, Reader};
use crate::metrics::{Metrics, RequestResult, Stages};
use crate::sign;
use crate::sign::request_context::{self, RECEIPT, RequestContext};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// One request on one connection.
struct Exchange {
    plane: Arc<DataPlane>,
    connection: Arc<Connection>,
    door: Door,
    caller: Result<Arc<Caller>, Refusal>,
    request_id: String,
}

pub(super) async fn respond(
    plane: Arc<DataPlane>,
    connection: Arc<Connection>,
    entrance: Entrance,
    request: Request<RequestBody>,
) -> Response<Answer> {
    let _active = connection.request();
    let (head, mut body) = request.into_parts();
    let request_id = request_context::request_id(&head.headers);
    let must_close = must_close(&head) || reading::is_longer(&body, plane.limits.body_max_bytes);
    let Entered { door, admitted, caller } = entrance.enter(&head);
    let exchange = Exchange { plane, connection, door, caller, request_id };
    let mut response = match admitted {
        Ok(()) => exchange.answer(&head, &mut body).await,
        Err(refusal) => exchange.turn_away(&head, refusal),
    };
    if head.method == Method::HEAD && head.version == Version::HTTP_2 {
        // In HTTP/1.1 hyper leaves the body out itself.
        response = answer::without_body(response);
    }
    let mut response = exchange.counted(response);
    answer::name(&mut response, &exchange.request_id);
    // A body that was not asked for may come all the same, or not.
    if head.version <= Version::HTTP_11 && (must_close || body.is_held_back()) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if body.is_on_its_way() {
        tokio::spawn(reading::discard(body, exchange.plane));
    }
    response
}

/// hyper resolves a Content-Length beside a Transfer-Encoding by RFC 9112 6.3,
/// and does not show it: after any chunked request the connection is closed, so
/// that nothing can be smuggled behind one.
fn must_close(head: &Parts) -> bool {
    head.version <= Version::HTTP_11 && head.headers.contains_key(TRANSFER_ENCODING)
}

impl Exchange {
    /// Whoever does not take answers gets refusals in their place.
    fn counted(&self, response: Response<Answer>) -> Response<Answer> {
        let counted = |response| answer::counted(response, &self.connection);
        counted(response)
            .or_else(|refusal| counted(self.refuse(refusal)))
            .unwrap_or_else(|refusal| self.refuse(refusal))
    }

    /// Refuses what the door admits from nobody. Requests to sign are counted all the same.
    fn turn_away(&self, head: &Parts, refusal: Refusal) -> Response<Answer> {
        if matches!(route::route(head.uri.path()), Ok((Resource::Sign, _))) {
            self.count(&refusal, request_context::traceparent(&head.headers).as_deref());
        }
        self.refuse(refusal)
    }

    async fn answer(&self, head: &Parts, body: &mut RequestBody) -> Response<Answer> {
        let Parts { method, uri, .. } = head;
        if let Err(refusal) =
            reading::check_headers(&head.headers, self.plane.limits.headers_max_bytes)
        {
            return self.refuse(refusal);
        }
        let (resource, allowed) = match route::route(uri.path()) {
            Ok(found) => found,
            Err(refusal) => return self.refuse(refusal),
        };
        // What can be got can be asked for without its body (RFC 9110 9.3.2).
        let is_head = *method == Method::HEAD && allowed == Method::GET;
        if *method != allowed && !is_head {
            let detail = format!("this path takes {allowed}");
            let mut response = self.refuse(Refusal::new(Reason::MethodNotAllowed, detail));
            answer::set(&mut response, ALLOW, allowed.as_str());
            return response;
        }
        let answered = match resource {
            Resource::Sign => return self.sign(head, body).await,
            Resource::Verify => self.verify(head, body).await,
            Resource::Signers => self.caller.clone().map(|_| self.signers()),
            Resource::PublicKeyPem => route::kid_of_query(uri)
                .and_then(|kid| self.public_key(kid.as_deref(), dialects::public_key_pem)),
            Resource::PublicKeyDer { kid } => self.public_key(Some(&kid), dialects::public_key_der),
            Resource::PublicKeyAsked => self.asked_public_key(head, body).await,
            Resource::Health => Ok(self.health()),
            Resource::Live => Ok(json_answer(StatusCode::OK, &json!({"ok": true}))),
            Resource::Ready => Ok(self.ready()),
        };
        answered.unwrap_or_else(|refusal| self.refuse(refusal))
    }

    /// Every request to sign is counted once, whatever becomes of it.
    async fn sign(&self, head: &Parts, body: &mut RequestBody) -> Response<Answer> {
        let metrics = &self.plane.metrics;
        let traceparent = request_context::traceparent(&head.headers);
        let would_be = Some(Reason::InvalidRequest);
        let mut unanswered = Unanswered { metrics, door: self.door, would_be };
        match self.try_sign(head, body, &mut unanswered).await {
            Ok((response, kid)) => {
                unanswered.answered();
                metrics.request(self.door, Some(&kid), RequestResult::Signed);
                response
            }
            Err(refusal) => {
                unanswered.answered();
                self.count(&refusal, traceparent.as_deref());
                self.refuse(refusal)
            }
        }
    }

    /// Counts a refused request to sign, and tells of it.
    fn count(&self, refusal: &Refusal, traceparent: Option<&str>) {
        let (metrics, kid) = (&self.plane.metrics, refusal.signer_kid.as_ref());
        metrics.request(self.door, kid, RequestResult::Refused(refusal.reason));
        self.tell_of(refusal, traceparent);
    }

    async fn try_sign(
        &self,
        head: &Parts,
        body: &mut RequestBody,
        unanswered: &mut Unanswered<'_>,
    ) -> Result<(Response<Answer>, signing_core::Kid), Refusal> {
        let caller = self.caller.as_ref().map_err(Clone::clone)?;
        if *self.plane.draining.borrow() {
            let detail = "the proxy is shutting down; ask another one";
            return Err(Refusal::new(Reason::Draining, detail));
        }
        // Whoever was granted nothing does not get a body into memory.
        self.plane.monitor.gates().rulebook().known(caller)?;
        self.plane.rates.take(caller)?;
        let (path, content_type) = (head.uri.path(), dialects::content_type(&head.headers));
        dialects::takes(head)?;
        // Before anything is kept of the body, or signed for it.
        let has_receipt = head.headers.contains_key(RECEIPT);
        let longest = if has_receipt { RECEIPT_MAX_BYTES } else { SIGNED_MAX_BYTES };
        let reserved = Reserved::new(&self.connection, longest)?;
        let body = self.read(caller, body).await?;
        let longest = self.plane.limits.request_timeout;
        let named = (self.door, self.request_id.as_str());
        let context = RequestContext::read(&head.headers, named, now(), longest)?;
        let decodes = self.plane.monitor.gates().rulebook().decodes_sign_data(caller);
        let (dialect, sign_request) = dialects::read_sign(path, content_type, &body, decodes)?;
        drop(body);

        // From here on a client that is gone leaves work behind that goes on.
        unanswered.would_be = Some(Reason::Indeterminate);
        let leaving = move || reserved.release();
        let (signed, in_flight) =
            sign::sign(&self.plane.room, caller, sign_request, &context, leaving).await?;

        let signature = signed.release.signature();
        let kid = signature.kid().clone();
        let told = (&signed.release, signed.witnessed.as_ref());
        let body = dialect.signed(told, &self.request_id).ok_or_else(|| {
            let detail = "a signature has no such form; nothing was released";
            Refusal::new(Reason::Internal, detail).about(&kid)
        })?;
        let total = now().since(context.received);
        self.plane.metrics.stages(&signed.stages, total);
        let mut response = json_answer(StatusCode::OK, &body);
        answer::set(&mut response, SERVER_TIMING, &server_timing(&signed.stages));
        let held = Held { slot: signed.release.into_slot(), in_flight };
        Ok((response.map(|answer| answer.holding(held)), kid))
    }

    async fn verify(
        &self,
        head: &Parts,
        body: &mut RequestBody,
    ) -> Result<Response<Answer>, Refusal> {
        let caller = self.caller.as_ref().map_err(Clone::clone)?;
        self.plane.rates.take(caller)?;
        let (path, content_type) = (head.uri.path(), dialects::content_type(&head.headers));
        dialects::takes(head)?;
        let body = self.read(caller, body).await?;
        let request = dialects::read_verify(path, content_type, &body)?;
        let rulebook = Arc::clone(self.plane.monitor.gates().rulebook());
        let found = verify::verify(&rulebook, caller, &request).await?;
        let answer = request.dialect.verified(found.verified, found.signer.map(AsRef::as_ref));
        Ok(json_answer(StatusCode::OK, &answer))
    }

    /// The public key whose kid is in the body.
    async fn asked_public_key(
        &self,
        head: &Parts,
        body: &mut RequestBody,
    ) -> Result<Response<Answer>, Refusal> {
        let caller = self.caller.as_ref().map_err(Clone::clone)?;
        self.plane.rates.take(caller)?;
        dialects::takes(head)?;
        let kid = dialects::public_key_of(&self.read(caller, body).await?)?;
        self.public_key(Some(&kid), dialects::public_key_der)
    }

    /// A registered public key, in the words of the dialect that asks.
    fn public_key(
        &self,
        named: Option<&str>,
        words: fn(&Signer) -> Value,
    ) -> Result<Response<Answer>, Refusal> {
        let caller = self.caller.as_ref().map_err(Clone::clone)?;
        let gates = self.plane.monitor.gates();
        Ok(json_answer(StatusCode::OK, &words(gates.rulebook().find(caller, named)?)))
    }

    fn signers(&self) -> Response<Answer> {
        let gates = self.plane.monitor.gates();
        answer::written_json(self.plane.registry.of(gates.rulebook()))
    }

    fn health(&self) -> Response<Answer> {
        let gates = self.plane.monitor.gates();
        let conditions = self.plane.conditions.all();
        let health = Health::of(&gates, &conditions, now(), wall_now());
        // At a local door anybody may ask; only a caller reads why signing stopped.
        let reader = match self.door {
            Door::Local if self.caller.is_err() => Reader::Anonymous,
            Door::Local | Door::Mtls => Reader::Caller,
        };
        json_answer(status_of(health.ok), &health.message(reader))
    }

    fn ready(&self) -> Response<Answer> {
        let gates = self.plane.monitor.gates();
        let conditions = self.plane.conditions.all();
        let health = Health::of(&gates, &conditions, now(), wall_now());
        let readiness = health.readiness(*self.plane.draining.borrow());
        json_answer(status_of(readiness.ok), &readiness)
    }

    /// Reads the body of a request of `caller`.
    async fn read(&self, caller: &Caller, body: &mut RequestBody) -> Result<Body, Refusal> {
        let shared = self.connection.shared();
        reading::read(body, &self.plane.limits, &shared.bodies, caller).await
    }

    fn refuse(&self, refusal: Refusal) -> Response<Answer> {
        problem(&refusal, Some(&self.request_id))
    }

    /// Counts a refusal for the journal, and logs one a second at most.
    fn tell_of(&self, refusal: &Refusal, traceparent: Option<&str>) {
        let caller = self.caller.as_ref().map(|caller| caller.as_str()).unwrap_or_default();
        self.plane.refusals.count(refusal, caller, &self.request_id);
        if let Some(left_out) = self.plane.refusal_log.pass(now()) {
            tracing::info!(
                target: "refusal",
                reason = refusal.reason.word(),
                detail = refusal.detail,
                request_id = self.request_id,
                traceparent,
                caller,
                door = self.door.word(),
                left_out,
            );
        }
    }
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

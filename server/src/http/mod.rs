//! From an HTTP request to an answer: who calls, what is asked for, and in which words it is answered.

mod asking;
mod exchange;
mod signing;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use serde_json::json;
use sign::request_context;
use signing_core::{Reason, Refusal};

use super::DataPlane;
use super::answer::{self, Answer, json_answer};
use super::connection::Connection;
use super::dialects;
use super::entrance::{Entered, Entrance, Identity};
use super::kms::{self, Operation};
use super::local::{Calls, NotProven};
use super::openapi;
use super::reading::{self, Unread};
use super::request_body::RequestBody;
use super::route::{self, Resource};
use exchange::{Exchange, RefusalForm};

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
    let Entered { door, admitted, calls } = entrance.enter(&head);
    let mut unread = Unread::new(&mut body);
    let Identity { caller, fault } = identify(calls, &head, &mut unread, &plane).await;
    let is_kms = head.uri.path() == dialects::KMS;
    let words = if is_kms { RefusalForm::Kms(fault) } else { RefusalForm::Problem };
    let exchange = Exchange { plane, connection, door, caller, words, request_id };
    let mut response = match admitted {
        Ok(()) => answer_to(&exchange, &head, &mut unread).await,
        Err(refusal) => turn_away(&exchange, &head, refusal),
    };
    if head.method == Method::HEAD && head.version == Version::HTTP_2 {
        // In HTTP/1.1 hyper leaves the body out itself.
        response = answer::without_body(response);
    }
    let mut response = exchange.counted(response);
    answer::name(&mut response, &exchange.request_id);
    if is_kms {
        kms::name(&mut response, &exchange.request_id);
    }
    // A body that was not asked for may come all the same, or not.
    if head.version <= Version::HTTP_11 && (must_close || body.is_held_back()) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if body.is_on_its_way() {
        tokio::spawn(reading::discard(body, exchange.plane));
    }
    response
}

/// Who calls. A signature covers the body, so for that it is read before anything else is known.
async fn identify(
    calls: Result<Calls, NotProven>,
    head: &Parts,
    unread: &mut Unread<'_>,
    plane: &DataPlane,
) -> Identity {
    let signed = match calls {
        Ok(Calls::Known(caller)) => return Ok(caller).into(),
        Err(not_proven) => return Err(not_proven).into(),
        Ok(Calls::Signed(signed)) => signed,
    };
    if let Err(refusal) = reading::check_headers(&head.headers, plane.limits.headers_max_bytes) {
        return Err(refusal.into()).into();
    }
    let arriving = plane.connections.unproved().begin(signed.source());
    match unread.ahead(&plane.limits, arriving).await {
        Ok(body) => signed.caller(head, body).into(),
        Err(refusal) => Err(refusal.into()).into(),
    }
}

/// hyper resolves a Content-Length beside a Transfer-Encoding by RFC 9112 6.3,
/// and does not show it: after any chunked request the connection is closed, so
/// that nothing can be smuggled behind one.
fn must_close(head: &Parts) -> bool {
    head.version <= Version::HTTP_11 && head.headers.contains_key(TRANSFER_ENCODING)
}

/// Refuses what the door admits from nobody. Requests to sign are counted all the same.
fn turn_away(exchange: &Exchange, head: &Parts, refusal: Refusal) -> Response<Answer> {
    let is_to_sign = match route::route(head.uri.path()) {
        Ok((Resource::Sign, _)) => true,
        Ok((Resource::Kms, _)) => matches!(Operation::of(&head.headers), Ok(Operation::Sign)),
        Ok(_) | Err(_) => false,
    };
    if is_to_sign {
        signing::count(exchange, head, &refusal);
    }
    exchange.refuse(&refusal)
}

async fn answer_to(exchange: &Exchange, head: &Parts, body: &mut Unread<'_>) -> Response<Answer> {
    let Parts { method, uri, .. } = head;
    let headers_max_bytes = exchange.plane.limits.headers_max_bytes;
    if let Err(refusal) = reading::check_headers(&head.headers, headers_max_bytes) {
        return exchange.refuse(&refusal);
    }
    let (resource, allowed) = match route::route(uri.path()) {
        Ok(found) => found,
        Err(refusal) => return exchange.refuse(&refusal),
    };
    // What can be got can be asked for without its body (RFC 9110 9.3.2).
    let is_head = *method == Method::HEAD && allowed == Method::GET;
    if *method != allowed && !is_head {
        let detail = format!("this path takes {allowed}");
        let mut response = exchange.refuse(&Refusal::new(Reason::MethodNotAllowed, detail));
        answer::set(&mut response, ALLOW, allowed.as_str());
        return response;
    }
    let answered = match resource {
        Resource::Sign => return signing::sign(exchange, head, body).await,
        Resource::Verify => asking::verify(exchange, head, body).await,
        Resource::Kms => match Operation::of(&head.headers) {
            Ok(Operation::Sign) => return signing::sign(exchange, head, body).await,
            Ok(Operation::Verify) => asking::verify(exchange, head, body).await,
            Ok(Operation::OfKeys(of)) => asking::of_keys(exchange, of, head, body).await,
            Err(refusal) => Err(refusal),
        },
        Resource::Signers => asking::signers(exchange),
        Resource::PublicKeyPem => route::kid_of_query(uri)
            .and_then(|kid| asking::public_key(exchange, kid.as_deref(), dialects::public_key_pem)),
        Resource::PublicKeyDer { kid } => {
            asking::public_key(exchange, Some(&kid), dialects::public_key_der)
        }
        Resource::PublicKeyAsked => asking::asked_public_key(exchange, head, body).await,
        Resource::Health => Ok(asking::health(exchange)),
        Resource::Live => Ok(json_answer(StatusCode::OK, &json!({"ok": true}))),
        Resource::Ready => Ok(asking::ready(exchange)),
        Resource::OpenApi => Ok(answer::written_json(Bytes::from_static(openapi::DOCUMENT))),
    };
    answered.unwrap_or_else(|refusal| exchange.refuse(&refusal))
}

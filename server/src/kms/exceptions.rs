//! Refusals in KMS's own words: one total map. Its exceptions are ones that no SDK sends again by
//! itself, but for throttling.

use http::{HeaderName, Response, StatusCode};
use serde_json::json;
use signing_core::{Reason, Refusal};

use super::CONTENT_TYPE_JSON;
use crate::answer::{self, Answer};
use crate::local::Fault;

/// `x-amzn-RequestId`, with every answer of KMS.
const AMZN_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// The exception of a refusal. `fault` says more of a proof that failed.
pub(crate) fn exception(reason: Reason, fault: Option<Fault>) -> &'static str {
    match reason {
        Reason::InvalidRequest
        | Reason::InvalidDigest
        | Reason::MessageTooLarge
        | Reason::RequestTimeout
        | Reason::BodyTooLarge
        | Reason::UnsupportedMediaType
        | Reason::HeadersTooLarge => "ValidationException",
        Reason::AlgorithmNotSupported => "InvalidKeyUsageException",
        Reason::Unauthenticated => match fault {
            Some(Fault::Invalid) => "InvalidSignatureException",
            Some(Fault::Incomplete) => "IncompleteSignatureException",
            Some(Fault::Missing) => "MissingAuthenticationTokenException",
            Some(Fault::Unknown) | None => "UnrecognizedClientException",
        },
        Reason::CallerNotAuthorized | Reason::AlgorithmNotAllowed => "AccessDeniedException",
        Reason::SignerUnknown => "NotFoundException",
        Reason::NotFound | Reason::MethodNotAllowed => "UnsupportedOperationException",
        Reason::IdempotencyConflict => "ConflictException",
        Reason::CallerRateLimited | Reason::UpstreamThrottled | Reason::Overloaded => {
            "ThrottlingException"
        }
        Reason::Starting
        | Reason::UpstreamUnhealthy
        | Reason::KeyUnavailable
        | Reason::Frozen
        | Reason::Sealed
        | Reason::AuditUnavailable
        | Reason::SignatureRejected
        | Reason::Draining
        | Reason::BreakglassOutOfScope
        | Reason::BreakglassQuotaExhausted
        | Reason::BreakglassSignerUnavailable
        | Reason::GateClosedInFlight => "KMSInvalidStateException",
        // With status 400: at 500 every SDK would ask again.
        Reason::Internal | Reason::DeadlineExceeded | Reason::Indeterminate => {
            "KMSInternalException"
        }
    }
}

/// A refusal, as KMS would say it. All have status 400.
pub(crate) fn refusal(refusal: &Refusal, fault: Option<Fault>) -> Response<Answer> {
    let mut message = format!("{}: {}", refusal.reason, refusal.detail);
    if refusal.reason == Reason::Indeterminate {
        message.push_str(". The input may have been signed all the same");
    }
    let kind = exception(refusal.reason, fault);
    said(StatusCode::BAD_REQUEST, kind, &message)
}

/// An exception that is no refusal of ours: KMS says it too.
pub(crate) fn said(status: StatusCode, kind: &str, message: &str) -> Response<Answer> {
    let body = json!({"__type": kind, "message": message});
    answer::refusal_of_kind(status, CONTENT_TYPE_JSON, &body)
}

/// Names the request as KMS does.
pub(crate) fn name(response: &mut Response<Answer>, request_id: &str) {
    answer::set(response, AMZN_REQUEST_ID, request_id);
}

//! What a failed call to KMS tells.
//!
//! Errors: <https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html#API_Sign_Errors>
//! and the common ones, most of which the SDK does not model, so codes decide.

use std::error::Error as StdError;

use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use signing_core::evidence::Fault;

use crate::UpstreamError;

/// What a failed call tells: from the SDK's error to what is known.
pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>) -> UpstreamError
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let (fault, detail) = known(error);
    UpstreamError::Failed { fault, detail: detail.chars().take(DETAIL_MAX_CHARS).collect() }
}

/// The same, without words for a person.
pub(super) fn fault_of_call<E>(error: &SdkError<E, HttpResponse>) -> Fault
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    known(error).0
}

fn known<E>(error: &SdkError<E, HttpResponse>) -> (Fault, String)
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            match service.err().code() {
                Some(code) if status >= 400 => (fault_of(code, status), code.to_owned()),
                _ => (fault_of_status(status), format!("HTTP {status} without an error code")),
            }
        }
        SdkError::ConstructionFailure(_) => (
            Fault::Unavailable,
            "the request could not be built: credentials or endpoint".to_owned(),
        ),
        // Only connecting has a time-out of its own.
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            (Fault::Unavailable, "connecting timed out".to_owned())
        }
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(connector) if never_sent(connector) => {
                (Fault::Unavailable, format!("not sent: {}", innermost(connector)))
            }
            Some(connector) => {
                (Fault::Indeterminate, format!("connection lost: {}", innermost(connector)))
            }
            None => (Fault::Indeterminate, "the call failed on its way".to_owned()),
        },
        SdkError::TimeoutError(_) => (Fault::Indeterminate, "no answer in time".to_owned()),
        SdkError::ResponseError(_) => {
            (Fault::Indeterminate, "the answer could not be read".to_owned())
        }
        _ => (Fault::Indeterminate, "an unknown kind of failure".to_owned()),
    }
}

/// What KMS said of the credentials, if that is why it refused a call: others may be let in. A
/// denial may be about the key alone; then others are refused too, which the back-off bears.
pub(super) fn refused_credentials<E>(error: &SdkError<E, HttpResponse>) -> Option<&str>
where
    E: ProvideErrorMetadata,
{
    let SdkError::ServiceError(service) = error else { return None };
    service.err().code().filter(|code| {
        matches!(
            *code,
            "ExpiredTokenException"
                | "ExpiredToken"
                | "RequestExpired"
                | "UnrecognizedClientException"
                | "InvalidClientTokenId"
                | "InvalidSignatureException"
                | "SignatureDoesNotMatch"
                | "IncompleteSignature"
                | "IncompleteSignatureException"
                | "MissingAuthenticationToken"
                | "MissingAuthenticationTokenException"
                | "AccessDeniedException"
                | "AccessDenied"
                | "NotAuthorized"
        )
    })
}

/// By HTTP status, where no error code came with it: from something between us
/// and KMS, or as an answer that could not be read.
fn fault_of_status(status: u16) -> Fault {
    match status {
        429 => Fault::Throttled,
        400..500 => Fault::Rejected,
        // An answer that says yes and cannot be read, or an error of something
        // between us and KMS: it may have signed.
        _ => Fault::Indeterminate,
    }
}

/// By error code, since most are not modelled by the SDK.
fn fault_of(code: &str, status: u16) -> Fault {
    match code {
        "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "LimitExceededException"
        | "SlowDown" => Fault::Throttled,
        "DisabledException"
        | "NotFoundException"
        | "InvalidKeyUsageException"
        | "KMSInvalidStateException"
        | "AccessDeniedException"
        | "InvalidGrantTokenException"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "OptInRequired"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignatureException"
        | "NotAuthorized"
        | "AccessDenied"
        | "InvalidArnException"
        | "SignatureDoesNotMatch"
        | "RequestExpired" => Fault::KeyUnavailable,
        "ValidationException"
        | "InvalidParameterValue"
        | "SerializationException"
        | "UnsupportedOperationException" => Fault::Rejected,
        // DependencyTimeoutException, KeyUnavailableException, KMSInternalException,
        // ServiceUnavailable, InternalFailure, and whatever is new.
        _ if status >= 500 => Fault::Unavailable,
        _ => Fault::Rejected,
    }
}

/// Whether the failure happened before the request was on its way, so that
/// certainly nothing was signed: no connection, or neither HTTP nor a socket is
/// among its causes, as with credentials.
fn never_sent(error: &(dyn StdError + 'static)) -> bool {
    let no_connection = causes(error).any(|cause| {
        cause.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|e| e.is_connect())
    });
    let on_the_wire = causes(error).any(|cause| {
        cause.is::<hyper::Error>()
            || cause.is::<hyper_util::client::legacy::Error>()
            || cause.is::<std::io::Error>()
    });
    no_connection || !on_the_wire
}

/// At most so much of an upstream's words goes into logs and status.
const DETAIL_MAX_CHARS: usize = 200;

fn innermost(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

/// An error, and what caused it.
pub(super) fn causes<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

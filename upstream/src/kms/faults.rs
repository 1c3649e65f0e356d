//! What a failed call to KMS tells.
//!
//! Errors: <https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html#API_Sign_Errors>
//! and the common ones, most of which the SDK does not model, so codes decide.

use std::error::Error as StdError;

use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::result::ConnectorError;
use signing_core::evidence::Fault;

use crate::UpstreamError;

/// What is known of a call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallFailed {
    pub(super) fault: Fault,
    /// In words.
    detail: String,
    /// KMS's error code, if it answered with one.
    code: Option<String>,
}

impl CallFailed {
    fn new(fault: Fault, detail: impl Into<String>) -> Self {
        Self { fault, detail: detail.into(), code: None }
    }

    /// Answered with that HTTP status, and with an error code or without one.
    pub(super) fn answered(status: u16, code: Option<String>) -> Self {
        match code {
            Some(code) if status >= 400 => {
                Self { fault: fault_of(&code, status), detail: code.clone(), code: Some(code) }
            }
            code => {
                let detail = format!("HTTP {status} without an error code");
                Self { code, ..Self::new(fault_of_status(status), detail) }
            }
        }
    }

    /// Nothing was sent.
    pub(super) fn not_built() -> Self {
        let detail = "the request could not be built: credentials or endpoint";
        Self::new(Fault::Unavailable, detail)
    }

    /// No answer came, by what the connection says.
    pub(super) fn on_the_way(error: &ConnectorError) -> Self {
        // Only connecting has a time-out of its own.
        if error.is_timeout() {
            return Self::new(Fault::Unavailable, "connecting timed out");
        }
        let cause = innermost(error);
        if never_sent(error) {
            return Self::new(Fault::Unavailable, format!("not sent: {cause}"));
        }
        Self::new(Fault::Indeterminate, format!("connection lost: {cause}"))
    }

    /// An answer broke off, or is not one of KMS.
    pub(super) fn unreadable() -> Self {
        Self::new(Fault::Indeterminate, "the answer could not be read")
    }

    /// What the SDK's error tells.
    pub(super) fn of_sdk<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata,
    {
        match error {
            SdkError::ServiceError(service) => {
                let code = service.err().code().map(str::to_owned);
                Self::answered(service.raw().status().as_u16(), code)
            }
            SdkError::ConstructionFailure(_) => Self::not_built(),
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(error) => Self::on_the_way(error),
                None => Self::new(Fault::Indeterminate, "the call failed on its way"),
            },
            SdkError::TimeoutError(_) => Self::new(Fault::Indeterminate, "no answer in time"),
            SdkError::ResponseError(_) => Self::unreadable(),
            _ => Self::new(Fault::Indeterminate, "an unknown kind of failure"),
        }
    }

    /// What KMS said of the credentials, if that is why it refused the call: others may be let in.
    /// A denial may be about the key alone; then others are refused too, which the back-off bears.
    pub(super) fn refused_credentials(&self) -> Option<&str> {
        self.code.as_deref().filter(|code| is_of_credentials(code))
    }
}

impl From<CallFailed> for UpstreamError {
    fn from(CallFailed { fault, detail, .. }: CallFailed) -> Self {
        Self::Failed { fault, detail: detail.chars().take(DETAIL_MAX_CHARS).collect() }
    }
}

fn is_of_credentials(code: &str) -> bool {
    matches!(
        code,
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

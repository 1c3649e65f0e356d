//! Why a request is refused: one closed enum, the same word in the HTTP body,
//! the metric label, the log and the record.

use std::fmt;
use std::time::Duration;

use crate::key::Kid;

/// Declares [`Reason`] as a table: variant, word, HTTP status, title.
macro_rules! reasons {
    ($($variant:ident $word:literal $status:literal $title:literal)*) => {
        /// A refusal reason. Its word is a stable part of the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $(#[doc = $title] $variant,)* }

        impl Reason {
            /// Every reason, in the order of their statuses.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word in bodies, labels, logs and records.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The HTTP status (RFC 9110, RFC 6585).
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// A short sentence for a person; the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

reasons! {
    InvalidRequest "invalid_request" 400 "The request is not valid"
    InvalidDigest "invalid_digest" 400 "The digest does not fit the algorithm"
    MessageTooLarge "message_too_large" 400 "The message is too large for this algorithm"
    AlgorithmNotSupported "algorithm_not_supported" 400 "The signer does not support this algorithm"
    Unauthenticated "unauthenticated" 401 "The caller is not authenticated"
    CallerNotAuthorized "caller_not_authorized" 403 "The caller may not use this signer"
    AlgorithmNotAllowed "algorithm_not_allowed" 403 "The caller may not use this algorithm"
    SignerUnknown "signer_unknown" 404 "No such signer"
    NotFound "not_found" 404 "No such resource"
    MethodNotAllowed "method_not_allowed" 405 "The method is not allowed here"
    RequestTimeout "request_timeout" 408 "The request did not arrive in time"
    IdempotencyConflict "idempotency_conflict" 409 "The idempotency key is used by another request"
    BodyTooLarge "body_too_large" 413 "The request body is too large"
    UnsupportedMediaType "unsupported_media_type" 415 "The content type is not supported"
    CallerRateLimited "caller_rate_limited" 429 "The caller sends too many requests"
    HeadersTooLarge "headers_too_large" 431 "The request headers are too large"
    Internal "internal" 500 "Internal error"
    Starting "starting" 503 "The signer has not proven itself yet"
    UpstreamUnhealthy "upstream_unhealthy" 503 "The upstream is not healthy"
    UpstreamThrottled "upstream_throttled" 503 "The upstream throttles"
    KeyUnavailable "key_unavailable" 503 "The key cannot be used"
    Frozen "frozen" 503 "Signing is frozen by an operator"
    Sealed "sealed" 503 "The signer is sealed until an operator unseals it"
    AuditUnavailable "audit_unavailable" 503 "The audit record cannot be written"
    SignatureRejected "signature_rejected" 503 "The upstream's signature did not verify"
    Overloaded "overloaded" 503 "Too many requests are in flight"
    Draining "draining" 503 "The proxy is shutting down"
    BreakglassOutOfScope "breakglass_out_of_scope" 503 "The request is outside the break-glass session's scope"
    BreakglassQuotaExhausted "breakglass_quota_exhausted" 503 "The break-glass session's quota is used up"
    BreakglassSignerUnavailable "breakglass_signer_unavailable" 503 "The break-glass signer does not answer"
    GateClosedInFlight "gate_closed_in_flight" 503 "The gate closed while the request was in flight"
    DeadlineExceeded "deadline_exceeded" 504 "The deadline passed before the request was sent upstream"
    Indeterminate "indeterminate" 504 "It is not known whether the upstream signed"
}

impl Reason {
    /// Seconds a client should wait before it tries again: on every 429 and
    /// 503, nowhere else (RFC 9110 10.2.3).
    #[must_use]
    pub fn retry_after_s(self) -> Option<u32> {
        match self {
            Self::CallerRateLimited | Self::Overloaded | Self::GateClosedInFlight => Some(1),
            Self::Starting | Self::UpstreamThrottled | Self::Draining => Some(2),
            Self::UpstreamUnhealthy | Self::SignatureRejected => Some(5),
            Self::KeyUnavailable
            | Self::Frozen
            | Self::Sealed
            | Self::AuditUnavailable
            | Self::BreakglassOutOfScope
            | Self::BreakglassQuotaExhausted
            | Self::BreakglassSignerUnavailable => Some(30),
            Self::InvalidRequest
            | Self::InvalidDigest
            | Self::MessageTooLarge
            | Self::AlgorithmNotSupported
            | Self::Unauthenticated
            | Self::CallerNotAuthorized
            | Self::AlgorithmNotAllowed
            | Self::SignerUnknown
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::RequestTimeout
            | Self::IdempotencyConflict
            | Self::BodyTooLarge
            | Self::UnsupportedMediaType
            | Self::HeadersTooLarge
            | Self::Internal
            | Self::DeadlineExceeded
            | Self::Indeterminate => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A refusal: the reason, what exactly is wrong and what to do, and how long
/// it has been so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refusal {
    /// The closed word.
    pub reason: Reason,
    /// One sentence for a person about this occurrence. Never a secret, and
    /// never more of the input than what is needed to find the mistake.
    pub detail: String,
    /// The signer concerned, once known.
    pub signer_kid: Option<Kid>,
    /// How long ago the cause of the refusal began, if it is a lasting one.
    pub age: Option<Duration>,
}

impl Refusal {
    /// A refusal that concerns no signer in particular.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), signer_kid: None, age: None }
    }

    /// The same refusal about `kid`.
    #[must_use]
    pub fn about(mut self, kid: &Kid) -> Self {
        self.signer_kid = Some(kid.clone());
        self
    }

    /// The same refusal, whose cause began that long ago.
    #[must_use]
    pub fn lasting(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_429_and_503_says_when_to_retry_and_nothing_else_does() {
        for reason in Reason::ALL {
            let expected = matches!(reason.status(), 429 | 503);
            assert_eq!(reason.retry_after_s().is_some(), expected, "{reason}");
        }
    }

    #[test]
    fn words_are_unique_and_snake_case() {
        let words: HashSet<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        assert!(words.iter().all(|w| w.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    }
}

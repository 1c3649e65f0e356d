//! Why the signer refuses: one closed enum, the same word on the wire and in its records.

use serde::{Deserialize, Serialize};

use crate::breakglass::activation::Clause;

/// Why an ask is refused. The sentence beside it says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The ask cannot be read or is out of its order.
    Invalid,
    /// The peer asks for another deployment, or speaks another version.
    Mismatch,
    /// The proxy has not shown that its log goes on from the one that the signer knows.
    LogRefused,
    /// No session is in force, or another one.
    NoSession,
    /// The session does not cover the caller, the signer or the algorithm.
    OutOfScope,
    /// The session's quota is used up.
    QuotaExhausted,
    /// Too many signatures in a second.
    RateLimited,
    /// Too many asks wait.
    Overloaded,
    /// The input is a canary, or cannot be signed with that key.
    InputRefused,
    /// The journal cannot be written.
    AuditUnavailable,
    /// The key could not sign, or its signature did not verify.
    KeyFailed,
    /// The activation is refused, by that clause.
    #[serde(untagged)]
    Activation(Clause),
}

impl Reason {
    /// The word on the wire and in records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Mismatch => "mismatch",
            Self::LogRefused => "log_refused",
            Self::NoSession => "no_session",
            Self::OutOfScope => "out_of_scope",
            Self::QuotaExhausted => "quota_exhausted",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::InputRefused => "input_refused",
            Self::AuditUnavailable => "audit_unavailable",
            Self::KeyFailed => "key_failed",
            Self::Activation(clause) => clause.word(),
        }
    }
}

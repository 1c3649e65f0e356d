//! Why the emergency signer gave no signature: what is known, and what a caller is told.

use signing_core::breakglass::End;
use signing_core::breakglass::wire::{self, Reason as Word};
use signing_core::evidence::{Evidence, Fault};
use signing_core::{Reason, Refusal};

use super::unavailable;

/// Why an ask has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It was not sent.
    #[error("the emergency signer is not connected; is `breakglass-signer serve` running?")]
    NotConnected,
    /// It was not sent.
    #[error("too many asks wait for the emergency signer")]
    Overloaded,
    /// It was sent, and the connection went.
    #[error("the connection to the emergency signer was lost")]
    Lost,
    /// It was sent, and nothing came in time.
    #[error("the emergency signer did not answer in time")]
    TooSlow,
    /// Something came that is no answer to it.
    #[error("the emergency signer answered something else than was asked")]
    Nonsense,
}

/// Why there is no signature.
#[derive(Debug)]
pub struct EmergencyError {
    /// What is known, for the record.
    pub evidence: Evidence,
    /// What the caller is told.
    pub refusal: Refusal,
}

impl From<AskError> for EmergencyError {
    fn from(error: AskError) -> Self {
        let fault = match error {
            AskError::NotConnected | AskError::Overloaded => Fault::Unavailable,
            // It may have signed, and recorded it; nothing leaves here.
            AskError::Lost | AskError::TooSlow => Fault::Indeterminate,
            // As with a signature that does not verify: who answers so is not believed again.
            AskError::Nonsense => {
                let detail = error.to_string();
                return Self { evidence: Evidence::Doubt { detail }, refusal: unavailable(&error) };
            }
        };
        let detail = error.to_string();
        Self { evidence: Evidence::Failed { fault, detail }, refusal: unavailable(&error) }
    }
}

impl EmergencyError {
    /// It said no: it did not sign.
    pub(super) fn refused(refused: &wire::Refused, ended: Option<&wire::SessionEnded>) -> Self {
        let is_spent = ended.is_some_and(|ended| ended.reason == End::Quota);
        let reason = match refused.reason {
            Word::NoSession if is_spent => Reason::BreakglassQuotaExhausted,
            Word::OutOfScope | Word::NoSession => Reason::BreakglassOutOfScope,
            Word::QuotaExhausted => Reason::BreakglassQuotaExhausted,
            Word::RateLimited | Word::Overloaded => Reason::Overloaded,
            Word::InputRefused => Reason::InvalidRequest,
            Word::AuditUnavailable => Reason::AuditUnavailable,
            Word::KeyFailed
            | Word::Invalid
            | Word::LogRefused
            | Word::Mismatch
            | Word::Activation(_) => Reason::BreakglassSignerUnavailable,
        };
        let detail = match ended {
            Some(ended) => format!("the break-glass session is over: {}", ended.detail),
            None => refused.detail.clone(),
        };
        Self {
            evidence: Evidence::Failed { fault: Fault::Rejected, detail: detail.clone() },
            refusal: Refusal::new(reason, detail),
        }
    }
}

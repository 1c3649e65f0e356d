//! Why the proxy begins, ends or destroys nothing: one closed list. What the emergency signer judges too has
//! the signer's own word.

use serde::{Deserialize, Serialize};

use super::activation::Clause;
use super::wire;

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyReason {
    /// An operator froze the proxy.
    Frozen,
    /// The request stands in for a signer that the proxy does not have.
    SignerUnknown,
    /// The emergency signer is not connected, does not answer, or answers something else.
    SignerUnavailable,
    /// The signer activated a session that the proxy did not put in force, and was told to end it.
    NotInForce,
    /// The proxy's monitor is gone.
    NotEnded,
    /// No emergency signer is refused for its log, so nothing has to be accepted.
    NothingRefused,
    /// The signer refused, or would refuse: by that word.
    #[serde(untagged)]
    Signer(wire::Reason),
}

/// Nothing was done: a word, and a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// The word of the refusal.
    pub reason: ProxyReason,
    /// What to do.
    pub detail: String,
}

impl ProxyReason {
    /// The word on the wire and in the journal.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::SignerUnknown => "signer_unknown",
            Self::SignerUnavailable => "signer_unavailable",
            Self::NotInForce => "not_in_force",
            Self::NotEnded => "not_ended",
            Self::NothingRefused => "nothing_refused",
            Self::Signer(reason) => reason.word(),
        }
    }
}

impl From<wire::Reason> for ProxyReason {
    fn from(reason: wire::Reason) -> Self {
        Self::Signer(reason)
    }
}

impl From<Clause> for ProxyReason {
    fn from(clause: Clause) -> Self {
        Self::Signer(wire::Reason::Activation(clause))
    }
}

impl Refused {
    /// Nothing was done, since.
    #[must_use]
    pub fn new(reason: impl Into<ProxyReason>, detail: impl Into<String>) -> Self {
        Self { reason: reason.into(), detail: detail.into() }
    }
}

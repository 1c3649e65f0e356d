//! What is observed of a signer, classified by what is known (I10).

use crate::moment::Moment;
use crate::refusal::Reason;

/// Where an observation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A canary of the monitor.
    Canary,
    /// A caller's request.
    Traffic,
}

/// How an upstream call failed, by what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The upstream said no to this call: it certainly did not sign.
    Rejected,
    /// The upstream could not be reached, or said that it could not sign.
    Unavailable,
    /// Nobody knows whether it signed: a time-out, a connection cut half-way.
    Indeterminate,
    /// The upstream sheds load. Evidence, never an outage (I11).
    Throttled,
    /// The key is disabled, gone, or access is denied: terminal until someone
    /// acts, and never an outage (I11).
    KeyUnavailable,
    /// It was not asked: more calls wait for it in the proxy than it serves in time. It
    /// certainly did not sign, and nothing is known about it.
    Overloaded,
}

impl Evidence {
    /// Whether it says anything about the upstream. How long our own queue is does not.
    #[must_use]
    pub fn is_about_the_upstream(&self) -> bool {
        match self {
            Self::Failed { fault, .. } => *fault != Fault::Overloaded,
            Self::Signed | Self::Doubt { .. } => true,
        }
    }

    /// Whether only an operator can clear it. It is about the signer: its key, not one way to reach it.
    #[must_use]
    pub const fn is_doubt(&self) -> bool {
        matches!(self, Self::Doubt { .. })
    }

    /// Whether the upstream refuses to use the key. Asked with another algorithm than
    /// the registered one, which canaries prove, it says nothing about that: one caller
    /// whose algorithm is denied would shut the gate for all.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        match self {
            Self::Failed { fault, .. } => *fault == Fault::KeyUnavailable,
            Self::Signed | Self::Doubt { .. } => false,
        }
    }
}

impl Fault {
    /// The word in logs, status and the metric label `kind`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Unavailable => "unavailable",
            Self::Indeterminate => "indeterminate",
            Self::Throttled => "throttled",
            Self::KeyUnavailable => "key_unavailable",
            Self::Overloaded => "overloaded",
        }
    }

    /// Why a gate that shut because of this fault refuses.
    #[must_use]
    pub const fn gate_reason(self) -> Reason {
        match self {
            Self::Rejected | Self::Unavailable | Self::Indeterminate => Reason::UpstreamUnhealthy,
            Self::Throttled => Reason::UpstreamThrottled,
            Self::KeyUnavailable => Reason::KeyUnavailable,
            Self::Overloaded => Reason::Overloaded,
        }
    }
}

/// What an observation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A real signature that verified under the registered key.
    Signed,
    /// The call failed.
    Failed {
        /// What is known about the failed call.
        fault: Fault,
        /// The upstream's own error code or a short sentence; no secret.
        detail: String,
    },
    /// A wrong or unverifiable signature, another key than the registered one:
    /// doubt that only an operator can clear. Seals the signer (I10).
    Doubt {
        /// What is doubted.
        detail: String,
    },
}

/// One piece of evidence about one upstream of a signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Which of the signer's upstreams, in the order of the configuration, from 0.
    pub upstream: usize,
    /// The kind of call that showed the evidence.
    pub source: Source,
    /// When the call began: what it proves, it proves of that moment.
    pub started: Moment,
    /// When it was known.
    pub at: Moment,
    /// How many failures in a row it stands for (equal ones are folded into one).
    pub count: u32,
    /// What it says.
    pub evidence: Evidence,
}

//! The state machine of one signer's gate: pure, total, no wildcard.

use std::time::Duration;

use super::window::WindowLimits;
use crate::evidence::{Evidence, Fault, Observation, Source};
use crate::moment::Moment;
use crate::refusal::Reason;

/// When a gate shuts and when it opens again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// How long one success keeps the gate open, counted from the moment its
    /// call began.
    pub lease: Duration,
    /// Consecutive failures that shut an open gate.
    pub failures_to_shut: u32,
    /// Consecutive successful canaries that open a shut gate.
    pub successes_to_open: u32,
    /// The shortest time over which those canaries must have been spread.
    pub recovery_min: Duration,
    /// What that time grows to, by doubling, while the gate flaps.
    pub recovery_max: Duration,
    /// A gate that shuts so soon after it opened flaps.
    pub flap_window: Duration,
    /// When the calls of a while, all together, shut an open gate.
    pub window: WindowLimits,
}

impl Default for Thresholds {
    /// Those of a configuration that names none.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(8),
            failures_to_shut: 3,
            successes_to_open: 3,
            recovery_min: Duration::from_secs(1),
            recovery_max: Duration::from_secs(60),
            flap_window: Duration::from_secs(60),
            window: WindowLimits::default(),
        }
    }
}

/// Why a gate is not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing is known yet.
    Starting,
    /// Nothing was heard within the lease.
    Silence,
    /// Calls failed.
    Failing {
        /// The fault of the newest failure.
        fault: Fault,
        /// What the upstream said.
        detail: String,
    },
    /// Calls were answered, too slowly.
    Slow {
        /// The measured time and the limit, in words.
        detail: String,
    },
    /// An operator unsealed it; it has to prove itself anew.
    Unsealed,
}

/// The state of one signer's gate. It starts `Shut`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Refuses everything.
    Shut {
        /// What shut it: decides the reason of refusals.
        cause: Cause,
        /// Since when it has not been open.
        since: Moment,
        /// Only a canary that began then or later counts: when it shut, or when
        /// the newest failure was known.
        proof_from: Moment,
    },
    /// Refuses everything but canaries, of which the last ones succeeded.
    Probing {
        /// Why it had been shut.
        cause: Cause,
        /// Since when it has not been open.
        since: Moment,
        /// Canaries that succeeded in a row.
        successes: u32,
        /// When the first of them was known.
        first_at: Moment,
        /// When the call of the newest of them began.
        newest_started: Moment,
    },
    /// Admits requests while the lease lasts.
    Open {
        /// Since when.
        since: Moment,
        /// When the call of the newest success began: what the lease stands on.
        proven_at: Moment,
        /// Until when, without new evidence.
        lease_until: Moment,
        /// Failures since the newest success.
        failures: u32,
        /// When the newest failure was known.
        failed_at: Moment,
    },
    /// Refuses everything until an operator unseals it.
    Sealed {
        /// What is doubted.
        detail: String,
        /// Since when.
        since: Moment,
    },
}

impl Cause {
    /// Why a gate shut for this cause refuses.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Starting | Self::Unsealed => Reason::Starting,
            Self::Silence | Self::Slow { .. } => Reason::UpstreamUnhealthy,
            Self::Failing { fault, .. } => fault.gate_reason(),
        }
    }

    /// For an operator: in the upstream's own words.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Failing { fault, detail } => format!("{}: {detail}", fault.word()),
            Self::Slow { detail } => format!("slow: {detail}"),
            Self::Starting | Self::Silence | Self::Unsealed => self.sentence(),
        }
    }

    /// One sentence for a caller: says the class of failure, not the upstream's words.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Starting => "no canary has succeeded yet".into(),
            Self::Silence => "no signature has verified within the lease".into(),
            Self::Failing { fault, .. } => format!("calls to the upstream fail: {}", fault.word()),
            Self::Slow { .. } => "calls to the upstream take too long".into(),
            Self::Unsealed => {
                "unsealed; the canaries that prove it have not all succeeded yet".into()
            }
        }
    }
}

impl State {
    /// A gate at the start: shut, because nothing is known.
    #[must_use]
    pub fn starting(now: Moment) -> Self {
        Self::Shut { cause: Cause::Starting, since: now, proof_from: now }
    }

    /// Lets an open gate's lease end no later than its evidence carries by `lease`.
    /// A longer one counts from the next evidence.
    pub(super) fn cut_lease(&mut self, lease: Duration) {
        if let Self::Open { proven_at, lease_until, .. } = self {
            *lease_until = proven_at.after(lease).min(*lease_until);
        }
    }

    /// The word in metrics, status and logs.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Shut { .. } => "shut",
            Self::Probing { .. } => "probing",
            Self::Open { .. } => "open",
            Self::Sealed { .. } => "sealed",
        }
    }

    /// Why it is not open, for an operator.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Shut { cause, .. } | Self::Probing { cause, .. } => Some(cause.detail()),
            Self::Sealed { detail, .. } => Some(detail.clone()),
            Self::Open { .. } => None,
        }
    }

    /// Whether it is open, by a lease that lasts at `now`.
    #[must_use]
    pub fn is_open(&self, now: Moment) -> bool {
        matches!(self, Self::Open { lease_until, .. } if now < *lease_until)
    }

    /// Whether it says the same as another one: in the same state since the same moment.
    pub(super) fn answers_as(&self, other: &Self) -> bool {
        self.word() == other.word() && self.since() == other.since()
    }

    /// Every state's word.
    pub const WORDS: [&str; 4] = ["shut", "probing", "open", "sealed"];

    /// Since when it has been as it is: open, not open, or sealed.
    #[must_use]
    pub const fn since(&self) -> Moment {
        match self {
            Self::Shut { since, .. }
            | Self::Probing { since, .. }
            | Self::Open { since, .. }
            | Self::Sealed { since, .. } => *since,
        }
    }

    /// The state after time passed: a lease that nobody renewed is over.
    #[must_use]
    pub fn tick(self, now: Moment, thresholds: &Thresholds) -> Self {
        match self {
            Self::Open { lease_until, .. } if now >= lease_until => {
                Self::Shut { cause: Cause::Silence, since: lease_until, proof_from: lease_until }
            }
            Self::Probing { cause, since, newest_started, .. }
                if now >= newest_started.after(thresholds.lease) =>
            {
                Self::Shut { cause, since, proof_from: now }
            }
            unchanged @ (Self::Shut { .. }
            | Self::Probing { .. }
            | Self::Open { .. }
            | Self::Sealed { .. }) => unchanged,
        }
    }

    /// The state after an observation.
    #[must_use]
    pub fn observe(self, observation: &Observation, thresholds: &Thresholds) -> Self {
        match (self.tick(observation.at, thresholds), &observation.evidence) {
            (sealed @ Self::Sealed { .. }, _) => sealed,
            (_, Evidence::Doubt { detail }) => {
                Self::Sealed { detail: detail.clone(), since: observation.at }
            }
            // What began after it was known proves nothing: a clock lied.
            (state, Evidence::Signed) if observation.started > observation.at => state,
            (state, Evidence::Signed) => state.signed(observation, thresholds),
            // Our own queue was too long: nothing was asked of the upstream.
            (state, evidence) if !evidence.is_about_the_upstream() => state,
            // The upstream said no to what a caller asked: that says nothing about the
            // upstream, or one caller could shut the gate for all. A canary's does.
            (state, Evidence::Failed { fault: Fault::Rejected, .. })
                if observation.source == Source::Traffic =>
            {
                state
            }
            (state, Evidence::Failed { fault, detail }) => {
                state.failed(observation, *fault, detail, thresholds)
            }
        }
    }

    /// The state after an operator looked into a seal: shut, to prove itself anew.
    #[must_use]
    pub fn unseal(self, now: Moment) -> Self {
        match self {
            Self::Sealed { .. } => {
                Self::Shut { cause: Cause::Unsealed, since: now, proof_from: now }
            }
            unchanged @ (Self::Shut { .. } | Self::Probing { .. } | Self::Open { .. }) => unchanged,
        }
    }

    /// The state after the calls of a while came to too much: an open gate shuts.
    pub(super) fn shut(self, cause: Cause, now: Moment) -> Self {
        match self {
            Self::Open { .. } => Self::Shut { cause, since: now, proof_from: now },
            unchanged @ (Self::Shut { .. } | Self::Probing { .. } | Self::Sealed { .. }) => {
                unchanged
            }
        }
    }

    /// The state of a gate that is not open after a canary that took too long: its row
    /// begins anew.
    pub(super) fn slow(self, now: Moment, detail: String) -> Self {
        match self {
            Self::Shut { since, .. } | Self::Probing { since, .. } => {
                Self::Shut { cause: Cause::Slow { detail }, since, proof_from: now }
            }
            unchanged @ (Self::Open { .. } | Self::Sealed { .. }) => unchanged,
        }
    }

    fn signed(self, observation: &Observation, thresholds: &Thresholds) -> Self {
        let is_canary = observation.source == Source::Canary;
        let started = observation.started;
        match self {
            // A call that began before the gate shut proves nothing of now.
            Self::Shut { cause, since, proof_from } if is_canary && started >= proof_from => {
                Self::Probing {
                    cause,
                    since,
                    successes: 1,
                    first_at: observation.at,
                    newest_started: started,
                }
                .proven(observation.at, thresholds)
            }
            Self::Probing { cause, since, successes, first_at, newest_started }
                if is_canary && started > newest_started =>
            {
                Self::Probing {
                    cause,
                    since,
                    successes: successes.saturating_add(1),
                    first_at,
                    newest_started: started,
                }
                .proven(observation.at, thresholds)
            }
            Self::Open { since, proven_at, lease_until, failures, failed_at } => Self::Open {
                since,
                proven_at: proven_at.max(started),
                // The same evidence again is none: it renews nothing.
                lease_until: if started > proven_at {
                    lease_until.max(started.after(thresholds.lease))
                } else {
                    lease_until
                },
                // A call that began before the newest failure does not outweigh it.
                failures: if started >= failed_at { 0 } else { failures },
                failed_at,
            },
            unchanged @ (Self::Shut { .. } | Self::Probing { .. } | Self::Sealed { .. }) => {
                unchanged
            }
        }
    }

    /// Opens a probing gate once enough canaries over enough time have succeeded.
    fn proven(self, now: Moment, thresholds: &Thresholds) -> Self {
        match self {
            Self::Probing { successes, first_at, newest_started, .. }
                if successes >= thresholds.successes_to_open
                    && now.since(first_at) >= thresholds.recovery_min
                    && now < newest_started.after(thresholds.lease) =>
            {
                Self::Open {
                    since: now,
                    proven_at: newest_started,
                    lease_until: newest_started.after(thresholds.lease),
                    failures: 0,
                    failed_at: Moment::default(),
                }
            }
            unchanged @ (Self::Shut { .. }
            | Self::Probing { .. }
            | Self::Open { .. }
            | Self::Sealed { .. }) => unchanged,
        }
    }

    fn failed(
        self,
        observation: &Observation,
        fault: Fault,
        detail: &str,
        thresholds: &Thresholds,
    ) -> Self {
        let cause = Cause::Failing { fault, detail: detail.to_owned() };
        match self {
            Self::Shut { since, .. } | Self::Probing { since, .. } => {
                Self::Shut { cause, since, proof_from: observation.at }
            }
            // A call that began before the gate opened says nothing of now.
            open @ Self::Open { since, .. } if observation.started < since => open,
            Self::Open { since, proven_at, lease_until, failures, failed_at } => {
                let failures = failures.saturating_add(observation.count);
                let terminal = fault == Fault::KeyUnavailable;
                if terminal || failures >= thresholds.failures_to_shut {
                    Self::Shut { cause, since: observation.at, proof_from: observation.at }
                } else {
                    let failed_at = failed_at.max(observation.at);
                    Self::Open { since, proven_at, lease_until, failures, failed_at }
                }
            }
            sealed @ Self::Sealed { .. } => sealed,
        }
    }
}

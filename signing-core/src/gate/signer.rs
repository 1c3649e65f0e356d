//! A signer's gate out of its upstreams': any one that is open serves, and doubt about one
//! is doubt about all.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::epoch::Epoch;
use super::machine::{Cause, State};
use super::outage::OutageClock;
use super::upstream::{Place, UpstreamGate, is_outage};
use crate::key::Kid;
use crate::moment::Moment;

/// How much of a signer is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Every upstream is open.
    None,
    /// Some are, some are not: it signs.
    Partial,
    /// No upstream is open: it does not sign.
    Full,
}

/// A signer to be watched, and its upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Which signer.
    pub kid: Kid,
    /// Where its upstreams are, at least one.
    pub upstreams: Vec<Arc<Place>>,
    /// The generation of the configuration for which its upstreams were made: of another generation, they
    /// are others.
    pub made_in: u64,
}

/// One signer's gate.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) upstreams: Vec<UpstreamGate>,
    pub(super) made_in: u64,
    /// Of the whole.
    pub(super) state: State,
    pub(super) epoch: Epoch,
    pub(super) trusted_from: Moment,
    pub(super) outage: OutageClock,
}

impl Gate {
    pub(super) fn starting(
        Watched { upstreams, made_in, .. }: Watched,
        epoch: Epoch,
        outage: OutageClock,
        now: Moment,
    ) -> Self {
        let upstreams = upstreams.into_iter().map(|place| UpstreamGate::starting(place, now));
        let (upstreams, state) = (upstreams.collect(), State::starting(now));
        Self { upstreams, made_in, state, epoch, trusted_from: now, outage }
    }

    /// Makes the whole follow from its upstreams; the states before and after, if the answer
    /// could change.
    pub(super) fn settle(&mut self, newest_epoch: &mut Epoch) -> Option<(State, State)> {
        let to = whole(&self.upstreams, &self.state);
        let from = std::mem::replace(&mut self.state, to.clone());
        // Renewing a lease or another cause of the same state changes no answer;
        // every other change does, shut and open again in one step included.
        if to.answers_as(&from) {
            return None;
        }
        *newest_epoch = newest_epoch.next();
        self.epoch = *newest_epoch;
        if matches!(from, State::Sealed { .. }) {
            self.trusted_from = to.since();
        }
        Some((from, to))
    }

    pub(super) fn count_outage(&mut self, now: Moment, is_drill: bool) {
        if matches!(self.state, State::Open { .. }) {
            self.outage.reset();
        } else if is_full_outage(&self.upstreams) && !is_drill {
            self.outage.run(now);
        } else {
            self.outage.pause(now);
        }
    }
}

impl From<Kid> for Watched {
    /// One upstream.
    fn from(kid: Kid) -> Self {
        Self { kid, upstreams: vec![Arc::default()], made_in: 1 }
    }
}

impl Extent {
    /// The word in health and status.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Partial => "partial",
            Self::Full => "full",
        }
    }
}

/// The state of the whole, where it was `before`. Of one upstream it is that upstream's.
pub(super) fn whole(upstreams: &[UpstreamGate], before: &State) -> State {
    if let [only] = upstreams {
        return only.state.clone();
    }
    let states = || upstreams.iter().map(|upstream| &upstream.state);
    if let Some(sealed) = states().find(|state| matches!(state, State::Sealed { .. })) {
        return sealed.clone();
    }
    let open = states().filter(|state| matches!(state, State::Open { .. }));
    if let Some(open) = open.cloned().reduce(either_open) {
        return match (open, before) {
            // One upstream after the other may have carried it: it was open throughout.
            (
                State::Open { proven_at, lease_until, failures, failed_at, .. },
                State::Open { since, .. },
            ) => State::Open { since: *since, proven_at, lease_until, failures, failed_at },
            (opened, _) => opened,
        };
    }
    let newest = states().map(State::since).max().unwrap_or_default();
    let since = match before {
        State::Shut { since, .. } | State::Probing { since, .. } => *since,
        State::Open { .. } | State::Sealed { .. } => newest,
    };
    let probing = states().find(|state| matches!(state, State::Probing { .. }));
    match probing.or_else(|| states().next()).cloned() {
        Some(State::Shut { cause, proof_from, .. }) => State::Shut { cause, since, proof_from },
        Some(State::Probing { cause, successes, first_at, newest_started, .. }) => {
            State::Probing { cause, since, successes, first_at, newest_started }
        }
        // Handled above, or there is no upstream: nothing is admitted.
        Some(State::Open { .. } | State::Sealed { .. }) | None => {
            State::Shut { cause: Cause::Starting, since, proof_from: Moment::default() }
        }
    }
}

/// Two open upstreams: the evidence of either carries.
fn either_open(one: State, other: State) -> State {
    match (one, other) {
        (
            State::Open { since, proven_at, lease_until, failures, failed_at },
            State::Open {
                since: its_since,
                proven_at: its_proven_at,
                lease_until: its_lease_until,
                failures: its_failures,
                failed_at: its_failed_at,
            },
        ) => State::Open {
            since: since.min(its_since),
            proven_at: proven_at.max(its_proven_at),
            lease_until: lease_until.max(its_lease_until),
            failures: failures.min(its_failures),
            failed_at: failed_at.max(its_failed_at),
        },
        (one, _) => one,
    }
}

/// Whether all of it is out for a reason that is an outage.
pub(super) fn is_full_outage(upstreams: &[UpstreamGate]) -> bool {
    !upstreams.is_empty()
        && upstreams.iter().all(|upstream| match &upstream.state {
            State::Shut { cause, .. } | State::Probing { cause, .. } => is_outage(cause),
            State::Open { .. } | State::Sealed { .. } => false,
        })
}

//! One upstream's part of a signer's gate: its state, the window of its calls, and how
//! often it flapped.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::machine::{Cause, State, Thresholds};
use super::window::{Excess, Tally, Window};
use crate::evidence::{Evidence, Fault, Observation, Source};
use crate::moment::Moment;

/// Doublings of the recovery time beyond which nothing is added.
const DOUBLINGS_MAX: u32 = 16;

/// Where an upstream is: what tells it from the signer's others, in metrics, health and
/// records.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The provider's name.
    pub provider: &'static str,
    /// The region, or what stands for it.
    pub region: String,
}

/// One upstream in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamView {
    /// Where it is.
    pub place: Arc<Place>,
    /// Its state when the snapshot was made. Its lease counts by `now`.
    pub state: State,
}

#[derive(Clone, Debug)]
pub(super) struct UpstreamGate {
    pub(super) place: Arc<Place>,
    pub(super) state: State,
    window: Window,
    /// How often in a row it shut soon after it had opened.
    flaps: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.provider, self.region)
    }
}

impl UpstreamGate {
    pub(super) fn starting(place: Arc<Place>, now: Moment) -> Self {
        Self { place, state: State::starting(now), window: Window::default(), flaps: 0 }
    }

    pub(super) fn view(&self) -> UpstreamView {
        UpstreamView { place: Arc::clone(&self.place), state: self.state.clone() }
    }

    pub(super) fn tick(&mut self, now: Moment, thresholds: &Thresholds) {
        let effective = self.backed_off(thresholds);
        self.step(thresholds, |state| state.tick(now, &effective));
    }

    pub(super) fn observe(&mut self, observation: &Observation, thresholds: &Thresholds) {
        let effective = self.backed_off(thresholds);
        let limits = &thresholds.window;
        let took = observation.at.since(observation.started);
        let is_canary = observation.source == Source::Canary;
        let is_slow_canary = is_canary
            && observation.evidence == Evidence::Signed
            && took > limits.slow_call
            && !matches!(self.state, State::Open { .. });
        self.step(thresholds, |state| {
            // It signs, but not so that a gate would stay open: it does not open it.
            if is_slow_canary {
                let detail = format!("a canary took {} ms", took.as_millis());
                return state.slow(observation.at, detail);
            }
            state.observe(observation, &effective)
        });
        // Traffic is tallied apart, call by call.
        if is_canary && observation.evidence.is_about_the_upstream() {
            let tally = match &observation.evidence {
                Evidence::Signed => Tally::one_signed(took, limits),
                Evidence::Failed { fault, .. } => Tally::one_failed(*fault),
                Evidence::Doubt { .. } => return,
            };
            self.tally(tally, observation.at, thresholds);
        }
    }

    /// Takes in what calls came to since the last tally.
    pub(super) fn tally(&mut self, tally: Tally, now: Moment, thresholds: &Thresholds) {
        if tally == Tally::default() || !matches!(self.state, State::Open { .. }) {
            return;
        }
        let Some(excess) = self.window.add(tally, now, &thresholds.window) else { return };
        let cause = match excess {
            Excess::Errors { fault, detail } => Cause::Failing { fault, detail },
            Excess::Slow { detail } => Cause::Slow { detail },
        };
        self.step(thresholds, |state| state.shut(cause, now));
    }

    pub(super) fn seal(&mut self, detail: &str, now: Moment) {
        if !matches!(self.state, State::Sealed { .. }) {
            self.state = State::Sealed { detail: detail.to_owned(), since: now };
        }
    }

    pub(super) fn unseal(&mut self, now: Moment) {
        self.state = self.state.clone().unseal(now);
        self.window.clear();
    }

    /// The longer it flaps, the longer it has to prove itself.
    fn backed_off(&self, thresholds: &Thresholds) -> Thresholds {
        let factor = 1_u32 << self.flaps.min(DOUBLINGS_MAX);
        let longest = thresholds.recovery_max.max(thresholds.recovery_min);
        let recovery_min = thresholds.recovery_min.saturating_mul(factor).min(longest);
        Thresholds { recovery_min, ..thresholds.clone() }
    }

    fn step(&mut self, thresholds: &Thresholds, step: impl FnOnce(State) -> State) {
        let before = self.state.clone();
        self.state = step(before.clone());
        let State::Open { since: opened, .. } = before else {
            if matches!(self.state, State::Open { .. }) {
                self.window.clear();
            }
            return;
        };
        let is_still_open = matches!(self.state, State::Open { since, .. } if since == opened);
        if !is_still_open {
            self.window.clear();
            // A seal is no flap: an operator ends it, of all upstreams alike.
            if matches!(self.state, State::Sealed { .. }) {
                return;
            }
            let lasted: Duration = self.state.since().since(opened);
            self.flaps =
                if lasted < thresholds.flap_window { self.flaps.saturating_add(1) } else { 0 };
        }
    }
}

/// Whether a cause of being shut is an outage (I11): that nothing answers, not that a key,
/// an account or a load is in the way.
pub(super) fn is_outage(cause: &Cause) -> bool {
    match cause {
        Cause::Silence => true,
        Cause::Failing { fault, .. } => match fault {
            Fault::Unavailable | Fault::Indeterminate => true,
            Fault::Rejected | Fault::Throttled | Fault::KeyUnavailable | Fault::Overloaded => false,
        },
        Cause::Starting | Cause::Slow { .. } | Cause::Unsealed => false,
    }
}

//! One prober in virtual time: the product decides, and a book that is kept apart says whether
//! its canaries came neither too late nor too often.

use std::time::Duration;

use signing_core::evidence::{Evidence, Observation};
use signing_core::gate::State;
use signing_core::monitor::{Probe, Probing};

/// Milliseconds: of the defaults of a configuration that names none.
pub(crate) const PROBE_INTERVAL: u64 = 5_000;
pub(crate) const RECOVERY_INTERVAL: u64 = 500;
pub(crate) const PROBE_TIMEOUT: u64 = 2_000;
/// More often than by default, so that it shows within a schedule.
pub(crate) const KEY_STATE_INTERVAL: u64 = 10_000;

/// For events that are due at the same time, and those on their way.
const SOME: u64 = 10;

/// How the monitor probes in simulations.
pub(crate) fn probe() -> Probe {
    Probe { key_state_interval: Duration::from_millis(KEY_STATE_INTERVAL), ..Probe::default() }
}

/// In whole milliseconds, none too few.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap()
}

#[derive(Default)]
pub(crate) struct Prober {
    pub(crate) probing: Probing,
    /// Which of its sleeps it is in, so that an alarm of an earlier one wakes nobody.
    pub(crate) sleep: u64,
    /// Waits for its upstream, and then for what it learns.
    busy: bool,
    learns: Option<Observation>,
    /// When it last learned something: before it could not begin anything.
    idle_since: u64,
    newest_canary: Option<u64>,
    /// When the newest call of a caller that succeeded began.
    proven: u64,
    /// When the writer heard that the newest canary failed, if it did.
    failed: Option<u64>,
}

impl Prober {
    pub(crate) fn sleeps(&self, sleep: u64) -> bool {
        !self.busy && sleep == self.sleep
    }

    /// The sleep that it falls into, and when it ends by itself.
    pub(crate) fn falls_asleep(&mut self, now: u64, pause: Duration) -> (u64, u64) {
        self.sleep += 1;
        (self.sleep, now + ms(pause))
    }

    /// A canary begins, which must not come too early.
    pub(crate) fn begins(&mut self, state: &State, now: u64) {
        if let Some(newest) = self.newest_canary {
            let earliest = match state {
                State::Open { failures: 0, .. } => {
                    newest.max(self.proven) + PROBE_INTERVAL / 10 * 9
                }
                _ => newest + RECOVERY_INTERVAL,
            };
            assert!(now >= earliest, "a canary at {now}, not due before {earliest}: {state:?}");
        }
        (self.newest_canary, self.failed) = (Some(now), None);
        self.probing.begins(signing_core::Moment::default().after(Duration::from_millis(now)));
    }

    pub(crate) fn asks(&mut self, learns: Option<Observation>) {
        (self.busy, self.learns) = (true, learns);
    }

    pub(crate) fn learned(&mut self, now: u64) -> Option<Observation> {
        (self.busy, self.idle_since) = (false, now);
        self.sleep += 1;
        self.learns.take()
    }

    pub(crate) fn proven(&mut self, started: u64) {
        self.proven = self.proven.max(started);
    }

    pub(crate) fn heard(&mut self, observation: &Observation, now: u64) {
        let newest = self.newest_canary.unwrap_or_default();
        let is_newest = observation.started.as_nanos() == newest * 1_000_000;
        if is_newest && observation.evidence != Evidence::Signed {
            self.failed = Some(now);
        }
    }

    /// A canary is under way, or not yet due.
    pub(crate) fn keeps_its_pace(&self, state: &State, calm_since: u64, now: u64) {
        let newest = self.newest_canary.unwrap_or_default();
        let due = match (state, self.failed) {
            _ if self.busy => return,
            // It hurries once the writer has heard of a canary that failed, unless a call that
            // began later succeeds.
            (State::Open { failures: 1.., .. }, Some(failed)) if failed > self.proven => {
                failed.max(newest + RECOVERY_INTERVAL)
            }
            (State::Open { .. }, _) => newest.max(self.proven) + PROBE_INTERVAL,
            (State::Shut { .. } | State::Probing { .. } | State::Sealed { .. }, _) => {
                let since = state.since().as_nanos() / 1_000_000;
                since.max(newest + RECOVERY_INTERVAL) + ms(signing_core::monitor::FOLD_EVERY)
            }
        };
        let latest = due.max(calm_since).max(self.idle_since) + SOME;
        assert!(now <= latest, "no canary at {now}, due before {latest}: {state:?}");
    }
}

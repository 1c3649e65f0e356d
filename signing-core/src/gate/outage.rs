//! How long a signer has been out: what break-glass waits for, and nobody can start alone
//! (I11).

use std::time::Duration;

use crate::moment::Moment;

/// Time in full outage since the gate was last open. It pauses while something else than an
/// outage is in the way, and only an open gate, or a restart, sets it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutageClock {
    counted: Duration,
    running_since: Option<Moment>,
}

impl OutageClock {
    /// How long by `now`.
    #[must_use]
    pub fn elapsed(&self, now: Moment) -> Duration {
        let running = self.running_since.map_or(Duration::ZERO, |since| now.since(since));
        self.counted.saturating_add(running)
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running_since.is_some()
    }

    /// The gate is open.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// The gate is out; time counts from `from`.
    pub(super) fn run(&mut self, from: Moment) {
        self.running_since.get_or_insert(from);
    }

    /// It is not an outage that is in the way, from `now` on.
    pub(super) fn pause(&mut self, now: Moment) {
        self.counted = self.elapsed(now);
        self.running_since = None;
    }
}

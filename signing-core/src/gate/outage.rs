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
        match self.running_since {
            // A clock that cannot be read is no evidence that an outage has lasted.
            Some(since) if now < Moment::END => self.counted.saturating_add(now.since(since)),
            Some(_) | None => self.counted,
        }
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
        if from < Moment::END {
            self.running_since.get_or_insert(from);
        }
    }

    /// It is not an outage that is in the way, from `now` on.
    pub(super) fn pause(&mut self, now: Moment) {
        self.counted = self.elapsed(now);
        self.running_since = None;
    }
}

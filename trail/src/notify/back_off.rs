//! Waits that double, up to a limit: whoever is down is asked less and less often.

use std::time::Duration;

use host::clock::now;
use signing_core::Moment;

/// The first wait, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// When to try again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackOff {
    next: Duration,
    not_before: Option<Moment>,
}

impl BackOff {
    pub(crate) const fn new() -> Self {
        Self { next: WAITS.0, not_before: None }
    }

    /// Whether it is time.
    pub(crate) fn is_due(&self) -> bool {
        self.not_before.is_none_or(|at| now() >= at)
    }

    /// It failed: not before the wait is over, and not before `at_least`.
    pub(crate) fn failed(&mut self, at_least: Option<Duration>) {
        let wait = self.next.max(at_least.unwrap_or_default());
        self.not_before = Some(now().after(wait));
        self.next = (self.next * 2).min(WAITS.1);
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }
}

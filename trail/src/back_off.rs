//! Waits after failures: each is twice as long as the one before, up to an end.

use std::time::Duration;

/// The first wait after a failure, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// The next wait.
#[derive(Clone, Copy)]
pub(crate) struct BackOff(Duration);

impl BackOff {
    pub(crate) const fn new() -> Self {
        Self(WAITS.0)
    }

    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(WAITS.1);
        wait
    }
}

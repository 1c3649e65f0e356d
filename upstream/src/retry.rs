//! A budget for second attempts, so that a failing upstream is never stormed.

use std::sync::Mutex;
use std::time::Duration;

use signing_core::Moment;

/// At most so many second attempts in any window of one second, over all
/// requests of one upstream.
#[derive(Debug)]
pub(super) struct RetryBudget {
    per_second_max: u32,
    window: Mutex<Window>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    started: Moment,
    spent: u32,
}

impl RetryBudget {
    pub(super) fn new(per_second_max: u32) -> Self {
        Self { per_second_max, window: Mutex::default() }
    }

    /// Whether one more attempt may be made at `now`.
    pub(super) fn spend(&self, now: Moment) -> bool {
        // A panic under this lock can leave nothing half-done in two integers.
        let mut window = self.window.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (next, granted) = window.spend(now, self.per_second_max);
        *window = next;
        granted
    }
}

impl Window {
    fn spend(self, now: Moment, max: u32) -> (Self, bool) {
        let current = if now.since(self.started) >= Duration::from_secs(1) {
            Self { started: now, spent: 0 }
        } else {
            self
        };
        if current.spent < max {
            (Self { spent: current.spent + 1, ..current }, true)
        } else {
            (current, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_gets_no_more_than_the_budget() {
        let budget = RetryBudget::new(3);
        let now = Moment::from_nanos(5_000_000_000);
        let granted = (0..100).filter(|_| budget.spend(now)).count();
        assert_eq!(granted, 3);
        assert!(budget.spend(now.after(Duration::from_secs(1))));
    }

    #[test]
    fn no_budget_means_no_second_attempt() {
        assert!(!RetryBudget::new(0).spend(Moment::from_nanos(1)));
    }
}

//! How much of an upstream's quota is left: calls are shed before the upstream throttles.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use signing_core::Moment;

/// Calls per second, spread evenly: no more than a tenth of a second's worth at once (GCRA,
/// a leaky bucket that holds one number).
#[derive(Debug)]
pub struct Quota {
    /// Between two calls.
    interval_nanos: u64,
    /// How far ahead of time calls may run.
    burst_nanos: u64,
    /// When the next call is due if they were spread evenly, in nanoseconds since boot.
    due: AtomicU64,
}

const BURST: Duration = Duration::from_millis(100);

impl Quota {
    /// A whole quota of `per_second` calls.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let interval_nanos = 1_000_000_000 / u64::from(per_second.max(1));
        let burst = u64::try_from(BURST.as_nanos()).unwrap_or(u64::MAX);
        Self { interval_nanos, burst_nanos: burst.max(interval_nanos), due: AtomicU64::new(0) }
    }

    /// Spends one call; false if none is left at `now`.
    pub fn spend(&self, now: Moment) -> bool {
        self.take(now, self.burst_nanos)
    }

    /// Counts a canary, which is never refused: without it the gate would shut.
    pub fn count(&self, now: Moment) {
        self.take(now, u64::MAX);
    }

    /// The part of the quota that is left, from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio, for a gauge")]
    pub fn headroom(&self, now: Moment) -> f64 {
        let ahead = self.due.load(Ordering::Relaxed).saturating_sub(now.as_nanos());
        (1.0 - ahead as f64 / self.burst_nanos as f64).max(0.0)
    }

    fn take(&self, now: Moment, burst_nanos: u64) -> bool {
        let now = now.as_nanos();
        let next = |due: u64| {
            let next = due.max(now).saturating_add(self.interval_nanos);
            (next.saturating_sub(now) <= burst_nanos).then_some(next)
        };
        self.due.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_calls_than_the_quota_and_the_burst_of_a_tenth() {
        let quota = Quota::new(100);
        let start = Moment::from_nanos(7_000_000_000);
        let calls = |from: u64, millis: u64| {
            let at = |milli| start.after(Duration::from_millis(milli));
            (from..from + millis).map(at).filter(|now| quota.spend(*now)).count()
        };
        assert_eq!(calls(0, 1_000), 109);
        assert_eq!(calls(1_000, 1_000), 100);
        assert_eq!(calls(60_000, 1), 1, "what is not used is not saved up");
    }

    #[test]
    fn canaries_are_counted_and_never_refused() {
        let quota = Quota::new(10);
        let now = Moment::from_nanos(1_000_000_000);
        assert!((quota.headroom(now) - 1.0).abs() < f64::EPSILON);
        (0..20).for_each(|_| quota.count(now));
        assert!(quota.headroom(now) == 0.0 && !quota.spend(now));
    }

    #[test]
    fn a_slow_quota_lets_single_calls_pass() {
        let quota = Quota::new(1);
        let now = Moment::from_nanos(1_000_000_000);
        assert!(quota.spend(now) && !quota.spend(now));
        assert!(quota.spend(now.after(Duration::from_secs(1))));
    }
}

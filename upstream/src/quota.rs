//! How much of an upstream's quota is left: calls are shed before the upstream throttles.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use signing_core::Moment;

/// Calls per second, spread evenly: no more than a tenth of a second's worth at once (GCRA,
/// a leaky bucket that holds one number). It may change at any time.
#[derive(Debug)]
pub struct Quota {
    /// Between two calls; 0: calls are not limited.
    interval_nanos: AtomicU64,
    /// When the next call is due if they were spread evenly, in nanoseconds since boot.
    due: AtomicU64,
}

const BURST: Duration = Duration::from_millis(100);

impl Quota {
    /// A whole quota of `per_second` calls; none: calls are not limited.
    #[must_use]
    pub fn new(per_second: Option<u32>) -> Self {
        let quota = Self { interval_nanos: AtomicU64::new(0), due: AtomicU64::new(0) };
        quota.set(per_second);
        quota
    }

    /// From now on so many calls.
    pub fn set(&self, per_second: Option<u32>) {
        let interval = per_second.map_or(0, |calls| 1_000_000_000 / u64::from(calls.max(1)));
        self.interval_nanos.store(interval, Ordering::Relaxed);
    }

    /// Whether calls are limited at all.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.interval_nanos.load(Ordering::Relaxed) > 0
    }

    /// Spends one call; false if none is left at `now`.
    pub fn spend(&self, now: Moment) -> bool {
        match self.interval_nanos.load(Ordering::Relaxed) {
            0 => true,
            interval => self.take(now, interval, burst_nanos(interval)),
        }
    }

    /// Counts a canary, which is never refused: without it the gate would shut.
    pub fn count(&self, now: Moment) {
        let interval = self.interval_nanos.load(Ordering::Relaxed);
        if interval > 0 {
            self.take(now, interval, u64::MAX);
        }
    }

    /// The part of the quota that is left, from 0 to 1; 1 where calls are not limited.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio, for a gauge")]
    pub fn headroom(&self, now: Moment) -> f64 {
        let interval = self.interval_nanos.load(Ordering::Relaxed);
        if interval == 0 {
            return 1.0;
        }
        let ahead = self.due.load(Ordering::Relaxed).saturating_sub(now.as_nanos());
        (1.0 - ahead as f64 / burst_nanos(interval) as f64).max(0.0)
    }

    fn take(&self, now: Moment, interval_nanos: u64, burst_nanos: u64) -> bool {
        let now = now.as_nanos();
        let next = |due: u64| {
            let next = due.max(now).saturating_add(interval_nanos);
            (next.saturating_sub(now) <= burst_nanos).then_some(next)
        };
        self.due.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
    }
}

/// How far ahead of time calls may run.
fn burst_nanos(interval_nanos: u64) -> u64 {
    u64::try_from(BURST.as_nanos()).unwrap_or(u64::MAX).max(interval_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_calls_than_the_quota_and_the_burst_of_a_tenth() {
        let quota = Quota::new(Some(100));
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
        let quota = Quota::new(Some(10));
        let now = Moment::from_nanos(1_000_000_000);
        assert!((quota.headroom(now) - 1.0).abs() < f64::EPSILON);
        (0..20).for_each(|_| quota.count(now));
        assert!(quota.headroom(now) == 0.0 && !quota.spend(now));
    }

    #[test]
    fn a_slow_quota_lets_single_calls_pass() {
        let quota = Quota::new(Some(1));
        let now = Moment::from_nanos(1_000_000_000);
        assert!(quota.spend(now) && !quota.spend(now));
        assert!(quota.spend(now.after(Duration::from_secs(1))));
    }

    #[test]
    fn a_quota_counts_from_the_call_on_that_sets_it() {
        let quota = Quota::new(None);
        let now = Moment::from_nanos(1_000_000_000);
        assert!((0..1_000).all(|_| quota.spend(now)) && !quota.is_limited());
        assert!((quota.headroom(now) - 1.0).abs() < f64::EPSILON);
        quota.set(Some(1));
        assert!(quota.is_limited() && quota.spend(now) && !quota.spend(now));
        quota.set(None);
        assert!(quota.spend(now));
    }
}

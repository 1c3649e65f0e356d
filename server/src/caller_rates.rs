//! How often each caller may ask: a bucket for each configured caller that has a
//! limit, and none for anybody else, so that no stranger makes it grow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use configuration::Rate;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use host::clock::now;
use signing_core::{Caller, Reason, Refusal};

/// The buckets in force. A reload replaces them.
#[derive(Debug)]
pub struct CallerRates(ArcSwap<BTreeMap<Caller, Arc<Bucket>>>);

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, BootClock, NoOpMiddleware<Duration>>,
}

/// The clock of leases: time asleep counts.
#[derive(Clone, Copy, Debug)]
struct BootClock;

impl Clock for BootClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        // A clock that cannot be read stands at the end of time; sums must not overflow there.
        Duration::from_nanos(now().as_nanos().min(u64::MAX / 2))
    }
}

impl CallerRates {
    /// A full bucket for each.
    #[must_use]
    pub fn new(rates: &BTreeMap<Caller, Rate>) -> Self {
        let full = |(caller, rate): (&Caller, &Rate)| (caller.clone(), Bucket::full(*rate));
        Self(ArcSwap::from_pointee(rates.iter().map(full).collect()))
    }

    /// Puts other rates in force. A caller whose rate stays keeps its bucket as it is: a
    /// reload gives nobody a fresh one.
    pub fn replace(&self, rates: &BTreeMap<Caller, Rate>) {
        let before = self.0.load_full();
        let bucket = |(caller, rate): (&Caller, &Rate)| {
            let kept = before.get(caller).filter(|bucket| bucket.rate == *rate);
            (caller.clone(), kept.map_or_else(|| Bucket::full(*rate), Arc::clone))
        };
        self.0.store(Arc::new(rates.iter().map(bucket).collect()));
    }

    /// Takes one request out of `caller`'s bucket.
    ///
    /// # Errors
    /// `caller_rate_limited` if it is empty. The next one is there within a second.
    pub fn take(&self, caller: &Caller) -> Result<(), Refusal> {
        let buckets = self.0.load();
        match buckets.get(caller) {
            Some(bucket) if bucket.limiter.check().is_err() => {
                let Rate { requests_per_second_max, burst_max } = bucket.rate;
                Err(Refusal::new(
                    Reason::CallerRateLimited,
                    format!(
                        "the caller {caller} may ask {requests_per_second_max} times a second, \
                         and {burst_max} times at once; ask less often, or have \
                         requests_per_second_max of its [[callers]] raised"
                    ),
                ))
            }
            // Without a limit of its own, those that all share.
            Some(_) | None => Ok(()),
        }
    }
}

impl Bucket {
    fn full(rate: Rate) -> Arc<Self> {
        let quota = Quota::per_second(rate.requests_per_second_max).allow_burst(rate.burst_max);
        Arc::new(Self { rate, limiter: RateLimiter::direct_with_clock(quota, BootClock) })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn rates(all: &[(&str, u32, u32)]) -> BTreeMap<Caller, Rate> {
        let rate = |&(name, second, burst): &(&str, u32, u32)| {
            let number = |number| NonZeroU32::new(number).unwrap();
            let rate = Rate { requests_per_second_max: number(second), burst_max: number(burst) };
            (caller(name), rate)
        };
        all.iter().map(rate).collect()
    }

    fn caller(name: &str) -> Caller {
        Caller::parse(name).unwrap()
    }

    fn taken(of: &CallerRates, name: &str, tries: usize) -> usize {
        (0..tries).filter(|_| of.take(&caller(name)).is_ok()).count()
    }

    #[test]
    fn each_caller_has_a_bucket_of_its_own_and_who_has_no_limit_has_none() {
        let all = CallerRates::new(&rates(&[("a.example", 1, 3), ("b.example", 1, 5)]));
        assert_eq!(taken(&all, "a.example", 100), 3);
        assert_eq!(taken(&all, "b.example", 100), 5);
        assert_eq!(taken(&all, "c.example", 100), 100);
        assert_eq!(all.0.load().len(), 2, "nobody made it grow");
    }

    #[test]
    fn a_reload_fills_no_bucket_whose_rate_stays() {
        let all = CallerRates::new(&rates(&[("a.example", 1, 3), ("b.example", 1, 3)]));
        assert_eq!(taken(&all, "a.example", 3) + taken(&all, "b.example", 3), 6);
        all.replace(&rates(&[("a.example", 1, 3), ("b.example", 1, 7), ("c.example", 1, 2)]));
        assert_eq!(taken(&all, "a.example", 100), 0);
        assert_eq!(taken(&all, "b.example", 100), 7);
        assert_eq!(taken(&all, "c.example", 100), 2);
        all.replace(&BTreeMap::new());
        assert_eq!(taken(&all, "a.example", 100), 100);
    }
}

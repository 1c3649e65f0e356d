//! Rates out of counts since the start of the proxy: of the last seconds, and of the last minute.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use signing_core::Moment;
use signing_core::admin::{Activity, RefusedFor, UpstreamCalls};

/// How far back counts are kept.
const KEPT: Duration = Duration::from_secs(60);
/// Over how long a rate per second is taken.
const RATE_OVER: Duration = Duration::from_secs(10);
/// Answers that are kept; asked once a second there are fewer.
const KEPT_MAX: usize = 256;

/// The counts of the last minute, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Rates {
    kept: VecDeque<(Moment, Activity)>,
}

/// What one upstream did in the last minute.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LastMinute {
    pub(super) signed: u64,
    pub(super) failed: u64,
    pub(super) throttled: u64,
}

impl Rates {
    /// Takes an answer in.
    pub(super) fn hear(&mut self, at: Moment, activity: Activity) {
        // A proxy that started anew counts from the beginning.
        if self.kept.back().is_some_and(|(_, before)| is_before(&activity, before)) {
            self.kept.clear();
        }
        self.kept.push_back((at, activity));
        // One answer from before is kept, so that the whole span is covered.
        while self.kept.len() > KEPT_MAX
            || self.kept.get(1).is_some_and(|(second, _)| at.since(*second) >= KEPT)
        {
            self.kept.pop_front();
        }
    }

    /// Signatures and refusals a second; None until two answers were heard.
    pub(super) fn per_second(&self) -> Option<[f64; 2]> {
        let (now, newest) = self.kept.back()?;
        let recent = self.kept.iter().find(|(at, _)| now.since(*at) <= RATE_OVER);
        let (at, before) = recent.filter(|(at, _)| at < now)?;
        let over = now.since(*at).as_secs_f64();
        let rate = |count: fn(&Activity) -> u64| {
            #[expect(clippy::cast_precision_loss, reason = "a rate for a person to read")]
            let more = count(newest).saturating_sub(count(before)) as f64;
            more / over
        };
        Some([rate(|activity| activity.signed), rate(all_refused)])
    }

    /// Refusals of the last minute, the most frequent reason first.
    pub(super) fn refused(&self) -> Vec<RefusedFor> {
        let (Some((_, oldest)), Some((_, newest))) = (self.kept.front(), self.kept.back()) else {
            return Vec::new();
        };
        let before: BTreeMap<_, _> =
            oldest.refused.iter().map(|one| (one.reason.as_str(), one.count)).collect();
        let more = |RefusedFor { reason, count }: &RefusedFor| {
            let count = count.saturating_sub(before.get(reason.as_str()).copied().unwrap_or(0));
            RefusedFor { reason: reason.clone(), count }
        };
        let mut refused: Vec<_> =
            newest.refused.iter().map(more).filter(|one| one.count > 0).collect();
        refused.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
        refused
    }

    /// What each upstream did in the last minute, with what was said of it last.
    pub(super) fn upstreams(&self) -> Vec<(&UpstreamCalls, LastMinute)> {
        let (Some((_, oldest)), Some((_, newest))) = (self.kept.front(), self.kept.back()) else {
            return Vec::new();
        };
        let of = |calls: &'_ UpstreamCalls| {
            let is_same = |other: &&UpstreamCalls| {
                (&other.signer_kid, &other.upstream, &other.region)
                    == (&calls.signer_kid, &calls.upstream, &calls.region)
            };
            let before = oldest.upstreams.iter().find(is_same).cloned().unwrap_or_default();
            LastMinute {
                signed: calls.signed.saturating_sub(before.signed),
                failed: calls.failed.saturating_sub(before.failed),
                throttled: calls.throttled.saturating_sub(before.throttled),
            }
        };
        newest.upstreams.iter().map(|calls| (calls, of(calls))).collect()
    }
}

/// Whether the counts of `this` began after `that` was counted.
fn is_before(this: &Activity, that: &Activity) -> bool {
    let calls = |activity: &Activity| -> u64 {
        activity.upstreams.iter().map(|calls| calls.signed + calls.failed).sum()
    };
    this.signed < that.signed || all_refused(this) < all_refused(that) || calls(this) < calls(that)
}

fn all_refused(activity: &Activity) -> u64 {
    activity.refused.iter().map(|refused| refused.count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_nanos((1_000 + seconds) * 1_000_000_000)
    }

    fn activity(signed: u64, frozen: u64, throttled: u64) -> Activity {
        let refused = RefusedFor { reason: "frozen".to_owned(), count: frozen };
        let calls =
            UpstreamCalls { signed, failed: throttled, throttled, ..UpstreamCalls::default() };
        Activity { signed, refused: vec![refused], upstreams: vec![calls] }
    }

    #[test]
    fn a_rate_is_of_the_last_seconds_and_counts_are_of_the_last_minute() {
        let mut rates = Rates::default();
        assert_eq!(rates.per_second(), None);
        rates.hear(at(0), activity(1_000, 5, 1));
        assert_eq!(rates.per_second(), None, "one answer tells no rate");
        assert!(rates.refused().is_empty(), "what was before this view is not of the last minute");
        for second in 1..=100 {
            rates.hear(at(second), activity(1_000 + 10 * second, 5 + second, 1));
        }
        assert_eq!(rates.per_second(), Some([10.0, 1.0]));
        assert_eq!(rates.refused(), [RefusedFor { reason: "frozen".to_owned(), count: 60 }]);
        let [(_, lately)] = rates.upstreams().try_into().unwrap();
        assert_eq!(lately, LastMinute { signed: 600, failed: 0, throttled: 0 });
    }

    #[test]
    fn a_proxy_that_started_anew_has_no_rate_at_first() {
        let mut rates = Rates::default();
        rates.hear(at(0), activity(1_000, 0, 0));
        rates.hear(at(1), activity(1_010, 0, 0));
        rates.hear(at(2), activity(3, 0, 0));
        assert_eq!(rates.per_second(), None);
        rates.hear(at(3), activity(5, 0, 2));
        assert_eq!(rates.per_second(), Some([2.0, 0.0]));
        let [(_, lately)] = rates.upstreams().try_into().unwrap();
        assert_eq!(lately, LastMinute { signed: 2, failed: 2, throttled: 2 });
    }

    #[test]
    fn however_often_it_hears_little_is_kept() {
        let mut rates = Rates::default();
        for nanos in 0..10_000 {
            rates.hear(Moment::from_nanos(1 + nanos), activity(nanos, 0, 0));
        }
        assert!(rates.kept.len() <= KEPT_MAX);
    }
}

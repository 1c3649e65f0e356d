//! What callers asked for and what upstreams answered, counted since the start: for the status, which a person
//! watches. Prometheus has the same from the metrics. Nothing decides by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use signing_core::admin::{self, RefusedFor, UpstreamCalls};
use signing_core::evidence::{Evidence, Fault};
use signing_core::gate::Place;
use signing_core::{Kid, Moment, Reason};
use upstream::Quota;

/// A signer and its upstreams, with their quotas.
type Upstreams<'s> = (&'s Kid, &'s [(Arc<Place>, Arc<Quota>)]);

/// Counts since the start.
#[derive(Debug)]
pub struct Activity {
    signed: AtomicU64,
    refused: BTreeMap<Reason, AtomicU64>,
    signers: ArcSwap<BTreeMap<Kid, Arc<Vec<Calls>>>>,
}

/// Calls to one upstream.
#[derive(Debug)]
struct Calls {
    place: Arc<Place>,
    quota: Arc<Quota>,
    signed: AtomicU64,
    failed: AtomicU64,
    throttled: AtomicU64,
}

impl Activity {
    /// Of these signers, whose upstreams stand in the order of the configuration.
    #[must_use]
    pub fn new<'s>(signers: impl Iterator<Item = Upstreams<'s>>) -> Self {
        let none = Self {
            signed: AtomicU64::new(0),
            refused: Reason::ALL.iter().map(|reason| (*reason, AtomicU64::new(0))).collect(),
            signers: ArcSwap::default(),
        };
        none.replace(&BTreeSet::new(), signers);
        none
    }

    /// Counts for `new` signers instead of those that are `gone`.
    pub(super) fn replace<'s>(
        &self,
        gone: &BTreeSet<Kid>,
        new: impl Iterator<Item = Upstreams<'s>>,
    ) {
        let calls = |(place, quota): &(Arc<Place>, Arc<Quota>)| Calls {
            place: Arc::clone(place),
            quota: Arc::clone(quota),
            signed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
        };
        let mut signers = BTreeMap::clone(&self.signers.load());
        signers.retain(|kid, _| !gone.contains(kid));
        let of_signer = |(kid, upstreams): Upstreams<'s>| {
            (kid.clone(), Arc::new(upstreams.iter().map(calls).collect()))
        };
        signers.extend(new.map(of_signer));
        self.signers.store(Arc::new(signers));
    }

    /// Counts a signature that left.
    pub fn signed(&self) {
        one_more(&self.signed);
    }

    /// Counts a request that was refused.
    pub fn refused(&self, reason: Reason) {
        if let Some(count) = self.refused.get(&reason) {
            one_more(count);
        }
    }

    /// Counts a call to an upstream.
    pub fn called(&self, kid: &Kid, upstream: usize, evidence: &Evidence) {
        let signers = self.signers.load();
        let signer = signers.get(kid);
        let Some(calls) = signer.and_then(|calls| calls.get(upstream)) else { return };
        match evidence {
            Evidence::Signed => one_more(&calls.signed),
            Evidence::Failed { fault, .. } => {
                one_more(&calls.failed);
                if *fault == Fault::Throttled {
                    one_more(&calls.throttled);
                }
            }
            Evidence::Doubt { .. } => one_more(&calls.failed),
        }
    }

    /// A part of the status at `now`.
    #[must_use]
    pub fn message(&self, now: Moment) -> admin::Activity {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let refused = self.refused.iter().map(|(reason, refused)| RefusedFor {
            reason: reason.word().to_owned(),
            count: count(refused),
        });
        let calls = |kid: &Kid, calls: &Calls| UpstreamCalls {
            signer_kid: kid.to_string(),
            upstream: calls.place.provider.to_string(),
            region: calls.place.region.to_string(),
            signed: count(&calls.signed),
            failed: count(&calls.failed),
            throttled: count(&calls.throttled),
            quota_left_percent: quota_left(&calls.quota, now),
        };
        let signers = self.signers.load();
        let upstreams = signers
            .iter()
            .flat_map(|(kid, upstreams)| upstreams.iter().map(move |one| calls(kid, one)));
        admin::Activity {
            signed: count(&self.signed),
            refused: refused.filter(|refused| refused.count > 0).collect(),
            upstreams: upstreams.collect(),
        }
    }
}

fn quota_left(quota: &Quota, now: Moment) -> Option<u8> {
    quota.is_limited().then(|| percent(quota.headroom(now)))
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is between 0 and 100"
)]
fn percent(part: f64) -> u8 {
    (part.clamp(0.0, 1.0) * 100.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_counts_once_and_a_reason_that_never_was_is_not_there() {
        let kid = Kid::parse("ec").unwrap();
        let place = |region: &str| Arc::new(Place { provider: "aws-kms", region: region.into() });
        let quota = Arc::new(Quota::new(Some(10)));
        let unlimited = Arc::new(Quota::new(None));
        let upstreams =
            [(place("eu-west-1"), Arc::clone(&quota)), (place("eu-north-1"), unlimited)];
        let activity = Activity::new([(&kid, &upstreams[..])].into_iter());
        let failed = |fault| Evidence::Failed { fault, detail: "d".into() };
        activity.called(&kid, 0, &Evidence::Signed);
        activity.called(&kid, 0, &failed(Fault::Throttled));
        activity.called(&kid, 0, &failed(Fault::Unavailable));
        activity.called(&kid, 7, &Evidence::Signed);
        activity.called(&Kid::parse("other").unwrap(), 0, &Evidence::Signed);
        activity.signed();
        activity.refused(Reason::Frozen);
        activity.refused(Reason::Frozen);
        let now = Moment::from_nanos(1_000_000_000);
        quota.count(now);
        let message = activity.message(now);
        assert_eq!(message.signed, 1);
        assert_eq!(message.refused, [RefusedFor { reason: "frozen".to_owned(), count: 2 }]);
        let of = |region: &str, [signed, failed, throttled]: [u64; 3], quota_left_percent| {
            UpstreamCalls {
                signer_kid: "ec".to_owned(),
                upstream: "aws-kms".to_owned(),
                region: region.to_owned(),
                signed,
                failed,
                throttled,
                quota_left_percent,
            }
        };
        let expected = [of("eu-west-1", [1, 2, 1], Some(0)), of("eu-north-1", [0, 0, 0], None)];
        assert_eq!(message.upstreams, expected);
    }
}

//! What callers' requests tell about the upstreams: successes touch atomics, failures are
//! counted, to be told at once, and never dropped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::evidence::{Evidence, Fault, Observation, Source};
use crate::gate::{Tally, Watched};
use crate::key::Kid;
use crate::moment::Moment;

/// Evidence of traffic that the writer has not folded into the gates yet.
#[derive(Debug)]
pub struct Traffic {
    signers: BTreeMap<Kid, Arc<SignerTraffic>>,
    /// A call that took longer is slow; in nanoseconds.
    slow_call: AtomicU64,
}

/// When the writer has to fold in what was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Urgency {
    /// Now.
    AtOnce,
    /// When it folds anyway.
    NextFold,
}

/// What calls to one upstream of a signer came to.
#[derive(Debug)]
pub struct Folded {
    /// Which signer's.
    pub kid: Kid,
    /// Which of its upstreams.
    pub upstream: usize,
    /// In the order in which they are to be observed.
    pub observations: Vec<Observation>,
    /// All calls, one by one.
    pub tally: Tally,
}

/// A signer's upstreams, as they were made for one generation of the configuration.
#[derive(Debug)]
struct SignerTraffic {
    made_in: u64,
    upstreams: Vec<UpstreamTraffic>,
}

#[derive(Debug, Default)]
struct UpstreamTraffic {
    /// When the newest successful call began, in nanoseconds since boot; 0: none.
    newest_success: AtomicU64,
    signed: AtomicU32,
    slow: AtomicU32,
    has_failures: AtomicBool,
    failures: Mutex<Failures>,
}

/// Bounded by the number of faults, however many requests fail.
#[derive(Debug, Default)]
struct Failures {
    /// Since the newest success, by fault.
    in_a_row: BTreeMap<Fault, Observation>,
    doubt: Option<Observation>,
    /// All of them.
    tally: Tally,
}

impl Traffic {
    /// None yet; calls that take longer than `slow_call` are slow.
    pub fn new(signers: impl Iterator<Item = Watched>, slow_call: Duration) -> Self {
        let nothing = Self { signers: BTreeMap::new(), slow_call: AtomicU64::default() };
        nothing.set_slow_call(slow_call);
        nothing.succeeded_by(signers)
    }

    /// The same for these signers. What was reported of upstreams that stay is not lost, also what is
    /// reported meanwhile: both hold it.
    #[must_use]
    pub fn succeeded_by(&self, signers: impl Iterator<Item = Watched>) -> Self {
        let of_signer = |Watched { kid, upstreams, made_in }: Watched| {
            let kept = self.signers.get(&kid).filter(|kept| kept.made_in == made_in);
            let of_signer = kept.map(Arc::clone).unwrap_or_else(|| {
                let upstreams = upstreams.iter().map(|_| UpstreamTraffic::default()).collect();
                Arc::new(SignerTraffic { made_in, upstreams })
            });
            (kid, of_signer)
        };
        let slow_call = AtomicU64::new(self.slow_call.load(Ordering::Relaxed));
        Self { signers: signers.map(of_signer).collect(), slow_call }
    }

    /// From now on calls that take longer than that are slow.
    pub fn set_slow_call(&self, slow_call: Duration) {
        let nanos = u64::try_from(slow_call.as_nanos()).unwrap_or(u64::MAX);
        self.slow_call.store(nanos, Ordering::Relaxed);
    }

    /// Takes what a request saw of an upstream, whose call began at `started` and took
    /// `took`, and says when that is to be folded in.
    pub fn report(
        &self,
        kid: &Kid,
        upstream: usize,
        (started, took): (Moment, Duration),
        at: Moment,
        evidence: Evidence,
    ) -> Urgency {
        let of_upstream = self.signers.get(kid).and_then(|all| all.upstreams.get(upstream));
        let Some(of_upstream) = of_upstream else {
            return Urgency::NextFold;
        };
        let observation = |evidence| {
            let source = Source::Traffic;
            Observation { upstream, source, started, at, count: 1, evidence }
        };
        if !evidence.is_about_the_upstream() {
            return Urgency::NextFold;
        }
        match evidence {
            // A clock that cannot be read says the end of time; that proves nothing.
            Evidence::Signed if started == Moment::END => Urgency::NextFold,
            Evidence::Signed => {
                let is_slow = took.as_nanos() > u128::from(self.slow_call.load(Ordering::Relaxed));
                of_upstream.signed(started, is_slow);
                Urgency::NextFold
            }
            Evidence::Failed { fault, detail } => {
                let mut failures = of_upstream.failures();
                // What the upstream rejects of a caller says nothing about the upstream.
                if fault != Fault::Rejected {
                    failures.tally = failures.tally.and(Tally::one_failed(fault));
                }
                match failures.in_a_row.get_mut(&fault) {
                    Some(folded) => {
                        folded.count = folded.count.saturating_add(1);
                        folded.started = folded.started.max(started);
                        folded.at = folded.at.max(at);
                    }
                    None => {
                        let evidence = Evidence::Failed { fault, detail };
                        failures.in_a_row.insert(fault, observation(evidence));
                    }
                }
                of_upstream.has_failures.store(true, Ordering::Release);
                Urgency::AtOnce
            }
            doubt @ Evidence::Doubt { .. } => {
                of_upstream.failures().doubt.get_or_insert_with(|| observation(doubt));
                of_upstream.has_failures.store(true, Ordering::Release);
                Urgency::AtOnce
            }
        }
    }

    /// When the newest successful call to an upstream of `kid` began.
    #[must_use]
    pub fn newest_success(&self, kid: &Kid, upstream: usize) -> Option<Moment> {
        self.signers.get(kid)?.upstreams.get(upstream)?.newest_success()
    }

    /// Takes what was reported, as observations known at `now`: successes
    /// first, so that a failure reported with them weighs in full.
    pub fn take(&self, now: Moment) -> Vec<Folded> {
        let of_signer = |(kid, of_signer): (&Kid, &Arc<SignerTraffic>)| {
            let folded = of_signer.upstreams.iter().enumerate();
            let folded = folded.map(|(at, of_upstream)| of_upstream.take(kid, at, now));
            folded.collect::<Vec<_>>()
        };
        self.signers.iter().flat_map(of_signer).collect()
    }
}

impl UpstreamTraffic {
    fn signed(&self, started: Moment, is_slow: bool) {
        self.newest_success.fetch_max(started.as_nanos(), Ordering::Release);
        self.signed.fetch_add(1, Ordering::Relaxed);
        if is_slow {
            self.slow.fetch_add(1, Ordering::Relaxed);
        }
        if self.has_failures.load(Ordering::Acquire) {
            // A call that began after a failure was known ends its row. A key that cannot be
            // used is told in any case.
            self.failures()
                .in_a_row
                .retain(|fault, failure| *fault == Fault::KeyUnavailable || failure.at > started);
        }
    }

    fn newest_success(&self) -> Option<Moment> {
        let nanos = self.newest_success.load(Ordering::Acquire);
        (nanos > 0).then(|| Moment::from_nanos(nanos))
    }

    fn take(&self, kid: &Kid, upstream: usize, now: Moment) -> Folded {
        let success = self.newest_success().map(|started| Observation {
            upstream,
            source: Source::Traffic,
            started,
            at: now,
            count: 1,
            evidence: Evidence::Signed,
        });
        let Failures { in_a_row, doubt, tally } = if self.has_failures.load(Ordering::Acquire) {
            let mut failures = self.failures();
            self.has_failures.store(false, Ordering::Release);
            std::mem::take(&mut *failures)
        } else {
            Failures::default()
        };
        let tally = Tally {
            signed: self.signed.swap(0, Ordering::Relaxed),
            slow: self.slow.swap(0, Ordering::Relaxed),
            ..tally
        };
        let observations = success.into_iter().chain(in_a_row.into_values()).chain(doubt);
        let observations = observations.map(|observation| Observation { at: now, ..observation });
        Folded { kid: kid.clone(), upstream, observations: observations.collect(), tally }
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        // A panic under this lock leaves whole entries: maps are changed by whole calls.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

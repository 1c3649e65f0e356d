//! What callers' requests tell about the signers: successes touch one atomic,
//! failures are folded and announced at once, and never dropped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use signing_core::gate::{Evidence, Fault, Observation, Source};
use signing_core::{Kid, Moment};
use tokio::sync::Notify;

/// Evidence of traffic that the writer has not folded into the gates yet.
#[derive(Debug)]
pub struct TrafficEvidence {
    signers: BTreeMap<Kid, OfSigner>,
    failed: Notify,
}

#[derive(Debug, Default)]
struct OfSigner {
    /// When the newest successful call began, in nanoseconds since boot; 0: none.
    newest_success: AtomicU64,
    failures: Mutex<Failures>,
}

/// Bounded by the number of faults, however many requests fail.
#[derive(Debug, Default)]
struct Failures {
    failed: BTreeMap<Fault, Observation>,
    doubt: Option<Observation>,
}

impl TrafficEvidence {
    pub(super) fn new(kids: impl Iterator<Item = Kid>) -> Self {
        Self {
            signers: kids.map(|kid| (kid, OfSigner::default())).collect(),
            failed: Notify::new(),
        }
    }

    /// Reports what a request, whose upstream call began at `started`, saw.
    pub fn report(&self, kid: &Kid, started: Moment, at: Moment, evidence: Evidence) {
        let Some(signer) = self.signers.get(kid) else { return };
        let observation =
            |evidence| Observation { source: Source::Traffic, started, at, count: 1, evidence };
        match evidence {
            // A clock that can not be read says the end of time; that proves nothing.
            Evidence::Signed if started.as_nanos() == u64::MAX => return,
            Evidence::Signed => {
                signer.newest_success.fetch_max(started.as_nanos(), Ordering::Release);
                return;
            }
            Evidence::Failed { fault, detail } => {
                let mut failures = signer.failures();
                match failures.failed.get_mut(&fault) {
                    Some(folded) => {
                        folded.count = folded.count.saturating_add(1);
                        folded.started = folded.started.max(started);
                    }
                    None => {
                        let evidence = Evidence::Failed { fault, detail };
                        failures.failed.insert(fault, observation(evidence));
                    }
                }
            }
            doubt @ Evidence::Doubt { .. } => {
                signer.failures().doubt.get_or_insert_with(|| observation(doubt));
            }
        }
        self.failed.notify_one();
    }

    /// When the newest successful call of `kid` began.
    pub(super) fn newest_success(&self, kid: &Kid) -> Option<Moment> {
        let nanos = self.signers.get(kid)?.newest_success.load(Ordering::Acquire);
        (nanos > 0).then(|| Moment::from_nanos(nanos))
    }

    /// Waits until a failure was reported.
    pub(super) async fn failed(&self) {
        self.failed.notified().await;
    }

    /// Takes what was reported, as observations known at `now`: successes
    /// first, so that a failure reported with them weighs in full.
    pub(super) fn take(&self, now: Moment) -> Vec<(Kid, Observation)> {
        let of_signer = |(kid, signer): (&Kid, &OfSigner)| {
            let success = self.newest_success(kid).map(|started| Observation {
                source: Source::Traffic,
                started,
                at: now,
                count: 1,
                evidence: Evidence::Signed,
            });
            let Failures { failed, doubt } = std::mem::take(&mut *signer.failures());
            let kid = kid.clone();
            success
                .into_iter()
                .chain(failed.into_values())
                .chain(doubt)
                .map(move |observation| (kid.clone(), Observation { at: now, ..observation }))
                .collect::<Vec<_>>()
        };
        self.signers.iter().flat_map(of_signer).collect()
    }
}

impl OfSigner {
    fn failures(&self) -> MutexGuard<'_, Failures> {
        // A panic under this lock leaves whole entries: maps are changed by whole calls.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

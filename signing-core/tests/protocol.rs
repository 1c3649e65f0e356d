//! The protocol of admission and release as a model: many requests in flight, and everything
//! that may happen between the two (I1).
//!
//! The model knows when what was in force, as intervals of time; it never asks the gates what
//! they think. A release is judged by what it says of its moment and of all that lies between
//! the admission and it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use signing_core::evidence::{Evidence, Observation};
use signing_core::gate::{
    AuditStop, Freeze, Gates, Permit, Place, Slots, Snapshot, Thresholds, Watched,
};
use signing_core::policy::Rules;
use signing_core::{Algorithm, Caller, Grant, Kid, Moment, Policy, Reason, Registry, Rulebook};
use time::OffsetDateTime;

use protocol_acts::{Act, Case, cases};

mod protocol_acts;
mod support;

const KIDS: [&str; 2] = ["ledger", "payouts"];
const UPSTREAMS: usize = 2;
const SLOTS: usize = 12;
const START: u64 = 1_000;

/// One request in flight.
struct InFlight {
    permit: Permit,
    signer: usize,
    /// How many stops and gaps of its signer there had been until then.
    stops: u64,
    gaps: u64,
    /// When its caller was told that nothing was released.
    until: Moment,
}

/// What is known of one signer without asking its gates.
#[derive(Default)]
struct Known {
    /// Sealed, by doubt or by an operator's file.
    sealed: bool,
    /// Whatever must end what is in flight: freezes, their ends, seals, journal troubles, and
    /// rulebooks that decide otherwise.
    stops: u64,
    /// How often it was found without evidence: then its gate was surely shut.
    gaps: u64,
    /// Of each upstream: when the newest call that was signed began, and until when that
    /// carries it at most.
    proven_at: [u64; UPSTREAMS],
    proven_until: [u64; UPSTREAMS],
}

struct Model {
    gates: Gates,
    /// What readers see: the newest snapshot.
    snapshot: Snapshot,
    clock: u64,
    slots: Slots,
    grants: Vec<(Grant, u64)>,
    in_flight: Vec<InFlight>,
    frozen: bool,
    audit_stopped: bool,
    generation: u64,
    known: [Known; KIDS.len()],
    lease: u64,
    text: [u64; KIDS.len()],
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    admitted: u32,
    released: u32,
    /// Withheld by each kind of stop.
    withheld: u32,
    old_grants: u32,
    after_a_gap: u32,
    late: u32,
}

impl Model {
    fn new(thresholds: &Thresholds) -> Self {
        let watched = KIDS.map(|name| {
            let place = |at| Arc::new(Place { provider: "aws-kms", region: format!("r-{at}") });
            Watched { kid: kid(name), upstreams: (0..UPSTREAMS).map(place).collect(), made_in: 1 }
        });
        let (registry, policy) = book([0; KIDS.len()]);
        let book = Arc::new(Rulebook::new(registry, policy));
        let gates = Gates::new(thresholds.clone(), watched, book, Moment::from_nanos(START));
        let lease = u64::try_from(thresholds.lease.as_nanos()).unwrap();
        Self {
            snapshot: gates.snapshot(),
            generation: gates.rulebook().generation(),
            gates,
            clock: START,
            slots: Slots::new(SLOTS),
            grants: Vec::new(),
            in_flight: Vec::new(),
            frozen: false,
            audit_stopped: false,
            known: Default::default(),
            lease,
            text: [0; KIDS.len()],
            counts: Counts::default(),
        }
    }

    fn now(&self) -> Moment {
        Moment::from_nanos(self.clock)
    }

    /// Time passes; what nobody proves ends at its own moment, looked at or not.
    fn pass(&mut self, wait: u64) {
        for nanos in self.clock..=self.clock + wait {
            for known in &mut self.known {
                known.gaps += u64::from(known.proven_until.iter().all(|until| *until <= nanos));
            }
        }
        self.clock += wait;
    }

    fn stop_all(&mut self) {
        self.known.iter_mut().for_each(|known| known.stops += 1);
    }

    fn act(&mut self, act: &Act, thresholds: &Thresholds) -> Result<(), TestCaseError> {
        let now = self.now();
        match act {
            Act::Grant { signer } => {
                let at = OffsetDateTime::UNIX_EPOCH;
                let granted = self.gates.rulebook().authorize(
                    &Arc::new(caller()),
                    Some(KIDS[*signer]),
                    None,
                    at,
                );
                self.grants.push((granted.unwrap(), self.generation));
            }
            Act::Admit { pick, deadline } => return self.admit(*pick, *deadline),
            Act::Release { pick } => return self.release(*pick),
            Act::Drop { pick } => {
                if !self.in_flight.is_empty() {
                    let at = pick % self.in_flight.len();
                    drop(self.in_flight.swap_remove(at));
                }
            }
            Act::Heard { signer, upstream, source, took, evidence } => {
                let started = self.clock.saturating_sub(*took);
                let heard = Observation {
                    upstream: *upstream,
                    source: *source,
                    started: Moment::from_nanos(started),
                    at: now,
                    count: 1,
                    evidence: evidence.clone(),
                };
                self.gates.observe(&kid(KIDS[*signer]), &heard);
                let known = &mut self.known[*signer];
                match evidence {
                    Evidence::Signed => {
                        let (at, until) =
                            (&mut known.proven_at[*upstream], &mut known.proven_until[*upstream]);
                        *at = (*at).max(started);
                        *until = (*until).max(started + self.lease);
                    }
                    Evidence::Failed { .. } => {}
                    Evidence::Doubt { .. } => {
                        known.stops += u64::from(!known.sealed);
                        known.sealed = true;
                    }
                }
            }
            Act::Tick => drop(self.gates.tick(now)),
            Act::Freeze => {
                let (reason, by) = ("stop".to_owned(), "uid 1000".to_owned());
                let at = OffsetDateTime::UNIX_EPOCH;
                self.gates.freeze(Freeze { id: None, reason, by, at, since: now });
                self.frozen = true;
                self.stop_all();
            }
            Act::Unfreeze => {
                self.gates.unfreeze();
                self.frozen = false;
            }
            Act::Seal { signer } => {
                self.gates.seal(&kid(KIDS[*signer]), "found on disk", now);
                let known = &mut self.known[*signer];
                known.stops += u64::from(!known.sealed);
                known.sealed = true;
            }
            Act::Unseal { signer } => {
                self.gates.unseal(&kid(KIDS[*signer]), now);
                let known = &mut self.known[*signer];
                if std::mem::take(&mut known.sealed) {
                    // What was proven before is proven no more.
                    known.proven_until = [0; UPSTREAMS];
                    known.gaps += 1;
                }
            }
            Act::AuditStop => {
                let stop = AuditStop { sealed: false, detail: "full".into(), since: now };
                self.gates.set_audit_stop(Some(stop));
                if !std::mem::replace(&mut self.audit_stopped, true) {
                    self.stop_all();
                }
            }
            Act::AuditGoesOn => {
                self.gates.set_audit_stop(None);
                self.audit_stopped = false;
            }
            Act::Reload { touches, lease } => {
                if let Some(signer) = touches {
                    self.text[*signer] += 1;
                    self.known[*signer].stops += 1;
                }
                let (registry, policy) = book(self.text);
                let next = self.gates.rulebook().succeeded_by(registry, policy).unwrap();
                let lease_of = Duration::from_nanos(*lease);
                let thresholds = Thresholds { lease: lease_of, ..thresholds.clone() };
                self.gates.reload(Arc::new(next), thresholds);
                self.gates.tick(now);
                self.generation = self.gates.rulebook().generation();
                for known in &mut self.known {
                    // A shorter lease cuts, a longer one does not lengthen.
                    for (until, at) in known.proven_until.iter_mut().zip(known.proven_at) {
                        *until = (*until).min(at + *lease);
                    }
                }
                self.lease = *lease;
            }
            Act::Drill { signer } => {
                drop(self.gates.set_drill(signer.map(|signer| kid(KIDS[signer])), now));
            }
        }
        self.snapshot = self.gates.snapshot();
        Ok(())
    }

    fn admit(&mut self, pick: usize, deadline: u64) -> Result<(), TestCaseError> {
        if self.grants.is_empty() {
            return Ok(());
        }
        let (grant, generation) = self.grants.swap_remove(pick % self.grants.len());
        let signer = KIDS.iter().position(|name| *name == grant.signer().kid.as_str()).unwrap();
        let taken = self.slots.taken();
        prop_assert_eq!(taken, self.in_flight.len(), "each request in flight has one slot");
        let until = Moment::from_nanos(self.clock + deadline);
        match self.snapshot.admit(grant, &self.slots, self.now(), until) {
            Ok(permit) => {
                self.may_sign(signer)?;
                prop_assert_eq!(generation, self.generation, "a grant of another rulebook");
                prop_assert!(taken < SLOTS && deadline > 0);
                let Known { stops, gaps, .. } = self.known[signer];
                self.in_flight.push(InFlight { permit, signer, stops, gaps, until });
                self.counts.admitted += 1;
            }
            Err(refusal) => {
                let is_old = generation != self.generation;
                self.counts.old_grants += u32::from(is_old);
                let full = refusal.reason == Reason::Overloaded;
                prop_assert!(!full || taken == SLOTS, "{}", refusal);
            }
        }
        Ok(())
    }

    fn release(&mut self, pick: usize) -> Result<(), TestCaseError> {
        if self.in_flight.is_empty() {
            return Ok(());
        }
        let at = pick % self.in_flight.len();
        let InFlight { permit, signer, stops, gaps, until } = self.in_flight.swap_remove(at);
        let is_late = self.now() >= until;
        let is_stopped = stops != self.known[signer].stops;
        let had_gap = gaps != self.known[signer].gaps;
        match self.snapshot.release(permit, self.now()) {
            Ok(still_open) => {
                self.may_sign(signer)?;
                prop_assert!(!is_stopped, "stopped between the admission and the release");
                prop_assert!(!had_gap, "its gate was shut in between");
                prop_assert!(!is_late, "nobody waits any more");
                drop(still_open);
                self.counts.released += 1;
            }
            Err(refusal) => {
                let expected =
                    if is_late { Reason::Indeterminate } else { Reason::GateClosedInFlight };
                prop_assert_eq!(refusal.reason, expected);
                self.counts.late += u32::from(is_late);
                self.counts.withheld += u32::from(is_stopped);
                self.counts.after_a_gap += u32::from(!is_stopped && had_gap);
            }
        }
        Ok(())
    }

    /// What has to hold whenever a gate says yes.
    fn may_sign(&self, signer: usize) -> Result<(), TestCaseError> {
        let known = &self.known[signer];
        prop_assert!(!self.frozen && !self.audit_stopped && !known.sealed);
        let is_proven = known.proven_until.iter().any(|until| self.clock < *until);
        prop_assert!(is_proven, "no signature verified within the lease");
        Ok(())
    }
}

fn kid(name: &str) -> Kid {
    Kid::parse(name).unwrap()
}

fn caller() -> Caller {
    Caller::parse("billing.example").unwrap()
}

/// A rulebook whose entry of each signer has been changed so often.
fn book(changes: [u64; KIDS.len()]) -> (Registry, Policy) {
    let entries = KIDS.iter().zip(changes).zip(1..).map(|((name, changes), seed)| {
        let mut entry = support::entry(name, seed);
        let not_after = format!("2{:03}-01-01T00:00:00Z", 100 + changes % 800);
        entry.as_object_mut().unwrap().insert("notAfter".into(), not_after.into());
        entry
    });
    let entries: Vec<_> = entries.collect();
    let registry = Registry::from_json(&support::signers_json(&entries)).unwrap();
    let granted = KIDS.map(|name| (kid(name), vec![Algorithm::Ed25519Sha512]));
    let rules =
        Rules { signers: BTreeMap::from(granted), default_signer: None, ..Rules::default() };
    (registry, Policy::new(BTreeMap::from([(caller(), rules)]), BTreeMap::new()))
}

fn play((thresholds, acts): &Case) -> Result<Counts, TestCaseError> {
    let mut model = Model::new(thresholds);
    for (wait, act) in acts {
        model.pass(*wait);
        model.act(act, thresholds)?;
    }
    let taken = model.slots.taken();
    prop_assert_eq!(taken, model.in_flight.len());
    model.in_flight.clear();
    prop_assert_eq!(model.slots.taken(), 0, "every slot comes back");
    Ok(model.counts)
}

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(512), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn i1_no_order_of_events_releases_what_was_stopped_shut_sealed_or_of_another_rulebook(
        case in cases()
    ) {
        play(&case)?;
    }
}

/// The model says little of histories in which hardly anything is released or withheld.
#[test]
fn the_random_histories_admit_release_and_withhold() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut sum = Counts::default();
    for _ in 0..512 {
        let counts = play(&cases().new_tree(&mut runner).unwrap().current()).unwrap();
        sum.admitted += counts.admitted;
        sum.released += counts.released;
        sum.withheld += counts.withheld;
        sum.old_grants += counts.old_grants;
        sum.after_a_gap += counts.after_a_gap;
        sum.late += counts.late;
    }
    let enough = sum.admitted > 2_000 && sum.released > 1_000 && sum.withheld > 200;
    assert!(enough && sum.old_grants > 100 && sum.after_a_gap > 50 && sum.late > 50, "{sum:?}");
}

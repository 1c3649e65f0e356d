//! From a grant to the proof that the gate is still open: what admits a
//! request, what withholds its signature, and when its slot comes back (I1).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use signing_core::evidence::{Evidence, Fault, Observation, Source};
use signing_core::gate::{
    Admitted as _, Freeze, Gates, Permit, Slots, StillOpen, Thresholds, WindowLimits,
};
use signing_core::policy::Rules;
use signing_core::{
    Algorithm, Caller, Grant, Kid, Moment, Policy, Reason, Refusal, Registry, Rulebook,
};
use time::OffsetDateTime;

mod support;

const LEASE_MS: u64 = 8_000;
/// How long a request may take, longer than any of these stories.
const PATIENCE_MS: u64 = 600_000;
const SIGNER: &str = "ledger";
const OTHER: &str = "payouts";
/// Registered and granted, but no upstream is configured for it.
const NO_UPSTREAM: &str = "archive";

/// Gates that canaries have just opened, a policy that grants everything, two slots.
struct Proxy {
    gates: Gates,
    slots: Slots,
    now_ms: u64,
}

impl Proxy {
    fn starting() -> Self {
        let kids = [SIGNER, OTHER, NO_UPSTREAM];
        let entries: Vec<_> = kids.iter().zip(1..).map(|(kid, n)| support::entry(kid, n)).collect();
        let granted = kids.map(|name| (kid(name), vec![Algorithm::Ed25519Sha512]));
        let rules = Rules {
            signers: BTreeMap::from(granted),
            default_signer: Some(kid(SIGNER)),
            ..Rules::default()
        };
        let thresholds = Thresholds {
            lease: Duration::from_millis(LEASE_MS),
            failures_to_shut: 3,
            successes_to_open: 2,
            recovery_min: Duration::from_millis(1_000),
            recovery_max: Duration::ZERO,
            flap_window: Duration::ZERO,
            window: WindowLimits { calls_min: u32::MAX, ..WindowLimits::default() },
        };
        let now_ms = 60_000;
        let registry = Registry::from_json(&support::signers_json(&entries)).unwrap();
        let policy = Policy::new(BTreeMap::from([(caller(), rules)]), BTreeMap::new());
        let rulebook = Arc::new(Rulebook::new(registry, policy));
        Self {
            gates: Gates::new(thresholds, [kid(SIGNER), kid(OTHER)], rulebook, moment(now_ms)),
            slots: Slots::new(2),
            now_ms,
        }
    }

    fn open() -> Self {
        let mut proxy = Self::starting();
        proxy.canaries(SIGNER);
        proxy.canaries(OTHER);
        proxy
    }

    fn canaries(&mut self, name: &str) {
        for _ in 0..2 {
            self.now_ms += 1_000;
            self.hear(name, Source::Canary, Evidence::Signed);
        }
    }

    fn hear(&mut self, name: &str, source: Source, evidence: Evidence) {
        let at = moment(self.now_ms);
        let observation = Observation { upstream: 0, source, started: at, at, count: 1, evidence };
        self.gates.observe(&kid(name), &observation);
    }

    fn shut(&mut self, name: &str) {
        let fault = Fault::KeyUnavailable;
        self.hear(name, Source::Traffic, Evidence::Failed { fault, detail: "disabled".into() });
    }

    fn freeze(&mut self) {
        let (reason, by) = ("drill".to_owned(), "uid 1000".to_owned());
        let since = moment(self.now_ms);
        self.gates.freeze(Freeze { id: None, reason, by, at: OffsetDateTime::UNIX_EPOCH, since });
    }

    fn grant(&self, named: Option<&str>) -> Grant {
        let now = OffsetDateTime::UNIX_EPOCH;
        self.gates.rulebook().authorize(&Arc::new(caller()), named, None, now).unwrap()
    }

    fn admit_by(&self, deadline_ms: u64) -> Result<Permit, Refusal> {
        let (now, deadline) = (moment(self.now_ms), moment(deadline_ms));
        self.gates.snapshot().admit(self.grant(None), &self.slots, now, deadline)
    }

    fn admit(&self) -> Result<Permit, Refusal> {
        self.admit_by(self.now_ms + PATIENCE_MS)
    }

    fn release(&self, permit: Permit) -> Result<StillOpen, Refusal> {
        self.gates.snapshot().release(permit, moment(self.now_ms))
    }
}

fn kid(name: &str) -> Kid {
    Kid::parse(name).unwrap()
}

fn caller() -> Caller {
    Caller::parse("billing.example").unwrap()
}

fn moment(ms: u64) -> Moment {
    Moment::default().after(Duration::from_millis(ms))
}

fn doubt() -> Evidence {
    Evidence::Doubt { detail: "a signature does not verify".into() }
}

/// Nothing but a withheld signature looks like this, and its slot is free again.
fn assert_withheld(proxy: &Proxy, released: Result<StillOpen, Refusal>) {
    let refusal = released.unwrap_err();
    assert_eq!(refusal.reason, Reason::GateClosedInFlight, "{refusal}");
    assert_eq!(refusal.signer_kid, Some(kid(SIGNER)));
    assert_eq!(proxy.slots.taken(), 0);
}

fn assert_refused(proxy: &Proxy, admitted: Result<Permit, Refusal>, reason: Reason) {
    let refusal = admitted.unwrap_err();
    assert_eq!(refusal.reason, reason, "{refusal}");
    assert_eq!(refusal.signer_kid, Some(kid(SIGNER)));
    assert_eq!(proxy.slots.taken(), 0);
}

#[test]
fn i1_a_granted_request_walks_from_its_grant_to_the_open_gate() {
    let proxy = Proxy::open();
    let permit = proxy.admit().unwrap();
    assert_eq!(permit.grant().caller(), &caller());
    assert_eq!(permit.deadline(), moment(proxy.now_ms + PATIENCE_MS));
    let still_open = proxy.release(permit).unwrap();
    assert_eq!(still_open.grant().signer().kid, kid(SIGNER));
    assert_eq!(still_open.grant().algorithm(), Algorithm::Ed25519Sha512);
}

#[test]
fn i1_a_renewed_lease_releases_what_was_admitted_before() {
    for source in [Source::Canary, Source::Traffic] {
        let mut proxy = Proxy::open();
        let permit = proxy.admit().unwrap();
        for _ in 0..3 {
            proxy.now_ms += LEASE_MS / 2;
            proxy.hear(SIGNER, source, Evidence::Signed);
            proxy.gates.tick(moment(proxy.now_ms));
        }
        assert!(proxy.release(permit).is_ok());
    }
}

#[test]
fn i1_fewer_failures_than_shut_the_gate_withhold_nothing() {
    let mut proxy = Proxy::open();
    let permit = proxy.admit().unwrap();
    for fault in [Fault::Throttled, Fault::Indeterminate] {
        proxy.hear(SIGNER, Source::Traffic, Evidence::Failed { fault, detail: "x".into() });
    }
    assert!(proxy.release(permit).is_ok());
}

#[test]
fn i1_what_happens_to_another_signer_withholds_nothing() {
    let mut proxy = Proxy::open();
    let permit = proxy.admit().unwrap();
    proxy.shut(OTHER);
    proxy.canaries(OTHER);
    proxy.hear(OTHER, Source::Canary, doubt());
    assert!(proxy.release(permit).is_ok());
}

#[test]
fn i1_a_freeze_withholds_the_signature() {
    let mut proxy = Proxy::open();
    let permit = proxy.admit().unwrap();
    proxy.freeze();
    assert_withheld(&proxy, proxy.release(permit));
}

#[test]
fn i1_a_freeze_that_ended_in_between_withholds_the_signature() {
    let mut proxy = Proxy::open();
    let permit = proxy.admit().unwrap();
    proxy.freeze();
    proxy.gates.unfreeze();
    assert!(proxy.admit().is_ok());
    assert_withheld(&proxy, proxy.release(permit));
}

#[test]
fn i1_a_gate_that_shut_and_opened_again_in_between_withholds_the_signature() {
    let mut proxy = Proxy::open();
    let permit = proxy.admit().unwrap();
    proxy.shut(SIGNER);
    proxy.canaries(SIGNER);
    assert!(proxy.admit().is_ok());
    assert_withheld(&proxy, proxy.release(permit));
}

#[test]
fn i1_failures_that_shut_the_gate_withhold_the_signature() {
    let mut proxy = Proxy::open();
    let permit = proxy.admit().unwrap();
    for _ in 0..3 {
        let fault = Fault::Unavailable;
        proxy.hear(SIGNER, Source::Canary, Evidence::Failed { fault, detail: "x".into() });
    }
    assert_withheld(&proxy, proxy.release(permit));
}

#[test]
fn i2_a_lease_that_ended_withholds_the_signature_with_nobody_watching() {
    let mut proxy = Proxy::open();
    let snapshot = proxy.gates.snapshot();
    let permits = [proxy.admit().unwrap(), proxy.admit().unwrap()];
    // The canaries of the other signer were the newest; this one's are 2 s older.
    let lease_over_ms = proxy.now_ms - 2_000 + LEASE_MS;
    let [in_time, late] = permits;
    assert!(snapshot.release(in_time, moment(lease_over_ms - 1)).is_ok());
    assert_withheld(&proxy, snapshot.release(late, moment(lease_over_ms)));
    proxy.now_ms = lease_over_ms;
    assert_refused(&proxy, proxy.admit(), Reason::UpstreamUnhealthy);
}

#[test]
fn i2_a_lease_that_ended_and_a_gate_that_opened_again_withhold_the_signature() {
    let mut proxy = Proxy::open();
    let permit = proxy.admit().unwrap();
    proxy.now_ms += LEASE_MS;
    proxy.canaries(SIGNER);
    assert!(proxy.admit().is_ok());
    assert_withheld(&proxy, proxy.release(permit));
}

#[test]
fn i10_a_seal_withholds_the_signature() {
    let mut proxy = Proxy::open();
    let permit = proxy.admit().unwrap();
    proxy.hear(SIGNER, Source::Traffic, doubt());
    assert_withheld(&proxy, proxy.release(permit));
}

#[test]
fn i10_a_seal_that_an_operator_ended_in_between_withholds_the_signature() {
    let mut proxy = Proxy::open();
    let permit = proxy.admit().unwrap();
    proxy.gates.seal(&kid(SIGNER), "found on disk", moment(proxy.now_ms));
    proxy.gates.unseal(&kid(SIGNER), moment(proxy.now_ms));
    proxy.canaries(SIGNER);
    assert!(proxy.admit().is_ok());
    assert_withheld(&proxy, proxy.release(permit));
}

#[test]
fn i2_nothing_is_admitted_before_the_first_canaries() {
    let mut proxy = Proxy::starting();
    assert_refused(&proxy, proxy.admit(), Reason::Starting);
    proxy.hear(SIGNER, Source::Canary, Evidence::Signed);
    assert_refused(&proxy, proxy.admit(), Reason::Starting);
    proxy.hear(SIGNER, Source::Traffic, Evidence::Signed);
    assert_refused(&proxy, proxy.admit(), Reason::Starting);
}

#[test]
fn a_gate_that_is_not_open_says_why_and_takes_no_slot() {
    let mut proxy = Proxy::open();
    proxy.shut(SIGNER);
    assert_refused(&proxy, proxy.admit(), Reason::KeyUnavailable);
    proxy.hear(SIGNER, Source::Canary, doubt());
    assert_refused(&proxy, proxy.admit(), Reason::Sealed);
    proxy.freeze();
    assert_refused(&proxy, proxy.admit(), Reason::Frozen);
}

#[test]
fn a_refusal_says_for_how_long_it_has_been_so() {
    let mut proxy = Proxy::open();
    proxy.freeze();
    proxy.now_ms += 3_900;
    assert_eq!(proxy.admit().unwrap_err().age, Some(Duration::from_millis(3_900)));
}

#[test]
fn a_signer_without_an_upstream_is_not_available() {
    let proxy = Proxy::open();
    let (grant, now) = (proxy.grant(Some(NO_UPSTREAM)), moment(proxy.now_ms));
    let admitted = proxy.gates.snapshot().admit(grant, &proxy.slots, now, moment(u64::MAX));
    assert_eq!(admitted.unwrap_err().reason, Reason::KeyUnavailable);
    assert_eq!(proxy.slots.taken(), 0);
}

#[test]
fn i8_who_finds_no_slot_is_refused_at_once() {
    let proxy = Proxy::open();
    let held = [proxy.admit().unwrap(), proxy.admit().unwrap()];
    let refusal = proxy.admit().unwrap_err();
    assert_eq!(refusal.reason, Reason::Overloaded, "{refusal}");
    assert_eq!(proxy.slots.taken(), held.len());
}

#[test]
fn i8_a_permit_that_is_dropped_gives_its_slot_back() {
    let proxy = Proxy::open();
    let [first, second] = [proxy.admit().unwrap(), proxy.admit().unwrap()];
    drop(first);
    let third = proxy.admit().unwrap();
    assert_eq!(proxy.slots.taken(), 2);
    drop([second, third]);
    assert_eq!(proxy.slots.taken(), 0);
}

#[test]
fn i8_a_released_request_keeps_its_slot_until_it_is_answered() {
    let proxy = Proxy::open();
    let answered = proxy.release(proxy.admit().unwrap()).unwrap();
    let given_up = proxy.release(proxy.admit().unwrap()).unwrap();
    assert_eq!(proxy.slots.taken(), 2);
    let slot = answered.into_slot();
    assert_eq!(proxy.slots.taken(), 2);
    drop(slot);
    assert_eq!(proxy.slots.taken(), 1);
    drop(given_up);
    assert_eq!(proxy.slots.taken(), 0);
}

#[test]
fn what_nobody_waits_for_any_more_is_withheld() {
    let mut proxy = Proxy::open();
    for (waits_ms, leaves) in [(2, true), (1, false)] {
        let permit = proxy.admit_by(proxy.now_ms + waits_ms).unwrap();
        proxy.now_ms += 1;
        match proxy.release(permit) {
            Ok(_) => assert!(leaves),
            Err(refusal) => assert!(!leaves && refusal.reason == Reason::Indeterminate),
        }
    }
}

#[test]
fn i8_a_request_whose_deadline_has_passed_is_refused_and_takes_no_slot() {
    let proxy = Proxy::open();
    for deadline_ms in [0, proxy.now_ms - 1, proxy.now_ms] {
        assert_refused(&proxy, proxy.admit_by(deadline_ms), Reason::DeadlineExceeded);
    }
    assert!(proxy.admit_by(proxy.now_ms + 1).is_ok());
}

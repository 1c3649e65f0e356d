//! A break-glass session as the gates see it: what it admits, what it lets leave, and what
//! its beginning and its end withhold (I1, I5, I12).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use signing_core::evidence::{Evidence, Observation, Source};
use signing_core::gate::{
    Admitted as _, Armed, AuditStop, EmergencyPermit, Freeze, Gates, Permit, Slots, StillOpen,
    Thresholds, WindowLimits,
};
use signing_core::policy::Rules;
use signing_core::{
    Algorithm, Caller, FreezeId, Grant, Kid, Moment, Policy, Reason, Refusal, Registry, Rulebook,
};
use time::OffsetDateTime;

mod begin;
mod freeze;
mod property;
#[path = "../support/request.rs"]
mod request;
mod rsa;
#[path = "../support/mod.rs"]
mod support;

/// Replaced by the session.
/// How long a request may take, longer than any of these stories.
const PATIENCE_MS: u64 = 100_000_000;
const SIGNER: &str = "ledger";
/// Not replaced.
const OTHER: &str = "payouts";
const EMERGENCY: &str = "emergency";
/// Named by the session.
const CALLER: &str = "billing.example";
/// Granted the same, and not named.
const STRANGER: &str = "reports.example";
const LEASE_MS: u64 = 60_000;
/// The freeze that approvers saw.
const FREEZE: FreezeId = FreezeId::new([1; 16]);
/// One that they did not see.
const OTHER_FREEZE: FreezeId = FreezeId::new([2; 16]);

struct Proxy {
    gates: Gates,
    slots: Slots,
    now_ms: u64,
    wall: OffsetDateTime,
}

/// Those under which nothing happens to a gate by itself.
fn thresholds() -> Thresholds {
    Thresholds {
        lease: Duration::from_secs(1_000_000),
        failures_to_shut: 3,
        successes_to_open: 1,
        recovery_min: Duration::ZERO,
        recovery_max: Duration::ZERO,
        flap_window: Duration::ZERO,
        window: WindowLimits { calls_min: u32::MAX, ..WindowLimits::default() },
    }
}

impl Proxy {
    /// Every gate is open; nothing is armed.
    fn new() -> Self {
        Self::of(&entries(), policy(&[]))
    }

    fn of(entries: &[Value], policy: Policy) -> Self {
        let rulebook = Arc::new(Rulebook::new(registry(entries), policy));
        let now_ms = 1_000;
        let gates = Gates::new(thresholds(), [kid(SIGNER), kid(OTHER)], rulebook, moment(now_ms));
        let wall = OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
        let mut proxy = Self { gates, slots: Slots::new(64), now_ms, wall };
        for name in [SIGNER, OTHER] {
            proxy.now_ms += 1;
            let at = moment(proxy.now_ms);
            let (source, evidence) = (Source::Canary, Evidence::Signed);
            let seen = Observation { upstream: 0, source, started: at, at, count: 1, evidence };
            proxy.gates.observe(&kid(name), &seen);
        }
        proxy
    }

    fn armed() -> Self {
        let mut proxy = Self::new();
        proxy.arm("INC-1").unwrap();
        proxy
    }

    fn arm(&mut self, session: &str) -> Result<(), String> {
        self.arm_under(session, None)
    }

    fn arm_under(&mut self, session: &str, under_freeze: Option<FreezeId>) -> Result<(), String> {
        let registry = self.gates.rulebook().registry();
        let armed = Armed {
            session: session.to_owned(),
            incident: "INC".to_owned(),
            justification: "KMS is down".to_owned(),
            signer: Arc::clone(registry.get(EMERGENCY).unwrap()),
            replaces: BTreeSet::from([kid(SIGNER)]),
            callers: BTreeSet::from([caller(CALLER)]),
            under_freeze,
            since: moment(self.now_ms),
            lease_until: moment(self.now_ms + LEASE_MS),
            expires_at: self.wall + Duration::from_millis(LEASE_MS),
        };
        self.gates.arm(armed)
    }

    fn freeze(&mut self) {
        self.freeze_as(None);
    }

    /// The session that ends by it.
    fn freeze_as(&mut self, id: Option<FreezeId>) -> Option<Arc<Armed>> {
        let (reason, by, since) = ("stop".to_owned(), "uid 0".to_owned(), moment(self.now_ms));
        self.gates.freeze(Freeze { id, reason, by, at: self.wall, since })
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.wall += Duration::from_millis(ms);
    }

    fn reload(&mut self, entries: &[Value], aliases: &[(&str, &str)]) {
        let rulebook = self.gates.rulebook();
        let next = rulebook.succeeded_by(registry(entries), policy(aliases)).unwrap();
        self.gates.reload(Arc::new(next), thresholds());
    }

    fn grant(&self, name: &str, signer: &str) -> Grant {
        let caller = Arc::new(caller(name));
        self.gates.rulebook().authorize(&caller, Some(signer), None, self.wall).unwrap()
    }

    fn ask(
        &self,
        caller: &str,
        signer: &str,
        algorithm: Option<Algorithm>,
    ) -> Result<EmergencyPermit, Refusal> {
        let (now, due) = (moment(self.now_ms), moment(self.now_ms + PATIENCE_MS));
        let grant = self.grant(caller, signer);
        self.gates.snapshot().admit_emergency(grant, algorithm, &self.slots, (now, self.wall), due)
    }

    fn permit(&self) -> EmergencyPermit {
        self.ask(CALLER, SIGNER, None).unwrap()
    }

    fn refuses(&self, reason: Reason) {
        assert_eq!(self.ask(CALLER, SIGNER, None).unwrap_err().reason, reason);
    }

    fn admit(&self, signer: &str) -> Result<Permit, Refusal> {
        let (now, due) = (moment(self.now_ms), moment(self.now_ms + PATIENCE_MS));
        self.gates.snapshot().admit(self.grant(CALLER, signer), &self.slots, now, due)
    }

    fn release(&self, permit: impl signing_core::gate::Admitted) -> Result<StillOpen, Refusal> {
        permit.release(&self.gates.snapshot(), moment(self.now_ms), self.wall)
    }

    fn withholds(&self, permit: impl signing_core::gate::Admitted) {
        assert_eq!(self.release(permit).unwrap_err().reason, Reason::GateClosedInFlight);
    }
}

fn entries() -> Vec<Value> {
    let mut emergency = support::entry(EMERGENCY, 9);
    emergency["purpose"] = "breakglass".into();
    vec![support::entry(SIGNER, 1), support::entry(OTHER, 2), emergency]
}

fn registry(entries: &[Value]) -> Registry {
    Registry::from_json(&support::signers_json(entries)).unwrap()
}

fn policy(aliases: &[(&str, &str)]) -> Policy {
    let rules = || {
        let granted = [SIGNER, OTHER].map(|name| (kid(name), vec![Algorithm::Ed25519Sha512]));
        Rules {
            signers: BTreeMap::from(granted),
            default_signer: Some(kid(SIGNER)),
            ..Rules::default()
        }
    };
    let callers = [CALLER, STRANGER].map(|name| (caller(name), rules()));
    let aliases = aliases.iter().map(|(alias, name)| ((*alias).to_owned(), kid(name)));
    Policy::new(BTreeMap::from(callers), aliases.collect())
}

fn kid(name: &str) -> Kid {
    Kid::parse(name).unwrap()
}

fn caller(name: &str) -> Caller {
    Caller::parse(name).unwrap()
}

fn moment(ms: u64) -> Moment {
    Moment::default().after(Duration::from_millis(ms))
}

#[test]
fn i1_what_a_session_admits_is_of_the_emergency_key_and_says_so_when_it_leaves() {
    let proxy = Proxy::armed();
    let permit = proxy.permit();
    assert_eq!(permit.signer().kid.as_str(), EMERGENCY);
    assert_eq!(permit.grant().signer().kid.as_str(), SIGNER);
    let released = proxy.release(permit).unwrap();
    assert_eq!(released.session().unwrap().session, "INC-1");
    assert!(proxy.release(proxy.admit(OTHER).unwrap()).unwrap().session().is_none());
}

#[test]
fn i5_a_session_is_for_its_callers_its_signers_and_its_algorithm() {
    let proxy = Proxy::armed();
    let out = |asked: Result<EmergencyPermit, Refusal>| {
        let refusal = asked.unwrap_err();
        assert_eq!(refusal.reason, Reason::BreakglassOutOfScope, "{refusal}");
    };
    out(proxy.ask(STRANGER, SIGNER, None));
    out(proxy.ask(CALLER, OTHER, None));
    out(proxy.ask(CALLER, SIGNER, Some(Algorithm::EcdsaSha256)));
    assert!(proxy.ask(CALLER, SIGNER, Some(Algorithm::Ed25519Sha512)).is_ok());
    assert!(proxy.ask(CALLER, SIGNER, None).is_ok());
    out(Proxy::new().ask(CALLER, SIGNER, None));
}

#[test]
fn i1_a_normal_permit_of_a_replaced_signer_is_withheld_once_a_session_begins_or_ends() {
    let mut proxy = Proxy::new();
    let (before, other) = (proxy.admit(SIGNER).unwrap(), proxy.admit(OTHER).unwrap());
    proxy.arm("INC-1").unwrap();
    proxy.withholds(before);
    proxy.release(other).unwrap();
    let (during, other) = (proxy.admit(SIGNER).unwrap(), proxy.admit(OTHER).unwrap());
    proxy.gates.disarm().unwrap();
    proxy.withholds(during);
    proxy.release(other).unwrap();
}

#[test]
fn i12_nothing_leaves_of_a_session_that_ended_even_if_one_of_the_same_name_follows() {
    let mut proxy = Proxy::armed();
    let (one, two) = (proxy.permit(), proxy.permit());
    proxy.gates.disarm().unwrap();
    proxy.withholds(one);
    proxy.arm("INC-1").unwrap();
    proxy.withholds(two);
    proxy.release(proxy.permit()).unwrap();
}

#[test]
fn i12_a_session_ends_by_either_clock() {
    let mut by_boot_time = Proxy::armed();
    let permit = by_boot_time.permit();
    by_boot_time.now_ms += LEASE_MS - 1;
    assert!(by_boot_time.ask(CALLER, SIGNER, None).is_ok());
    by_boot_time.now_ms += 1;
    by_boot_time.refuses(Reason::BreakglassOutOfScope);
    by_boot_time.withholds(permit);

    let mut by_calendar = Proxy::armed();
    let permit = by_calendar.permit();
    by_calendar.wall += Duration::from_millis(LEASE_MS - 1);
    assert!(by_calendar.ask(CALLER, SIGNER, None).is_ok());
    by_calendar.wall += Duration::from_millis(1);
    by_calendar.refuses(Reason::BreakglassOutOfScope);
    by_calendar.withholds(permit);
    // Setting the calendar back brings nothing to leave once the keeper has ended it.
    by_calendar.gates.disarm().unwrap();
    by_calendar.wall -= Duration::from_secs(3_600);
    by_calendar.refuses(Reason::BreakglassOutOfScope);
}

#[test]
fn i5_a_freeze_beats_a_session() {
    let mut proxy = Proxy::armed();
    let permit = proxy.permit();
    proxy.freeze();
    proxy.refuses(Reason::Frozen);
    proxy.withholds(permit);
    // And an unfreeze does not let go what was admitted before.
    let mut proxy = Proxy::armed();
    let permit = proxy.permit();
    proxy.freeze();
    proxy.gates.unfreeze().unwrap();
    proxy.withholds(permit);
    proxy.release(proxy.permit()).unwrap();
    proxy.gates.disarm().unwrap();
    proxy.freeze();
    assert!(proxy.arm("INC-2").unwrap_err().contains("unfreeze"));
}

#[test]
fn i6_a_journal_that_records_nothing_stops_a_session() {
    let mut proxy = Proxy::armed();
    let permit = proxy.permit();
    let stop = AuditStop { sealed: false, detail: "full".into(), since: moment(proxy.now_ms) };
    proxy.gates.set_audit_stop(Some(stop));
    proxy.refuses(Reason::AuditUnavailable);
    proxy.withholds(permit);
}

#[test]
fn i12_one_session_at_a_time_and_none_is_extended() {
    let mut proxy = Proxy::armed();
    let until = proxy.gates.session().unwrap().lease_until;
    proxy.pass(1_000);
    for session in ["INC-1", "INC-2"] {
        assert!(proxy.arm(session).unwrap_err().contains("INC-1"), "{session}");
    }
    assert_eq!(proxy.gates.session().unwrap().lease_until, until);
}

#[test]
fn i5_a_reload_that_touches_the_session_withholds_and_one_that_does_not_does_not() {
    for (what, touches) in
        [("nothing", false), ("other", false), ("replaced", true), ("emergency", true)]
    {
        let mut proxy = Proxy::armed();
        let permit = proxy.permit();
        let mut next = entries();
        match what {
            "other" => next[1]["notAfter"] = "2999-01-01T00:00:00Z".into(),
            "replaced" => next[0]["notAfter"] = "2999-01-01T00:00:00Z".into(),
            "emergency" => next[2]["notAfter"] = "2999-01-01T00:00:00Z".into(),
            _ => {}
        }
        proxy.reload(&next, &[]);
        assert_eq!(proxy.release(permit).is_err(), touches, "{what}");
        proxy.release(proxy.permit()).unwrap();
    }
}

#[test]
fn i12_a_key_that_the_registry_revokes_or_forgets_signs_nothing_more() {
    let mut revoked = entries();
    revoked[2]["revokedAt"] = "2020-01-01T00:00:00Z".into();
    let forgotten = entries()[..2].to_vec();
    let mut ended = entries();
    ended[2]["notAfter"] = "2020-01-01T00:00:00Z".into();
    for next in [revoked, forgotten, ended] {
        let mut proxy = Proxy::armed();
        let permit = proxy.permit();
        proxy.reload(&next, &[]);
        proxy.refuses(Reason::KeyUnavailable);
        proxy.withholds(permit);
    }
}

#[test]
fn i12_a_quota_that_is_used_up_admits_nothing_and_lets_its_last_signatures_leave_for_a_moment() {
    let mut proxy = Proxy::armed();
    let (one, two, three) = (proxy.permit(), proxy.permit(), proxy.permit());
    assert!(proxy.gates.spend(moment(proxy.now_ms + 2_000)).is_some());
    assert!(proxy.gates.spend(moment(proxy.now_ms + 9_000)).is_none(), "it ended once");
    assert!(proxy.gates.disarm().is_none(), "and is recorded once");
    proxy.refuses(Reason::BreakglassQuotaExhausted);
    assert!(proxy.gates.snapshot().armed(moment(proxy.now_ms), proxy.wall).is_none());
    proxy.release(one).unwrap();
    proxy.pass(2_000);
    proxy.withholds(two);
    proxy.refuses(Reason::BreakglassOutOfScope);
    proxy.arm("INC-2").unwrap();
    proxy.withholds(three);
    // A freeze beats it too.
    let mut proxy = Proxy::armed();
    let permit = proxy.permit();
    proxy.gates.spend(moment(proxy.now_ms + 2_000));
    proxy.freeze();
    proxy.gates.unfreeze();
    proxy.withholds(permit);
}

#[test]
fn i8_a_session_has_no_slots_of_its_own_and_no_patience() {
    let mut proxy = Proxy::armed();
    let permits: Vec<_> = (0..64).map(|_| proxy.permit()).collect();
    proxy.refuses(Reason::Overloaded);
    drop(permits);
    proxy.permit();
    let (now, wall) = (moment(proxy.now_ms), proxy.wall);
    let grant = proxy.grant(CALLER, SIGNER);
    let late = proxy.gates.snapshot().admit_emergency(grant, None, &proxy.slots, (now, wall), now);
    assert_eq!(late.unwrap_err().reason, Reason::DeadlineExceeded);
    // A grant of the rulebook before.
    let grant = proxy.grant(CALLER, SIGNER);
    proxy.reload(&entries(), &[("main", SIGNER)]);
    let due = moment(proxy.now_ms + 1);
    let stale = proxy.gates.snapshot().admit_emergency(grant, None, &proxy.slots, (now, wall), due);
    assert_eq!(stale.unwrap_err().reason, Reason::GateClosedInFlight);
}

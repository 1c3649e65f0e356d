//! What a reload may change, whom it touches, and what happens to those who are
//! in between (I1).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use signing_core::evidence::{Evidence, Fault, Observation, Source};
use signing_core::gate::{Gates, Slots, State, Thresholds, Watched, WindowLimits};
use signing_core::policy::Rules;
use signing_core::{Algorithm, Caller, Kid, Moment, Policy, Reason, Registry, Rulebook};
use time::OffsetDateTime;

use support::{entry, signers_json};

mod support;

const KIDS: [&str; 3] = ["ledger", "payouts", "archive"];
const CALLERS: [&str; 2] = ["one", "two"];
const ALIASES: [&str; 2] = ["main", "spare"];

/// What a rulebook is made of, small enough to draw at random.
#[derive(Clone, Debug, PartialEq)]
struct Text {
    entries: Vec<Value>,
    callers: Vec<(&'static str, Vec<&'static str>, Option<&'static str>)>,
    aliases: Vec<(&'static str, &'static str)>,
    /// Callers who were granted no algorithm with their signers.
    without_algorithm: Vec<&'static str>,
}

impl Text {
    fn usual() -> Self {
        Self {
            entries: KIDS.iter().zip(1..).map(|(kid, seed)| entry(kid, seed)).collect(),
            callers: vec![
                ("one", vec!["ledger", "payouts"], Some("ledger")),
                ("two", vec!["payouts"], None),
            ],
            aliases: vec![("main", "ledger")],
            without_algorithm: vec![],
        }
    }

    fn registry(&self) -> Registry {
        Registry::from_json(&signers_json(&self.entries)).unwrap()
    }

    fn policy(&self) -> Policy {
        let callers = self.callers.iter().map(|(name, kids, default)| {
            let algorithms = match self.without_algorithm.contains(name) {
                true => vec![],
                false => vec![Algorithm::Ed25519Sha512],
            };
            let signers = kids.iter().map(|name| (kid(name), algorithms.clone()));
            let rules = Rules {
                signers: signers.collect(),
                default_signer: default.map(kid),
                ..Rules::default()
            };
            (caller(name), rules)
        });
        let aliases = self.aliases.iter().map(|(alias, name)| ((*alias).to_owned(), kid(name)));
        Policy::new(callers.collect(), aliases.collect())
    }

    fn rulebook(&self) -> Rulebook {
        Rulebook::new(self.registry(), self.policy())
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

fn kid(name: &str) -> Kid {
    Kid::parse(name).unwrap()
}

fn caller(name: &str) -> Caller {
    Caller::parse(name).unwrap()
}

fn set(entries: &mut [Value], name: &str, key: &str, value: &str) {
    let entry = entries.iter_mut().find(|entry| entry.get("signer_kid") == Some(&json!(name)));
    entry.unwrap().as_object_mut().unwrap().insert(key.to_owned(), json!(value));
}

fn touched(change: impl FnOnce(&mut Text)) -> Vec<String> {
    let (before, after) = (Text::usual(), Text::usual().with(change));
    let touched = before.rulebook().touched_by(&after.rulebook());
    assert_eq!(touched, after.rulebook().touched_by(&before.rulebook()), "in both directions");
    touched.iter().map(ToString::to_string).collect()
}

#[test]
fn a_reload_touches_the_signers_about_which_it_decides_otherwise_and_no_others() {
    let none: [&str; 0] = [];
    assert_eq!(touched(|_| {}), none);
    assert_eq!(touched(|text| set(&mut text.entries, "ledger", "description", "words")), none);
    assert_eq!(
        touched(|text| set(&mut text.entries, "ledger", "revokedAt", "2026-01-01T00:00:00Z")),
        ["ledger"]
    );
    assert_eq!(
        touched(|text| set(&mut text.entries, "archive", "notAfter", "2036-01-01T00:00:00Z")),
        ["archive"]
    );
    assert_eq!(touched(|text| set(&mut text.entries, "archive", "purpose", "audit")), ["archive"]);
    assert_eq!(touched(|text| text.callers.truncate(1)), ["payouts"]);
    assert_eq!(touched(|text| text.without_algorithm.push("two")), ["payouts"]);
    assert_eq!(touched(|text| text.callers.clear()), ["ledger", "payouts"]);
    assert_eq!(touched(|text| text.callers.push(("three", vec!["archive"], None))), ["archive"]);
    assert_eq!(touched(|text| text.aliases.push(("spare", "payouts"))), ["payouts"]);
    assert_eq!(touched(|text| text.aliases = vec![("main", "payouts")]), ["ledger", "payouts"]);
    let other_default = |text: &mut Text| {
        text.callers = vec![
            ("one", vec!["ledger", "payouts"], Some("payouts")),
            ("two", vec!["payouts"], None),
        ];
    };
    assert_eq!(touched(other_default), ["ledger", "payouts"]);
    let new = |text: &mut Text| text.entries.push(entry("new", 9));
    assert_eq!(touched(new), ["new"]);
}

#[test]
fn a_kid_keeps_its_key_even_if_it_was_gone_for_a_while() {
    let first = Text::usual().rulebook();
    let other_key =
        Text::usual().with(|text| text.entries = vec![entry("ledger", 7), entry("payouts", 2)]);
    let mistakes = first.succeeded_by(other_key.registry(), other_key.policy()).unwrap_err();
    let only: [String; 1] = mistakes.try_into().unwrap();
    assert!(
        only.iter().all(|mistake| mistake.contains("\"ledger\"") && mistake.contains("new kid")),
        "{only:?}"
    );

    let without = Text::usual().with(|text| {
        text.entries.retain(|entry| entry.get("signer_kid") != Some(&json!("archive")))
    });
    let second = first.succeeded_by(without.registry(), without.policy()).unwrap();
    assert_eq!((first.generation(), second.generation()), (1, 2));
    let other_key = without.clone().with(|text| text.entries.push(entry("archive", 8)));
    assert!(second.succeeded_by(other_key.registry(), other_key.policy()).is_err());
    let third = second.succeeded_by(without.registry(), without.policy()).unwrap();
    assert!(
        third.succeeded_by(other_key.registry(), other_key.policy()).is_err(),
        "two reloads later too"
    );
    let same_key = Text::usual();
    assert_eq!(third.succeeded_by(same_key.registry(), same_key.policy()).unwrap().generation(), 4);
}

#[test]
fn a_kid_keeps_its_mode_even_if_it_was_gone_for_a_while() {
    let batch = Text::usual().with(|text| set(&mut text.entries, "payouts", "mode", "batch"));
    let without = Text::usual().with(|text| drop(text.entries.remove(1)));
    for (before, after) in [(Text::usual(), batch.clone()), (batch, Text::usual())] {
        let first = before.rulebook();
        let mistakes = first.succeeded_by(after.registry(), after.policy()).unwrap_err();
        assert!(mistakes[0].contains("\"payouts\": its mode would change"), "{mistakes:?}");
        let second = first.succeeded_by(without.registry(), without.policy()).unwrap();
        assert!(second.succeeded_by(after.registry(), after.policy()).is_err());
        assert!(second.succeeded_by(before.registry(), before.policy()).is_ok());
    }
}

#[test]
fn the_same_key_registered_for_another_algorithm_is_another_key() {
    // An RSA key may be registered for any of six algorithms; a verifier reads which.
    let rsa = |algorithm: &str| {
        let mut entry = json!({"signer_kid": "rsa", "algorithm": algorithm});
        entry.as_object_mut().unwrap().insert("public_key_pem".into(), json!(RSA_PEM));
        Text { entries: vec![entry], callers: vec![], aliases: vec![], without_algorithm: vec![] }
    };
    let (pkcs1, pss) = (rsa("rsa-sha256"), rsa("rsa-pss-sha256"));
    assert!(pkcs1.rulebook().succeeded_by(pss.registry(), pss.policy()).is_err());
    assert!(pkcs1.rulebook().succeeded_by(pkcs1.registry(), pkcs1.policy()).is_ok());
}

/// An RSA-2048 public key, made by `openssl genrsa`, whose private key is gone.
const RSA_PEM: &str = include_str!("rsa_2048_public.pem");

/// Two signers with open gates.
struct House {
    gates: Gates,
    slots: Slots,
}

const LEASE: Duration = Duration::from_secs(8);

fn thresholds(lease: Duration) -> Thresholds {
    Thresholds {
        lease,
        failures_to_shut: 3,
        successes_to_open: 1,
        recovery_min: Duration::ZERO,
        recovery_max: Duration::ZERO,
        flap_window: Duration::ZERO,
        window: WindowLimits { calls_min: u32::MAX, ..WindowLimits::default() },
    }
}

fn at(seconds: u64) -> Moment {
    Moment::default().after(Duration::from_secs(seconds))
}

impl House {
    fn new() -> Self {
        let rulebook = Arc::new(Text::usual().rulebook());
        let kids = ["ledger", "payouts"].map(kid);
        let mut gates = Gates::new(thresholds(LEASE), kids.clone(), rulebook, at(100));
        for kid in kids {
            let evidence = Evidence::Signed;
            let heard = Observation {
                upstream: 0,
                source: Source::Canary,
                started: at(100),
                at: at(100),
                count: 1,
                evidence,
            };
            gates.observe(&kid, &heard);
        }
        Self { gates, slots: Slots::new(9) }
    }

    fn reload(&mut self, text: &Text, lease: Duration) -> BTreeSet<Kid> {
        let next = self.gates.rulebook().succeeded_by(text.registry(), text.policy()).unwrap();
        self.gates.reload(Arc::new(next), thresholds(lease))
    }

    fn grant(&self, who: &str, named: &str) -> signing_core::Grant {
        let caller = Arc::new(caller(who));
        self.gates
            .rulebook()
            .authorize(&caller, Some(named), None, OffsetDateTime::UNIX_EPOCH)
            .unwrap()
    }

    fn admit(&self, grant: signing_core::Grant) -> Result<signing_core::gate::Permit, Reason> {
        let admitted = self.gates.snapshot().admit(grant, &self.slots, at(101), at(105));
        admitted.map_err(|refusal| refusal.reason)
    }
}

#[test]
fn i1_what_was_admitted_before_a_reload_leaves_only_if_its_signer_was_not_touched() {
    let mut house = House::new();
    let touched = house.admit(house.grant("one", "payouts")).unwrap();
    let untouched = house.admit(house.grant("one", "ledger")).unwrap();
    let without_two = Text::usual().with(|text| text.callers.truncate(1));
    assert_eq!(house.reload(&without_two, LEASE), BTreeSet::from([kid("payouts")]));
    let gates = house.gates.snapshot();
    assert_eq!(gates.release(touched, at(102)).unwrap_err().reason, Reason::GateClosedInFlight);
    assert!(gates.release(untouched, at(102)).is_ok());
    assert!(house.admit(house.grant("one", "payouts")).is_ok(), "and new ones are admitted");
}

#[test]
fn i1_a_grant_of_an_earlier_rulebook_admits_nothing() {
    let mut house = House::new();
    // Even of a signer that the reload does not touch.
    let old = house.grant("one", "ledger");
    house.reload(&Text::usual(), LEASE);
    assert_eq!(house.admit(old).unwrap_err(), Reason::GateClosedInFlight);
    assert_eq!(house.slots.taken(), 0);
}

#[test]
fn i2_a_shorter_lease_counts_at_once_and_a_longer_one_from_the_next_evidence() {
    // The newest success began at 100: a lease counts from there, whenever it changes.
    let lease_until = |house: &House| match house.gates.state(&kid("ledger")).unwrap() {
        State::Open { lease_until, .. } => *lease_until,
        other => unreachable!("{other:?}"),
    };
    let hear_again = |house: &mut House, started: u64| {
        let (source, evidence) = (Source::Traffic, Evidence::Signed);
        let heard = Observation {
            upstream: 0,
            source,
            started: at(started),
            at: at(102),
            count: 1,
            evidence,
        };
        house.gates.observe(&kid("ledger"), &heard);
    };
    for (lease_s, ends_at) in [(3, 103), (60, 108)] {
        let mut house = House::new();
        assert!(house.reload(&Text::usual(), Duration::from_secs(lease_s)).is_empty());
        assert_eq!(lease_until(&house), at(ends_at));
        // What was known already is folded in again and again; it is no new evidence.
        hear_again(&mut house, 100);
        hear_again(&mut house, 99);
        assert_eq!(lease_until(&house), at(ends_at));
        hear_again(&mut house, 101);
        assert_eq!(lease_until(&house), at(101 + lease_s));
    }
}

#[test]
fn i2_a_reload_opens_no_gate() {
    let rulebook = Arc::new(Text::usual().rulebook());
    let mut gates = Gates::new(thresholds(LEASE), [kid("ledger")], Arc::clone(&rulebook), at(1));
    let before = gates.state(&kid("ledger")).cloned();
    let next = rulebook.succeeded_by(Text::usual().registry(), Text::usual().policy()).unwrap();
    gates.reload(Arc::new(next), thresholds(Duration::from_secs(600)));
    assert_eq!(gates.state(&kid("ledger")).cloned(), before);
}

/// A signer with upstreams that were made for that generation.
fn watched(name: &str, made_in: u64) -> Watched {
    Watched { made_in, ..Watched::from(kid(name)) }
}

fn hear(gates: &mut Gates, name: &str, evidence: Evidence, seconds: u64) {
    let (source, started, at) = (Source::Canary, at(seconds), at(seconds));
    let heard = Observation { upstream: 0, source, started, at, count: 1, evidence };
    gates.observe(&kid(name), &heard);
}

#[test]
fn i1_what_was_admitted_by_upstreams_that_are_gone_does_not_leave() {
    let mut house = House::new();
    let gone = house.admit(house.grant("one", "ledger")).unwrap();
    let changed = house.admit(house.grant("one", "payouts")).unwrap();
    let both = BTreeSet::from([kid("ledger"), kid("payouts")]);
    let shut = house.gates.replace(&both, [watched("payouts", 2)], at(101));
    // That of the one that is gone is no gate any more.
    assert_eq!(
        shut.iter().map(|(kid, from)| (kid.as_str(), from.word())).collect::<Vec<_>>(),
        [("payouts", "open")]
    );
    // Its gate is shut, and open again by the canary of another upstream.
    assert_eq!(house.admit(house.grant("one", "payouts")).unwrap_err(), Reason::Starting);
    hear(&mut house.gates, "payouts", Evidence::Signed, 102);
    let gates = house.gates.snapshot();
    for permit in [gone, changed] {
        assert_eq!(gates.release(permit, at(103)).unwrap_err().reason, Reason::GateClosedInFlight);
    }
    assert!(house.admit(house.grant("one", "payouts")).is_ok());
    assert_eq!(house.admit(house.grant("one", "ledger")).unwrap_err(), Reason::KeyUnavailable);
    assert!(!house.gates.is_watched(&kid("ledger"), 1));
    assert!(
        house.gates.is_watched(&kid("payouts"), 2) && !house.gates.is_watched(&kid("payouts"), 1)
    );
}

#[test]
fn i2_a_signer_that_comes_back_starts_shut_and_the_others_stay_open() {
    let mut house = House::new();
    let untouched = house.admit(house.grant("one", "payouts")).unwrap();
    house.gates.replace(&BTreeSet::from([kid("ledger")]), [], at(101));
    house.gates.replace(&BTreeSet::new(), [watched("ledger", 3)], at(102));
    assert_eq!(house.admit(house.grant("one", "ledger")).unwrap_err(), Reason::Starting);
    assert!(house.gates.snapshot().release(untouched, at(103)).is_ok());
    // What began before proves nothing about it.
    hear(&mut house.gates, "ledger", Evidence::Signed, 101);
    assert_eq!(house.admit(house.grant("one", "ledger")).unwrap_err(), Reason::Starting);
}

#[test]
fn i11_other_upstreams_neither_reset_nor_run_the_outage_clock() {
    let mut house = House::new();
    let elapsed = |gates: &Gates, seconds: u64| {
        gates.snapshot().gate(&kid("ledger")).unwrap().outage.elapsed(at(seconds))
    };
    let fails = || Evidence::Failed { fault: Fault::Unavailable, detail: "down".to_owned() };
    for seconds in 101..=104 {
        hear(&mut house.gates, "ledger", fails(), seconds);
    }
    let began = elapsed(&house.gates, 110);
    assert!(began > Duration::ZERO);
    house.gates.replace(&BTreeSet::from([kid("ledger")]), [watched("ledger", 2)], at(110));
    assert_eq!(elapsed(&house.gates, 200), began, "nobody knows yet whether it is out");
    for seconds in 201..=204 {
        hear(&mut house.gates, "ledger", fails(), seconds);
    }
    assert!(elapsed(&house.gates, 210) > began);
    hear(&mut house.gates, "ledger", Evidence::Signed, 211);
    assert_eq!(elapsed(&house.gates, 220), Duration::ZERO, "only an open gate sets it back");
}

fn any_text() -> impl Strategy<Value = Text> {
    let dates = proptest::collection::vec(0..4_u8, KIDS.len());
    let grants = proptest::collection::vec(proptest::bits::u8::between(0, 3), CALLERS.len());
    let defaults = proptest::collection::vec(0..5_usize, CALLERS.len());
    let aliases = proptest::collection::vec(0..5_usize, ALIASES.len());
    let denied = proptest::option::of(0..CALLERS.len());
    (dates, grants, defaults, aliases, denied).prop_map(
        |(dates, grants, defaults, aliases, denied)| {
            let without_algorithm = denied.map(|name| CALLERS[name]).into_iter().collect();
            let mut text =
                Text { entries: vec![], callers: vec![], aliases: vec![], without_algorithm };
            for ((name, seed), date) in KIDS.iter().zip(1..).zip(dates) {
                text.entries.push(entry(name, seed));
                match date {
                    0 => set(&mut text.entries, name, "revokedAt", "1960-01-01T00:00:00Z"),
                    1 => set(&mut text.entries, name, "notAfter", "1960-01-01T00:00:00Z"),
                    _ => {}
                }
            }
            for ((name, grants), default) in CALLERS.iter().zip(grants).zip(defaults) {
                let kids = KIDS.iter().zip([1, 2, 4]).filter(|(_, bit)| grants & bit != 0);
                let kids: Vec<_> = kids.map(|(name, _)| *name).collect();
                text.callers.push((name, kids, KIDS.get(default).copied()));
            }
            for (alias, target) in ALIASES.iter().zip(aliases) {
                text.aliases.extend(KIDS.get(target).map(|target| (*alias, *target)));
            }
            text
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The oracle knows nothing of standings: it asks both rulebooks everything
    /// that can be asked, and compares the answers.
    #[test]
    fn i1_whatever_is_decided_otherwise_is_touched(before in any_text(), after in any_text()) {
        let (old, new) = (before.rulebook(), after.rulebook());
        let touched = old.touched_by(&new);
        let names = KIDS.iter().chain(&ALIASES).copied().map(Some).chain([None]);
        for (who, named) in names.flat_map(|named| CALLERS.map(|who| (who, named))) {
            let ask = |rulebook: &Rulebook| {
                let decided = rulebook.authorize(&Arc::new(caller(who)), named, None, OffsetDateTime::UNIX_EPOCH);
                decided.map(|grant| grant.signer().kid.clone()).map_err(|refusal| refusal.reason)
            };
            let (then, now) = (ask(&old), ask(&new));
            if then != now {
                for granted in then.iter().chain(&now) {
                    prop_assert!(touched.contains(granted), "{who} {named:?}: {then:?}, {now:?}; touched {touched:?}");
                }
            }
        }
        if before == after {
            prop_assert!(touched.is_empty());
        }
    }
}

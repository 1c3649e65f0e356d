//! The policy denies by default and grants only what it says, in the words of
//! the closed enum of refusals (I1, I4).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use signing_core::policy::Rules;
use signing_core::{Algorithm, Caller, Grant, Kid, Policy, Reason, Refusal, Registry, Rulebook};
use time::OffsetDateTime;

use support::{entry, signers_json};

mod support;

const ED25519: Algorithm = Algorithm::Ed25519Sha512;
const ECDSA: Algorithm = Algorithm::EcdsaSha256;

/// Callers and what they were granted, against one registry.
struct House {
    rulebook: Rulebook,
}

impl House {
    fn new() -> Self {
        let special = |kid: &str, seed, key: &str, value: &str| {
            let mut entry = entry(kid, seed);
            entry.as_object_mut().unwrap().insert(key.into(), json!(value));
            entry
        };
        let signers = [
            entry("ledger", 1),
            entry("payouts", 2),
            special("emergency", 3, "purpose", "breakglass"),
            special("records", 4, "purpose", "audit"),
            special("revoked", 5, "revokedAt", "1960-01-01T00:00:00Z"),
            special("ended", 6, "notAfter", "1970-01-01T00:00:00Z"),
        ];
        let everything = ["ledger", "payouts", "emergency", "records", "revoked", "ended"];
        let callers = [
            rules("one", &["ledger"], None),
            rules("two", &["ledger", "payouts"], None),
            rules("default", &["ledger", "payouts"], Some("payouts")),
            rules("default-not-granted", &["ledger"], Some("payouts")),
            rules("nothing", &[], None),
            rules("everything", &everything, Some("emergency")),
            rules("ghost", &["not-registered"], None),
        ];
        let aliases = [("main", "ledger"), ("spare", "emergency"), ("gone", "not-registered")];
        let aliases = aliases.map(|(alias, name)| (alias.to_owned(), kid(name)));
        let registry = Registry::from_json(&signers_json(&signers)).unwrap();
        let policy = Policy::new(BTreeMap::from(callers), BTreeMap::from(aliases));
        Self { rulebook: Rulebook::new(registry, policy) }
    }

    fn ask(&self, who: &str, named: Option<&str>, algorithm: Option<Algorithm>) -> Answer {
        let (caller, now) = (Arc::new(caller(who)), OffsetDateTime::UNIX_EPOCH);
        Answer(self.rulebook.authorize(&caller, named, algorithm, now))
    }
}

struct Answer(Result<Grant, Refusal>);

impl Answer {
    /// Asserts a grant of `name`'s key.
    fn grants(self, name: &str) {
        let grant = self.0.unwrap();
        assert_eq!(grant.signer().kid.as_str(), name);
        assert_eq!(grant.algorithm(), grant.signer().algorithm());
    }

    /// Asserts a refusal for `reason`.
    fn refuses(self, reason: Reason) -> Refusal {
        let refusal = self.0.unwrap_err();
        assert_eq!(refusal.reason, reason, "{refusal}");
        refusal
    }
}

fn rules(name: &str, granted: &[&str], default: Option<&str>) -> (Caller, Rules) {
    let signers = granted.iter().map(|name| (kid(name), vec![ED25519])).collect();
    (caller(name), Rules { signers, default_signer: default.map(kid), ..Rules::default() })
}

fn caller(name: &str) -> Caller {
    Caller::parse(&format!("spiffe://prod.example/{name}")).unwrap()
}

fn kid(name: &str) -> Kid {
    Kid::parse(name).unwrap()
}

#[test]
fn i1_a_caller_that_the_policy_does_not_name_is_granted_nothing() {
    let house = House::new();
    for named in [None, Some("ledger"), Some("main"), Some("not-registered")] {
        house.ask("stranger", named, None).refuses(Reason::CallerNotAuthorized);
    }
    let nobody = Rulebook::new(house.rulebook.registry().clone(), Policy::default());
    let caller = Arc::new(caller("one"));
    let now = OffsetDateTime::UNIX_EPOCH;
    let refusal = nobody.authorize(&caller, Some("ledger"), None, now);
    assert_eq!(refusal.unwrap_err().reason, Reason::CallerNotAuthorized);
}

#[test]
fn i1_names_alike_are_other_callers() {
    let house = House::new();
    for name in ["one/more", "One", "on"] {
        house.ask(name, Some("ledger"), None).refuses(Reason::CallerNotAuthorized);
    }
}

#[test]
fn i1_a_signer_that_was_not_granted_is_refused() {
    let house = House::new();
    let refusal = house.ask("one", Some("payouts"), None).refuses(Reason::CallerNotAuthorized);
    assert_eq!(refusal.signer_kid, Some(kid("payouts")));
}

#[test]
fn a_grant_names_caller_signer_and_algorithm() {
    let grant = House::new().ask("one", Some("ledger"), Some(ED25519)).0.unwrap();
    assert_eq!(grant.caller(), &caller("one"));
    assert_eq!(grant.signer().kid, kid("ledger"));
    assert_eq!(grant.algorithm(), ED25519);
}

#[test]
fn who_names_no_signer_gets_its_default() {
    House::new().ask("default", None, None).grants("payouts");
}

#[test]
fn who_names_no_signer_gets_its_only_grant() {
    House::new().ask("one", None, None).grants("ledger");
}

#[test]
fn who_names_no_signer_and_has_several_or_none_has_to_name_one() {
    let house = House::new();
    house.ask("two", None, None).refuses(Reason::InvalidRequest);
    house.ask("nothing", None, None).refuses(Reason::InvalidRequest);
}

#[test]
fn who_names_a_signer_gets_that_one_and_not_its_default() {
    House::new().ask("default", Some("ledger"), None).grants("ledger");
}

#[test]
fn i1_a_default_is_no_grant() {
    House::new().ask("default-not-granted", None, None).refuses(Reason::CallerNotAuthorized);
}

#[test]
fn an_alias_is_another_name_and_no_grant() {
    let house = House::new();
    house.ask("two", Some("main"), None).grants("ledger");
    house.ask("nothing", Some("main"), None).refuses(Reason::CallerNotAuthorized);
    house.ask("one", Some("gone"), None).refuses(Reason::SignerUnknown);
}

#[test]
fn a_signer_that_is_not_registered_is_unknown_even_if_granted() {
    let house = House::new();
    for name in ["no-such", "Ledger", "ledger ", "", "led\0ger", &"k".repeat(4_000)] {
        let refusal = house.ask("one", Some(name), None).refuses(Reason::SignerUnknown);
        assert!(refusal.detail.len() < 1_000);
    }
    house.ask("ghost", None, None).refuses(Reason::SignerUnknown);
}

#[test]
fn another_algorithm_than_the_signers_is_not_supported() {
    House::new().ask("one", Some("ledger"), Some(ECDSA)).refuses(Reason::AlgorithmNotSupported);
}

#[test]
fn i1_an_algorithm_that_was_not_granted_is_refused_named_or_not() {
    let House { rulebook } = House::new();
    for granted in [vec![], vec![ECDSA]] {
        let rules = Rules {
            signers: BTreeMap::from([(kid("ledger"), granted)]),
            default_signer: None,
            ..Rules::default()
        };
        let policy = Policy::new(BTreeMap::from([(caller("one"), rules)]), BTreeMap::new());
        let house = House { rulebook: Rulebook::new(rulebook.registry().clone(), policy) };
        for named in [None, Some(ED25519)] {
            house.ask("one", None, named).refuses(Reason::AlgorithmNotAllowed);
        }
    }
}

#[test]
fn i4_emergency_and_audit_keys_are_never_granted() {
    let house = House::new();
    // By name, by alias, and as the default: as if they were not there.
    for named in [Some("emergency"), Some("records"), Some("spare"), None] {
        house.ask("everything", named, None).refuses(Reason::SignerUnknown);
    }
}

#[test]
fn revoked_and_ended_signers_are_not_available() {
    let house = House::new();
    for name in ["revoked", "ended"] {
        let refusal = house.ask("everything", Some(name), None).refuses(Reason::KeyUnavailable);
        assert_eq!(refusal.signer_kid, Some(kid(name)));
    }
    house.ask("one", Some("revoked"), None).refuses(Reason::CallerNotAuthorized);
}

#[test]
fn what_is_public_is_found_for_everyone_by_name() {
    let House { rulebook } = House::new();
    let find = |who: &str, named| {
        let found = rulebook.find(&caller(who), named);
        found.map(|signer| signer.kid.to_string()).map_err(|refusal| refusal.reason)
    };
    assert_eq!(find("stranger", Some("main")), Ok("ledger".into()));
    assert_eq!(find("stranger", Some("emergency")), Ok("emergency".into()));
    assert_eq!(find("stranger", None), Err(Reason::InvalidRequest));
    assert_eq!(find("default", None), Ok("payouts".into()));
    assert_eq!(find("two", Some("no-such")), Err(Reason::SignerUnknown));
}

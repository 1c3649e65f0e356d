//! Each condition fails by what alone breaks it, and by nothing else.

use std::collections::BTreeSet;

use serde_json::json;
use signing_core::Registry;
use signing_core::admin::FreezeInForce;
use signing_core::admin::breakglass::RefusedSigner;
use signing_core::breakglass::wire::KeyState;
use time::{Duration, OffsetDateTime};

use super::super::examples::{self, entry};
use super::super::review::sources::Who;
use super::conditions::{Condition, Evidence, judge};
use super::words;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

/// A registry whose emergency key ends after so many days.
fn registry(days: Option<i64>) -> Registry {
    let mut emergency = entry("e", "breakglass", 1);
    if let Some(days) = days {
        let end = (now() + Duration::days(days)).unix_timestamp();
        let end = OffsetDateTime::from_unix_timestamp(end).unwrap();
        emergency["notAfter"] =
            end.format(&time::format_description::well_known::Rfc3339).unwrap().into();
    }
    let signers = [emergency, entry("payments", "signing", 2)];
    Registry::from_json(&json!({ "signers": signers }).to_string()).unwrap()
}

fn who((settings, approvers): (approvers::Settings, approvers::Approvers)) -> Who {
    Who { deployment: "d".to_owned(), settings, approvers }
}

/// Everything is as it has to be.
fn ready() -> Evidence {
    let registry = registry(Some(90));
    let sha256 = registry.get("e").unwrap().public_key.sha256_hex();
    let mut known = examples::known();
    known.emergency_keys_registered = [("e".to_owned(), sha256.clone())].into();
    let signer = known.signer.as_mut().unwrap();
    signer.keys[0].sha256 = sha256;
    let who = who(examples::approvers());
    signer.approvers_sha256 = who.approvers.sha256().to_owned();
    let signer = signer.clone();
    Evidence {
        proxy: Ok(known),
        signer: Ok(signer),
        clocks: vec![("the proxy".to_owned(), Ok(now() + Duration::minutes(1)), now())],
        copies: vec![("copy.json".to_owned(), Ok(registry.clone()))],
        registry: Ok(registry),
        who: Ok(who),
        opened: Some([("e".to_owned(), Ok(()))].into()),
        disks: vec![("journal".into(), Ok(1 << 40))],
        now: now(),
    }
}

fn failed(evidence: &Evidence) -> Vec<&'static str> {
    let conditions = judge(evidence);
    let failed = conditions.iter().filter(|condition| condition.is_met == Some(false));
    failed.map(|condition| condition.word).collect()
}

fn freeze(of_fleet: bool, is_named: bool) -> FreezeInForce {
    FreezeInForce {
        id: is_named.then(|| signing_core::FreezeId::new([1; 16])),
        reason: "why".to_owned(),
        by: "alice".to_owned(),
        since: "2026-01-01T00:00:00Z".to_owned(),
        of_fleet,
    }
}

#[test]
fn each_condition_fails_alone_by_what_breaks_it() {
    assert_eq!(failed(&ready()), [""; 0]);
    type Change = fn(&mut Evidence);
    let cases: &[(&str, Change)] = &[
        ("proxy", |it| it.proxy.as_mut().unwrap().signer = None),
        ("proxy", |it| it.proxy.as_mut().unwrap().configured = false),
        ("proxy", |it| {
            let [instance, head, why] = ["9f", "l:7:r", "shorter"].map(str::to_owned);
            it.proxy.as_mut().unwrap().refused_signer =
                Some(RefusedSigner { instance, head, known: None, why });
        }),
        ("signer", |it| it.signer.as_mut().unwrap().instance = "9".repeat(64)),
        ("armable", |it| it.signer.as_mut().unwrap().cannot_arm.push("it is sealed".to_owned())),
        ("quorum", |it| {
            let who = who(examples::approvers_without_finance());
            it.signer.as_mut().unwrap().approvers_sha256 = who.approvers.sha256().to_owned();
            it.who = Ok(who);
        }),
        ("approvers", |it| it.signer.as_mut().unwrap().approvers_sha256 = "9".repeat(64)),
        ("approvers", |it| it.who.as_mut().unwrap().deployment = "another".to_owned()),
        ("key", |it| it.proxy.as_mut().unwrap().emergency_keys_registered.clear()),
        ("key", |it| {
            let keys = &mut it.proxy.as_mut().unwrap().emergency_keys_registered;
            keys.insert("e".to_owned(), "9".repeat(64));
        }),
        ("key_end", |it| (it.registry, it.copies) = (Ok(registry(None)), Vec::new())),
        ("key_end", |it| (it.registry, it.copies) = (Ok(registry(Some(0))), Vec::new())),
        ("key_end", |it| it.signer.as_mut().unwrap().session_max_s = 91 * 86_400),
        ("passphrase", |it| {
            it.opened = Some([("e".to_owned(), Err("it does not open".to_owned()))].into());
        }),
        ("passphrase", |it| it.opened = Some([].into())),
        ("copies", |it| it.copies.push(("old.json".to_owned(), Ok(registry(Some(91)))))),
        ("copies", |it| it.copies.push(("gone.json".to_owned(), Err("not there".to_owned())))),
        ("copies", |it| it.copies[0].1 = Ok(Registry::default())),
        ("clock", |it| it.clocks[0].1 = Ok(now() + Duration::seconds(61))),
        ("clock", |it| it.clocks[0].1 = Ok(now() - Duration::seconds(61))),
        ("clock", |it| it.clocks[0].1 = Err("it does not answer".to_owned())),
        ("disk", |it| it.disks[0].1 = Ok(100 << 20)),
        ("disk", |it| it.disks[0].1 = Err("No such file or directory".to_owned())),
        ("free", |it| it.proxy.as_mut().unwrap().session = Some(examples::session().into())),
        ("free", |it| it.signer.as_mut().unwrap().session = Some(examples::session())),
        ("free", |it| it.proxy.as_mut().unwrap().freeze = Some(freeze(true, true))),
        ("free", |it| it.proxy.as_mut().unwrap().freeze = Some(freeze(false, false))),
    ];
    for (word, change) in cases {
        let mut evidence = ready();
        change(&mut evidence);
        assert_eq!(failed(&evidence), [*word]);
    }
    let named: BTreeSet<_> = judge(&ready()).into_iter().map(|condition| condition.word).collect();
    assert_eq!(named, cases.iter().map(|(word, _)| *word).collect());
    let page = include_str!("../../../../docs/operating/breakglass.md");
    for word in named {
        assert!(page.contains(&format!("| `{word}` |")), "the page explains {word}");
    }
}

#[test]
fn what_could_not_be_asked_fails_and_what_nobody_asked_for_does_not() {
    let silent = || "it does not answer".to_owned();
    let mut evidence = ready();
    (evidence.proxy, evidence.signer) = (Err(silent()), Err(silent()));
    let expected = ["proxy", "signer", "armable", "approvers", "key", "key_end", "free"];
    assert_eq!(failed(&evidence), expected);
    let mut evidence = ready();
    (evidence.registry, evidence.who) = (Err(silent()), Err(silent()));
    assert_eq!(failed(&evidence), ["quorum", "approvers", "key", "key_end", "copies"]);
    let mut evidence = ready();
    (evidence.opened, evidence.copies) = (None, Vec::new());
    assert_eq!(failed(&evidence), [""; 0]);
    let said = words(&judge(&evidence), true);
    assert!(said.starts_with("READY: ") && said.contains("not looked at: --copies"), "{said}");
}

#[test]
fn a_freeze_is_not_in_the_way_and_is_said_and_a_key_that_is_gone_is() {
    let mut evidence = ready();
    evidence.proxy.as_mut().unwrap().freeze = Some(freeze(false, true));
    assert_eq!(failed(&evidence), [""; 0]);
    let said = words(&judge(&evidence), true);
    assert!(said.contains("a request has to name the freeze 0101"), "{said}");
    for state in [KeyState::Revoked, KeyState::Destroyed, KeyState::Missing] {
        let mut evidence = ready();
        evidence.signer.as_mut().unwrap().keys[0].state = state;
        assert_eq!(failed(&evidence), ["key", "key_end"]);
        let Condition { says, .. } =
            judge(&evidence).into_iter().find(|condition| condition.word == "key").unwrap();
        assert!(says.contains(state.word()), "{says}");
    }
}

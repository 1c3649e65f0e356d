//! Each risk by what alone causes it; and the page that says it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};
use signing_core::Registry;
use signing_core::breakglass::activation::{Approval, Hardware};
use signing_core::breakglass::{Draft, Request, TYPE};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::super::examples::{approvers, entry};
use super::page::Page;
use super::risks::{self, Level};
use super::sources::{Document, Known, Who};

const NOW: i64 = 1_800_000_000;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

fn at(offset: Duration) -> String {
    (now() + offset).format(&Rfc3339).unwrap()
}

/// A request that everything is right with, and the copies beside it.
struct Case {
    draft: Draft,
    entries: Vec<Value>,
    registry: Option<Result<Registry, String>>,
    deployment: String,
    who: Option<String>,
    approvals: Vec<(PathBuf, Result<Approval, String>)>,
}

impl Case {
    fn new() -> Self {
        let mut emergency = entry("emergency", "breakglass", 1);
        emergency["notAfter"] = at(Duration::days(90)).into();
        let text = json!({"signers": [emergency.clone()]}).to_string();
        let registry = Registry::from_json(&text).unwrap();
        let sha256 = registry.get("emergency").unwrap().public_key.sha256_hex();
        Self {
            draft: Draft {
                r#type: TYPE.to_owned(),
                id: "INC-7".to_owned(),
                audience: "test".to_owned(),
                instances: vec!["1".repeat(64)],
                incident: "INC-7".to_owned(),
                justification: "KMS is down".to_owned(),
                emergency_kid: "emergency".to_owned(),
                emergency_key_sha256: sha256,
                replaces: vec!["payments".to_owned()],
                callers: vec!["spiffe://t/a".to_owned()],
                outage_since: at(-Duration::minutes(45)),
                not_before: at(Duration::ZERO),
                expires_at: at(Duration::minutes(60)),
                max_signatures: 1000,
                under_freeze: None,
                nonce: "AAAAAAAAAAAAAAAAAAAAAA==".to_owned(),
            },
            entries: vec![
                emergency,
                entry("payments", "signing", 2),
                entry("ledger", "signing", 3),
            ],
            registry: None,
            deployment: "test".to_owned(),
            who: None,
            approvals: Vec::new(),
        }
    }

    fn document(&self) -> Document {
        let bytes = self.draft.to_bytes().unwrap();
        let request = Request::parse(&bytes).unwrap();
        Document { file: "request.json".into(), bytes, request }
    }

    fn known(&mut self) -> Known {
        let text = json!({"signers": self.entries}).to_string();
        Known {
            registry: self
                .registry
                .take()
                .unwrap_or_else(|| Ok(Registry::from_json(&text).unwrap())),
            registry_file: "signers.json".into(),
            who: match self.who.take() {
                Some(why) => Err(why),
                None => {
                    let (settings, approvers) = approvers();
                    Ok(Who { deployment: self.deployment.clone(), settings, approvers })
                }
            },
            approvals: std::mem::take(&mut self.approvals),
        }
    }

    /// The words of its risks, with what follows.
    fn risks(&mut self) -> Vec<(&'static str, Level)> {
        let (document, known) = (self.document(), self.known());
        let found = risks::of(&document.request, &known, now());
        found.iter().for_each(|risk| assert!(risk.says.len() > 20, "{risk:?}"));
        found.iter().map(|risk| (risk.word, risk.level)).collect()
    }
}

fn approval(principal: &str, role: &str) -> Approval {
    Approval {
        principal: principal.to_owned(),
        roles: [role.to_owned()].into(),
        fingerprint: format!("SHA256:{principal}"),
        algorithm: "sk-ssh-ed25519@openssh.com".to_owned(),
        key_sha256: None,
        hardware: Some(Hardware { touched: true, verified: false, counter: 3 }),
    }
}

#[test]
fn a_request_that_is_right_has_no_risk_and_each_risk_has_one_cause() {
    assert_eq!(Case::new().risks(), []);
    type Change = fn(&mut Case);
    let (stop, ask) = (Level::Stop, Level::Ask);
    let cases: &[(&str, Level, Change)] = &[
        ("expired", stop, |case| {
            case.draft.outage_since = at(-Duration::hours(3));
            case.draft.not_before = at(-Duration::hours(1));
            case.draft.expires_at = at(Duration::ZERO);
        }),
        ("outage_in_future", stop, |case| {
            case.draft.outage_since = at(Duration::SECOND);
            case.draft.not_before = at(Duration::minutes(31));
            case.draft.expires_at = at(Duration::minutes(60));
        }),
        ("replaces_unknown", stop, |case| case.draft.replaces = vec!["nobody".to_owned()]),
        ("replaces_unknown", stop, |case| case.draft.replaces = vec!["emergency".to_owned()]),
        ("mode_mismatch", stop, |case| case.entries[0]["mode"] = "batch".into()),
        ("mode_mismatch", stop, |case| case.entries[1]["mode"] = "batch".into()),
        ("key_unknown", stop, |case| case.draft.emergency_kid = "nobody".to_owned()),
        ("key_unknown", stop, |case| case.draft.emergency_kid = "ledger".to_owned()),
        ("key_mismatch", stop, |case| case.draft.emergency_key_sha256 = "0".repeat(64)),
        ("key_not_usable", stop, |case| case.entries[0]["revokedAt"] = at(-Duration::DAY).into()),
        ("key_not_usable", stop, |case| case.entries[0]["notAfter"] = at(Duration::ZERO).into()),
        ("other_deployment", stop, |case| case.deployment = "another".to_owned()),
        ("long_outage", ask, |case| {
            case.draft.outage_since = at(-Duration::hours(4) - Duration::SECOND);
        }),
        ("long_session", ask, |case| case.draft.expires_at = at(Duration::minutes(61))),
        ("begins_late", ask, |case| {
            case.draft.not_before = at(Duration::hours(25));
            case.draft.expires_at = at(Duration::hours(26));
        }),
        ("under_freeze", ask, |case| case.draft.under_freeze = Some("ab".repeat(16))),
        ("instances", ask, |case| case.draft.instances.push("2".repeat(64))),
        ("high_quota", ask, |case| case.draft.max_signatures = 10_001),
        ("wide_scope", ask, |case| case.draft.replaces.push("ledger".to_owned())),
        ("many_callers", ask, |case| {
            case.draft.callers = (0..6).map(|n| format!("spiffe://t/{n}")).collect();
        }),
        ("key_not_compared", ask, |case| case.registry = Some(Err("it is not there".to_owned()))),
        ("key_without_end", ask, |case| {
            case.entries[0].as_object_mut().unwrap().remove("notAfter");
        }),
        ("key_ends_early", ask, |case| {
            case.entries[0]["notAfter"] = at(Duration::minutes(59)).into();
        }),
        ("approvers_not_compared", ask, |case| case.who = Some("it is not there".to_owned())),
        ("approval_does_not_count", ask, |case| {
            case.approvals = vec![("x.sig".into(), Err("it is in another namespace".to_owned()))];
        }),
    ];
    for (word, level, change) in cases {
        let mut case = Case::new();
        change(&mut case);
        assert_eq!(case.risks(), [(*word, *level)]);
    }
    let words: BTreeSet<_> = cases.iter().map(|(word, ..)| *word).collect();
    let page = include_str!("../../../../docs/operating/review-a-request.md");
    for word in words {
        assert!(page.contains(&format!("| `{word}` |")), "the page for approvers explains {word}");
    }
}

#[test]
fn what_stops_comes_first_and_quotas_of_all_instances_count_together() {
    let mut case = Case::new();
    case.draft.max_signatures = 5001;
    case.draft.instances.push("2".repeat(64));
    case.draft.emergency_key_sha256 = "0".repeat(64);
    let words: Vec<_> = case.risks().into_iter().map(|(word, _)| word).collect();
    assert_eq!(words, ["key_mismatch", "instances", "high_quota"]);
}

#[test]
fn a_page_says_risks_first_then_every_field_then_who_has_to_approve() {
    let mut case = Case::new();
    case.draft.under_freeze = Some("ab".repeat(16));
    case.approvals = vec![("request.json.security.sig".into(), Ok(approval("alice", "Security")))];
    let (document, known) = (case.document(), case.known());
    let risks = risks::of(&document.request, &known, now());
    let page = Page { document: &document, known: &known, risks: &risks, now: now() };
    let words = page.words();
    let mut rest = words.as_str();
    for part in [
        "BREAK-GLASS REQUEST INC-7 for the incident INC-7",
        "ASK BEFORE YOU APPROVE",
        "! under_freeze: ",
        "WHAT YOU WOULD APPROVE",
        "deployment     test",
        "justification  KMS is down",
        "outage         since 2027-01-15T07:15:00Z (45m 00s ago)",
        "session        from 2027-01-15T08:00:00Z until 2027-01-15T09:00:00Z",
        "1h 00m at most",
        "signatures     1000 at most, of each instance",
        "in place of    payments",
        "for callers    spiffe://t/a",
        "under freeze   abab",
        "emergency key  emergency",
        "the same key as in signers.json, counts until 2027-04-15T08:00:00Z",
        document.request.emergency_key_sha256(),
        "instances      1111",
        document.request.sha256(),
        "WHO HAS TO APPROVE",
        "Finance       NOT YET; who can: bob",
        "Security      approved by alice (sk-ssh-ed25519@openssh.com, touched)",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part} is not next in\n{words}"));
        rest = &rest[at + part.len()..];
    }
    let json = page.json();
    assert_eq!(
        (&json["ok"], &json["risks"][0]["risk"], &json["roles"][0]["missing"]),
        (&json!(true), &json!("under_freeze"), &json!(true)),
        "{json}"
    );
    assert_eq!(json["request"]["under_freeze"], "ab".repeat(16));
}

#[test]
fn a_page_of_one_person_for_both_roles_says_that_another_is_missing() {
    let mut case = Case::new();
    let mut both = approval("alice", "Security");
    both.roles.insert("Finance".to_owned());
    case.approvals = vec![("x.sig".into(), Ok(both))];
    let (document, known) = (case.document(), case.known());
    let page = Page { document: &document, known: &known, risks: &[], now: now() };
    let words = page.words();
    assert_eq!(words.matches("NOT YET").count(), 1, "{words}");
    assert!(words.contains("each role needs a person of its own"), "{words}");
}

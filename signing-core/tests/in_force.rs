//! What an operator has to end, as the records of a journal tell it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use signing_core::fleet::HELD_MAX;
use signing_core::incident::{ASKED, IncidentId};
use signing_core::journal::{
    Acceptance, Approved, FleetFreeze, FleetUnfreeze, Freeze, Frozen, Gate, Head, InForce,
    InForceSnapshot, IncidentBegun, IncidentCaptured, IncidentEnded, IncidentItem, KeyModes,
    KeyModesSnapshot, OpenIncident, PeerLog, PeerLogs, Record, Reload, SealedFor, Segment,
    SignersChanged, Unfreeze, Unseal,
};
use signing_core::tree::{LogId, TreeHash};
use signing_core::{FreezeId, Kid};
use time::{Duration, OffsetDateTime};

const SECOND: Duration = Duration::SECOND;

fn kid(name: &str) -> Kid {
    Kid::parse(name).unwrap()
}

fn freeze(reason: &str) -> Record<'_> {
    Record::Freeze(Freeze { by: "a", id: None, reason })
}

fn gate<'r>(kid: &'r str, upstream: Option<&'r str>, to: &'r str) -> Record<'r> {
    Record::Gate(Gate { detail: "why", from: "open", signer_kid: kid, to, upstream })
}

fn unseal(signer_kid: Option<&str>) -> Record<'_> {
    Record::Unseal(Unseal { by: "a", reason: "r", sealed_for: "why", signer_kid })
}

const UNFREEZE: Record<'static> = Record::Unfreeze(Unfreeze {
    by: "b",
    frozen_by: "a",
    frozen_for: "r",
    frozen_id: None,
    reason: "s",
});

fn heard(records: &[Record<'_>]) -> InForce {
    let mut in_force = InForce::default();
    for (second, record) in (0_i64..).zip(records) {
        let at = OffsetDateTime::from_unix_timestamp(second).unwrap();
        in_force.hear(record.kind(), &record.encode(at).unwrap()).unwrap();
    }
    in_force
}

fn reason(in_force: &InForce) -> Option<&str> {
    in_force.freeze.as_ref().map(|freeze| freeze.reason.as_str())
}

fn sealed(in_force: &InForce) -> Vec<&str> {
    in_force.seals.keys().map(Kid::as_str).collect()
}

#[test]
fn records_say_what_is_frozen_and_sealed() {
    type Case<'c> = (&'c [Record<'c>], Option<&'c str>, &'c [&'c str]);
    let cases: &[Case<'_>] = &[
        (&[], None, &[]),
        (&[freeze("one")], Some("one"), &[]),
        (&[freeze("one"), freeze("two")], Some("two"), &[]),
        (&[freeze("one"), UNFREEZE], None, &[]),
        (&[freeze("one"), UNFREEZE, freeze("two")], Some("two"), &[]),
        (&[gate("k", None, "sealed"), gate("l", None, "sealed")], None, &["k", "l"]),
        // The state of one of its upstreams, and other states.
        (&[gate("k", Some("eu"), "sealed"), gate("k", None, "shut")], None, &[]),
        (&[gate("k", None, "sealed"), gate("k", None, "shut")], None, &["k"]),
        (&[gate("k", None, "sealed"), unseal(Some("k"))], None, &[]),
        (&[gate("k", None, "sealed"), unseal(Some("l")), unseal(None)], None, &["k"]),
    ];
    for (records, expected, seals) in cases {
        let found = heard(records);
        assert_eq!((reason(&found), &sealed(&found)[..]), (*expected, *seals), "{records:?}");
    }
    let found = heard(&[freeze("one"), freeze("two")]).freeze.unwrap();
    assert_eq!(found.at, OffsetDateTime::UNIX_EPOCH + SECOND, "when it was recorded");
}

fn fleet_freeze(number: u8) -> Record<'static> {
    let freeze_id = FreezeId::new([number; 16]).to_string();
    Record::FleetFreeze(FleetFreeze { by: "x", freeze_id, presented_by: "y", reason: "stop" })
}

fn fleet_unfreeze(numbers: &[u8]) -> Record<'static> {
    let ends = numbers.iter().map(|number| FreezeId::new([*number; 16]).to_string()).collect();
    let approved = Approved {
        algorithm: "ssh-ed25519",
        counter: None,
        fingerprint: "SHA256:a",
        principal: "alice",
        roles: vec!["Security"],
        touched: None,
        verified: None,
    };
    Record::FleetUnfreeze(FleetUnfreeze {
        approved,
        ends,
        expires_at: "2026-01-01T00:00:00Z",
        presented_by: "y",
        reason: "all is well",
        signature: "",
        statement_b64: "",
    })
}

#[test]
fn freezes_of_the_fleet_are_told_by_their_ids_and_end_by_them() {
    let held = |records: &[Record<'_>]| {
        let found = heard(records);
        assert_eq!(again(&found).fleet, found.fleet);
        found.fleet.into_keys().collect::<Vec<_>>()
    };
    let [one, two] = [1, 2].map(|number| FreezeId::new([number; 16]));
    assert_eq!(held(&[fleet_freeze(1), fleet_freeze(2), freeze("one"), UNFREEZE]), [one, two]);
    assert_eq!(held(&[fleet_freeze(1), fleet_freeze(2), fleet_unfreeze(&[1, 3])]), [two]);
    assert_eq!(held(&[fleet_freeze(1), fleet_unfreeze(&[1]), fleet_freeze(1)]), [one]);
    let (one, two) = (heard(&[fleet_freeze(1)]), heard(&[fleet_freeze(2), fleet_unfreeze(&[1])]));
    assert_eq!(one.and(two).fleet.len(), 2, "whoever knows more adds");
}

#[test]
fn whoever_knows_more_adds_and_nobody_takes_away() {
    let (one, two) = (heard(&[freeze("one")]), heard(&[UNFREEZE, freeze("two")]));
    let sealed_k = heard(&[gate("k", None, "sealed")]);
    for (left, right, expected, seals) in [
        (&one, &two, Some("two"), 0),
        (&two, &one, Some("two"), 0),
        (&one, &sealed_k, Some("one"), 1),
        (&sealed_k, &one, Some("one"), 1),
        (&sealed_k, &sealed_k, None, 1),
    ] {
        let both = left.clone().and(right.clone());
        assert_eq!((reason(&both), both.seals.len()), (expected, seals), "{left:?} {right:?}");
    }
}

fn again(in_force: &InForce) -> InForce {
    let InForceSnapshot { fleet, freeze, incident, key_modes, seals, signer_logs } =
        in_force.snapshot();
    let record = Record::Segment(Segment {
        fleet,
        freeze,
        incident,
        key_modes,
        oldest_open: Some(u64::MAX),
        seals,
        signer_logs,
    });
    let mut again = heard(&[freeze_of_before(), gate("before", None, "sealed")]);
    again.hear(record.kind(), &record.encode(OffsetDateTime::UNIX_EPOCH).unwrap()).unwrap();
    again
}

fn freeze_of_before() -> Record<'static> {
    freeze("of before")
}

#[test]
fn more_seals_than_a_record_lists_are_told_as_a_freeze() {
    let sealing = |count| {
        let kids: Vec<_> = (0..count).map(|number| format!("{number:0>128}")).collect();
        heard(&kids.iter().map(|kid| gate(kid, None, "sealed")).collect::<Vec<_>>())
    };
    let listed = (0..).take_while(|count| reason(&again(&sealing(*count))).is_none()).count() - 1;
    assert!(listed >= 16, "{listed}");
    assert_eq!(again(&sealing(listed)), sealing(listed));
    let more = again(&sealing(listed + 1));
    assert_eq!(more.seals.len(), listed);
    assert!(reason(&more).unwrap().starts_with(&(listed + 1).to_string()), "{more:?}");
}

/// As many as one journal knows.
fn many_keys() -> KeyModes {
    let single = (0..192_u64).map(|number| format!("{number:016x}")).collect();
    let told = KeyModesSnapshot { batch: Vec::new(), single };
    let record = Reload {
        by: "a",
        generation: 2,
        key_modes: Some(told),
        registry_sha256: "0a",
        signers: SignersChanged::default(),
    };
    heard(&[Record::Reload(record)]).key_modes
}

proptest! {
    /// However long and however odd the texts are: a segment can always begin.
    #[test]
    fn it_always_fits_a_record(
        freezes in any::<bool>(),
        odd in "[\\x00-\\x7f\u{2028}é😀]{1,700}",
        count in 0_usize..60,
    ) {
        let at = OffsetDateTime::UNIX_EPOCH;
        let freeze = freezes.then(|| Frozen { at, by: odd.clone(), id: Some(FreezeId::new([7; 16])), reason: odd.clone() });
        let seals = (0..count).map(|number| {
            (kid(&format!("{number:0>128}")), SealedFor { at, detail: odd.clone() })
        });
        let mut signer_logs = PeerLogs::default();
        for number in 0..12_u8 {
            let head = Head { size: u64::MAX, root: TreeHash::new([number; 32]) };
            let log = LogId::new([number; 16]);
            let known = PeerLog { instance: hex::encode([number; 32]), log, head };
            signer_logs.learn(known, Acceptance::Extends);
        }
        let incident = freezes.then(|| OpenIncident {
            at,
            by: odd.clone(),
            captured: Some("0".repeat(64)),
            missing: vec!["fleet".to_owned()],
            done: ASKED.map(str::to_owned).to_vec(),
            incident: IncidentId::parse(&"x".repeat(64)).unwrap(),
            reason: odd.clone(),
        });
        let fleet = (0..HELD_MAX).map(|number| {
            let frozen = Frozen { at, by: odd.clone(), id: None, reason: odd.clone() };
            (FreezeId::new((number as u128).to_be_bytes()), frozen)
        });
        let (fleet, seals) = (fleet.collect(), seals.collect());
        let found = InForce { freeze, fleet, incident, key_modes: many_keys(), seals, signer_logs };
        let again = again(&found);
        prop_assert!(again.freeze.is_some() == freezes || count > again.seals.len());
        prop_assert_eq!(again.incident.is_some(), freezes);
        prop_assert_eq!(&again.signer_logs, &found.signer_logs);
        prop_assert_eq!(&again.key_modes, &found.key_modes);
        prop_assert!(again.fleet.keys().eq(found.fleet.keys()));
        prop_assert!(again.seals.keys().eq(found.seals.keys().take(again.seals.len())));
    }
}

#[test]
fn an_incident_is_open_from_its_beginning_to_its_end_and_keeps_its_newest_bundle() {
    let begun = |incident| Record::IncidentBegun(IncidentBegun { by: "a", incident, reason: "r" });
    let lacking = |incident, sha256, missing| {
        Record::IncidentCaptured(IncidentCaptured { by: "a", incident, missing, sha256 })
    };
    let captured = |incident, sha256| lacking(incident, sha256, vec![]);
    let ended = || {
        let (by, incident, reason) = ("a", "I-1", "well");
        Record::IncidentEnded(IncidentEnded { by, incident, left: vec![], reason })
    };
    let open = |records: &[Record<'_>]| {
        let open = heard(records).incident?;
        Some((open.incident.to_string(), open.captured))
    };
    let one = || "I-1".to_owned();
    assert_eq!(open(&[]), None);
    assert_eq!(open(&[begun("I-1")]), Some((one(), None)));
    let twice = [begun("I-1"), captured("I-1", "00"), captured("I-1", "01")];
    assert_eq!(open(&twice), Some((one(), Some("01".to_owned()))));
    // The newest bundle lacks what it lacks, whatever those before it had.
    let missing = |records: &[Record<'_>]| heard(records).incident.unwrap().missing;
    let lacks = lacking("I-1", "00", vec!["metrics", "status"]);
    assert_eq!(missing(&[begun("I-1"), lacks.clone()]), ["metrics", "status"]);
    assert_eq!(missing(&[begun("I-1"), lacks, captured("I-1", "01")]), Vec::<String>::new());
    // What is captured for another one is not this one's.
    assert_eq!(open(&[begun("I-1"), captured("I-2", "00")]), Some((one(), None)));
    assert_eq!(open(&[begun("I-1"), ended()]), None);
    assert_eq!(open(&[begun("I-1"), ended(), begun("I-2")]), Some(("I-2".to_owned(), None)));
    let item = |incident, section, done| {
        let (by, detail) = ("a", "d");
        Record::IncidentItem(IncidentItem { by, detail, done, incident, section })
    };
    let said = heard(&[
        begun("I-1"),
        item("I-1", "5.3", true),
        item("I-1", "5.2", false),
        item("I-2", "2.2", true),
        item("I-1", "5.1", true),
        item("I-1", "2.3", true),
        item("I-1", "2.3", true),
    ]);
    assert_eq!(said.incident.as_ref().unwrap().done, ["2.3", "5.3"]);
    assert_eq!(again(&said).incident, said.incident);
    // A segment tells it whole, and of two that know of it the one with the bundle is told.
    let known = heard(&twice);
    assert_eq!(again(&known).incident, known.incident);
    let both = heard(&twice[..1]).and(known.clone());
    assert_eq!(both.incident, known.incident);
}

#[test]
fn what_no_such_record_says_is_heard_by_nobody() {
    let (record, at) = (gate("k", None, "sealed"), OffsetDateTime::UNIX_EPOCH);
    let good = String::from_utf8(record.encode(at).unwrap()).unwrap();
    for (what, by) in [
        (r#""signer_kid":"k""#, r#""signer_kid":"no kid""#),
        (r#""signer_kid":"k","#, ""),
        ("1970-01-01", "1970-13-01"),
        (r#""to":"sealed""#, r#""to":1"#),
    ] {
        let bad = good.replace(what, by);
        assert_ne!(bad, good);
        assert_eq!(InForce::default().hear(record.kind(), bad.as_bytes()), None, "{bad}");
    }
}

//! One record of every kind, and the data that it has to have, byte by byte.

mod breakglass;
mod fleet;

use signing_core::FreezeId;
use signing_core::incident::IncidentId;
use signing_core::journal::{
    Drill, EarlierAttempt, Failed, FleetFrozen, Freeze, Frozen, Gate, IncidentBegun,
    IncidentCaptured, IncidentEnded, IncidentItem, Init, Intent, KeyModesSnapshot, KnownLog,
    OpenIncident, ProbeCall, Probes, Record, Refusals, Refused, Rehearsal, Reload, Seal, Segment,
    Signed, SignersChanged, Start, Stop, TimingUs, Unfreeze, Unseal, Withheld,
};
use time::OffsetDateTime;

const FREEZE: FreezeId = FreezeId::new([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

fn five() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_669_200).unwrap()
}

fn frozen() -> Frozen {
    let (by, reason) = ("uid 0 (root)".to_owned(), "why".to_owned());
    Frozen { at: five() + time::Duration::MICROSECOND, by, id: None, reason }
}

fn incident() -> OpenIncident {
    let (by, reason) = ("uid 0".to_owned(), "why".to_owned());
    let incident = IncidentId::parse("INC-1").unwrap();
    OpenIncident { at: five(), by, captured: None, done: vec![], incident, missing: vec![], reason }
}

fn fleet() -> Vec<FleetFrozen> {
    let Frozen { at, by, reason, .. } = frozen();
    vec![FleetFrozen { at, by, freeze_id: FreezeId::new([1; 16]), reason }]
}

fn signer_logs() -> Vec<KnownLog> {
    vec![KnownLog { signer_head: "00:1:11".to_owned(), signer_instance: "22".to_owned() }]
}

fn seals() -> Vec<Seal<'static>> {
    vec![Seal { at: five(), detail: "d", signer_kid: "k" }]
}

/// Every kind of record, with everything that may be absent, and its data.
pub(crate) fn one_of_each() -> Vec<(Record<'static>, &'static str)> {
    let timing_us = TimingUs { queue: 1, upstream: 2, verify: 3 };
    let (algorithm, caller, mode) = ("ECDSA_SHA_256", "spiffe://x/a", "normal");
    let (input_digest, request_id, signer_kid) = ("sha256:00", "r1", "k");
    let (upstream, region, upstream_request_id) = (Some("aws-kms"), Some("eu-1"), Some("u1"));
    let door = "mtls";
    let mut records = vec![
        (
            Record::Init(Init {
                audit_key: "AA==",
                audit_kid: "a",
                by: "uid 0 (root)",
                deployment: "d",
                new_replica: Some("pay/p-0"),
                replaces: Some("c:1:h"),
            }),
            r#"{"audit_key":"AA==","audit_kid":"a","by":"uid 0 (root)","deployment":"d","new_replica":"pay/p-0","replaces":"c:1:h"}"#,
        ),
        (
            Record::Start(Start {
                audit_key: "AA==",
                audit_kid: "a",
                cut_bytes: 9,
                cut_sha256: Some("00"),
                deployment: "d",
                first_seq: 1,
                fleet: fleet(),
                freeze: Some(frozen()),
                incident: Some(incident()),
                key_modes: Some(KeyModesSnapshot {
                    batch: vec!["00".repeat(8)],
                    single: vec!["01".repeat(8), "02".repeat(8)],
                }),
                open_intents: 2,
                required_trail: Some("uid 998"),
                seals: seals(),
                signer_logs: signer_logs(),
                version: "0.1.0",
            }),
            r#"{"audit_key":"AA==","audit_kid":"a","cut_bytes":9,"cut_sha256":"00","deployment":"d","first_seq":1,"fleet":[{"at":"2026-11-26T05:00:00.000001Z","by":"uid 0 (root)","freeze_id":"01010101010101010101010101010101","reason":"why"}],"freeze":{"at":"2026-11-26T05:00:00.000001Z","by":"uid 0 (root)","reason":"why"},"incident":{"at":"2026-11-26T05:00:00.000000Z","by":"uid 0","incident":"INC-1","reason":"why"},"key_modes":{"batch":["0000000000000000"],"single":["0101010101010101","0202020202020202"]},"open_intents":2,"required_trail":"uid 998","seals":[{"at":"2026-11-26T05:00:00.000000Z","detail":"d","signer_kid":"k"}],"signer_logs":[{"signer_head":"00:1:11","signer_instance":"22"}],"version":"0.1.0"}"#,
        ),
        (Record::Stop(Stop { reason: "SIGTERM" }), r#"{"reason":"SIGTERM"}"#),
        (
            Record::Segment(Segment {
                fleet: vec![],
                freeze: Some(frozen()),
                incident: None,
                key_modes: None,
                oldest_open: Some(5),
                seals: seals(),
                signer_logs: vec![],
            }),
            r#"{"freeze":{"at":"2026-11-26T05:00:00.000001Z","by":"uid 0 (root)","reason":"why"},"oldest_open":5,"seals":[{"at":"2026-11-26T05:00:00.000000Z","detail":"d","signer_kid":"k"}]}"#,
        ),
        (
            Record::Segment(Segment {
                fleet: vec![],
                freeze: None,
                incident: None,
                key_modes: None,
                oldest_open: None,
                seals: vec![],
                signer_logs: vec![],
            }),
            r#"{"seals":[]}"#,
        ),
        (
            Record::Intent(Intent {
                algorithm,
                attempt: Some("0a"),
                caller,
                door,
                input_digest,
                justification: Some("\"\\\u{8}\u{c}\n\r\t\u{1}\u{7f}/\u{2028}é😀"),
                mode,
                region,
                request_id,
                signer_kid,
                traceparent: Some("00-1-1-01"),
                upstream,
            }),
            // As JavaScript's JSON.stringify escapes it.
            "{\"algorithm\":\"ECDSA_SHA_256\",\"attempt\":\"0a\",\
             \"caller\":\"spiffe://x/a\",\"door\":\"mtls\",\
             \"input_digest\":\"sha256:00\",\
             \"justification\":\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\u{7f}/\u{2028}é😀\",\
             \"mode\":\"normal\",\"region\":\"eu-1\",\"request_id\":\"r1\",\
             \"signer_kid\":\"k\",\"traceparent\":\"00-1-1-01\",\
             \"upstream\":\"aws-kms\"}",
        ),
        (
            Record::Signed(Signed {
                algorithm,
                attempt: Some("0a-2"),
                batch: None,
                caller,
                door,
                earlier_attempts: vec![EarlierAttempt {
                    attempt: "0a-1",
                    reason: "unavailable",
                    region: Some("eu-2"),
                    upstream: "aws-kms",
                    upstream_request_id: Some("u0"),
                }],
                input_digest,
                intent: 4,
                mode,
                region,
                replayed: false,
                request_id,
                signature: "AA==",
                signer_kid,
                incident: None,
                session: None,
                signer_record: None,
                timing_us,
                upstream,
                upstream_request_id,
            }),
            r#"{"algorithm":"ECDSA_SHA_256","attempt":"0a-2","caller":"spiffe://x/a","door":"mtls","earlier_attempts":[{"attempt":"0a-1","reason":"unavailable","region":"eu-2","upstream":"aws-kms","upstream_request_id":"u0"}],"input_digest":"sha256:00","intent":4,"mode":"normal","region":"eu-1","replayed":false,"request_id":"r1","signature":"AA==","signer_kid":"k","timing_us":{"queue":1,"upstream":2,"verify":3},"upstream":"aws-kms","upstream_request_id":"u1"}"#,
        ),
        (
            Record::Failed(Failed {
                algorithm,
                attempt: Some("0a"),
                caller,
                detail: "lost",
                door,
                earlier_attempts: Vec::new(),
                input_digest,
                intent: 4,
                mode,
                reason: "indeterminate",
                region,
                request_id,
                signer_kid,
                upstream,
                upstream_request_id,
            }),
            r#"{"algorithm":"ECDSA_SHA_256","attempt":"0a","caller":"spiffe://x/a","detail":"lost","door":"mtls","input_digest":"sha256:00","intent":4,"mode":"normal","reason":"indeterminate","region":"eu-1","request_id":"r1","signer_kid":"k","upstream":"aws-kms","upstream_request_id":"u1"}"#,
        ),
        (
            Record::Withheld(Withheld {
                detail: "shut",
                reason: "gate_closed_in_flight",
                request_id,
                signed: 6,
                signer_kid,
            }),
            r#"{"detail":"shut","reason":"gate_closed_in_flight","request_id":"r1","signed":6,"signer_kid":"k"}"#,
        ),
        (
            Record::Gate(Gate {
                detail: "late",
                from: "open",
                signer_kid,
                to: "shut",
                upstream: None,
            }),
            r#"{"detail":"late","from":"open","signer_kid":"k","to":"shut"}"#,
        ),
        (
            Record::Freeze(Freeze { by: "uid 0", id: Some(FREEZE), reason: "INC-1" }),
            r#"{"by":"uid 0","id":"0102030405060708090a0b0c0d0e0f10","reason":"INC-1"}"#,
        ),
        (
            Record::Unfreeze(Unfreeze {
                by: "uid 0",
                frozen_by: "uid 1",
                frozen_for: "INC-1",
                frozen_id: Some(FREEZE),
                reason: "over",
            }),
            r#"{"by":"uid 0","frozen_by":"uid 1","frozen_for":"INC-1","frozen_id":"0102030405060708090a0b0c0d0e0f10","reason":"over"}"#,
        ),
        (
            Record::Unseal(Unseal {
                by: "uid 0",
                reason: "mended",
                sealed_for: "doubt",
                signer_kid: Some("k"),
            }),
            r#"{"by":"uid 0","reason":"mended","sealed_for":"doubt","signer_kid":"k"}"#,
        ),
        (
            Record::Reload(Reload {
                by: "uid 0",
                generation: 2,
                key_modes: None,
                registry_sha256: "0a",
                signers: SignersChanged {
                    added: vec!["a"],
                    changed: vec!["b", "c"],
                    left_out: Some(1),
                    removed: vec!["d"],
                },
            }),
            r#"{"by":"uid 0","generation":2,"registry_sha256":"0a","signers_added":["a"],"signers_changed":["b","c"],"signers_left_out":1,"signers_removed":["d"]}"#,
        ),
        (
            Record::Drill(Drill {
                by: "uid 0",
                phase: "end",
                signer_kid: "k",
                slipped: Some(0),
                time_to_recover_ms: None,
                time_to_refuse_ms: Some(7),
            }),
            r#"{"by":"uid 0","phase":"end","signer_kid":"k","slipped":0,"time_to_refuse_ms":7}"#,
        ),
        (
            Record::Rehearsal(Rehearsal {
                approved_by: vec!["alice (Security)"],
                by: "uid 0",
                detail: "held",
                ok: Some(true),
                phase: "end",
            }),
            r#"{"approved_by":["alice (Security)"],"by":"uid 0","detail":"held","ok":true,"phase":"end"}"#,
        ),
        (
            Record::Probes(Probes {
                calls: vec![ProbeCall {
                    attempt: "0b-1",
                    operation: "Sign",
                    outcome: "signed",
                    purpose: "canary",
                    region,
                    signer_kid,
                    upstream: "aws-kms",
                    upstream_request_id,
                }],
                left_out: Some(7),
                over_s: 10,
            }),
            r#"{"calls":[{"attempt":"0b-1","operation":"Sign","outcome":"signed","purpose":"canary","region":"eu-1","signer_kid":"k","upstream":"aws-kms","upstream_request_id":"u1"}],"left_out":7,"over_s":10}"#,
        ),
        (
            Record::IncidentBegun(IncidentBegun { by: "uid 0", incident: "INC-1", reason: "why" }),
            r#"{"by":"uid 0","incident":"INC-1","reason":"why"}"#,
        ),
        (
            Record::IncidentCaptured(IncidentCaptured {
                by: "uid 0",
                incident: "INC-1",
                missing: vec!["metrics"],
                sha256: "00",
            }),
            r#"{"by":"uid 0","incident":"INC-1","missing":["metrics"],"sha256":"00"}"#,
        ),
        (
            Record::IncidentItem(IncidentItem {
                by: "uid 0",
                detail: "alice",
                done: true,
                incident: "INC-1",
                section: "5.2",
            }),
            r#"{"by":"uid 0","detail":"alice","done":true,"incident":"INC-1","section":"5.2"}"#,
        ),
        (
            Record::IncidentEnded(IncidentEnded {
                by: "uid 0",
                incident: "INC-1",
                left: vec!["5.4"],
                reason: "well",
            }),
            r#"{"by":"uid 0","incident":"INC-1","left":["5.4"],"reason":"well"}"#,
        ),
        (
            Record::Refusals(Refusals {
                over_s: 10,
                refused: vec![Refused {
                    caller,
                    count: 3,
                    detail: "no",
                    reason: "frozen",
                    request_id,
                    signer_kid: None,
                }],
            }),
            r#"{"over_s":10,"refused":[{"caller":"spiffe://x/a","count":3,"detail":"no","reason":"frozen","request_id":"r1"}]}"#,
        ),
    ];
    records.extend(breakglass::one_of_each());
    records.extend(fleet::one_of_each());
    records
}

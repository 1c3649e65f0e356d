//! One record of every kind, and the data that it has to have, byte by byte.

mod breakglass;

use signing_core::journal::{
    Drill, Failed, Freeze, Frozen, Gate, Init, Intent, Record, Refusals, Refused, Reload, Seal,
    Segment, Signed, Start, Stop, TimingUs, Unfreeze, Unseal, Withheld,
};
use time::OffsetDateTime;

fn five() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_669_200).unwrap()
}

fn frozen() -> Frozen {
    let (by, reason) = ("uid 0 (root)".to_owned(), "why".to_owned());
    Frozen { at: five() + time::Duration::MICROSECOND, by, reason }
}

fn seals() -> Vec<Seal<'static>> {
    vec![Seal { at: five(), detail: "d", signer_kid: "k" }]
}

/// Every kind of record, with everything that may be absent, and its data.
pub(crate) fn one_of_each() -> Vec<(Record<'static>, &'static str)> {
    let timing_us = TimingUs { queue: 1, upstream: 2, verify: 3 };
    let (algorithm, caller, mode) = ("ECDSA_SHA_256", "spiffe://x/a", "normal");
    let (input_digest, request_id, signer_kid) = ("sha256:00", "r1", "k");
    let mut records = vec![
        (
            Record::Init(Init {
                audit_key: "AA==",
                audit_kid: "a",
                by: "uid 0 (root)",
                deployment: "d",
                replaces: Some("c:1:h"),
            }),
            r#"{"audit_key":"AA==","audit_kid":"a","by":"uid 0 (root)","deployment":"d","replaces":"c:1:h"}"#,
        ),
        (
            Record::Start(Start {
                audit_key: "AA==",
                audit_kid: "a",
                cut_bytes: 9,
                cut_sha256: Some("00"),
                deployment: "d",
                first_seq: 1,
                freeze: Some(frozen()),
                open_intents: 2,
                seals: seals(),
                version: "0.1.0",
            }),
            r#"{"audit_key":"AA==","audit_kid":"a","cut_bytes":9,"cut_sha256":"00","deployment":"d","first_seq":1,"freeze":{"at":"2026-11-26T05:00:00.000001Z","by":"uid 0 (root)","reason":"why"},"open_intents":2,"seals":[{"at":"2026-11-26T05:00:00.000000Z","detail":"d","signer_kid":"k"}],"version":"0.1.0"}"#,
        ),
        (Record::Stop(Stop { reason: "SIGTERM" }), r#"{"reason":"SIGTERM"}"#),
        (
            Record::Segment(Segment {
                freeze: Some(frozen()),
                oldest_open: Some(5),
                seals: seals(),
            }),
            r#"{"freeze":{"at":"2026-11-26T05:00:00.000001Z","by":"uid 0 (root)","reason":"why"},"oldest_open":5,"seals":[{"at":"2026-11-26T05:00:00.000000Z","detail":"d","signer_kid":"k"}]}"#,
        ),
        (
            Record::Segment(Segment { freeze: None, oldest_open: None, seals: vec![] }),
            r#"{"seals":[]}"#,
        ),
        (
            Record::Intent(Intent {
                algorithm,
                caller,
                input_digest,
                justification: Some("\"\\\u{8}\u{c}\n\r\t\u{1}\u{7f}/\u{2028}é😀"),
                mode,
                request_id,
                signer_kid,
                traceparent: Some("00-1-1-01"),
            }),
            // As JavaScript's JSON.stringify escapes it.
            "{\"algorithm\":\"ECDSA_SHA_256\",\"caller\":\"spiffe://x/a\",\
             \"input_digest\":\"sha256:00\",\
             \"justification\":\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\u{7f}/\u{2028}é😀\",\
             \"mode\":\"normal\",\"request_id\":\"r1\",\"signer_kid\":\"k\",\
             \"traceparent\":\"00-1-1-01\"}",
        ),
        (
            Record::Signed(Signed {
                algorithm,
                caller,
                input_digest,
                intent: 4,
                mode,
                replayed: false,
                request_id,
                signature: "AA==",
                signer_kid,
                incident: None,
                session: None,
                signer_record: None,
                timing_us,
            }),
            r#"{"algorithm":"ECDSA_SHA_256","caller":"spiffe://x/a","input_digest":"sha256:00","intent":4,"mode":"normal","replayed":false,"request_id":"r1","signature":"AA==","signer_kid":"k","timing_us":{"queue":1,"upstream":2,"verify":3}}"#,
        ),
        (
            Record::Failed(Failed {
                algorithm,
                caller,
                detail: "lost",
                input_digest,
                intent: 4,
                mode,
                reason: "indeterminate",
                request_id,
                signer_kid,
            }),
            r#"{"algorithm":"ECDSA_SHA_256","caller":"spiffe://x/a","detail":"lost","input_digest":"sha256:00","intent":4,"mode":"normal","reason":"indeterminate","request_id":"r1","signer_kid":"k"}"#,
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
            Record::Freeze(Freeze { by: "uid 0", reason: "INC-1" }),
            r#"{"by":"uid 0","reason":"INC-1"}"#,
        ),
        (
            Record::Unfreeze(Unfreeze { by: "uid 0", frozen_by: "uid 1", reason: "INC-1" }),
            r#"{"by":"uid 0","frozen_by":"uid 1","reason":"INC-1"}"#,
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
        (Record::Reload(Reload { by: "uid 0", generation: 2 }), r#"{"by":"uid 0","generation":2}"#),
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
    records
}

//! The journal's form: each record's canonical bytes, and that nothing which was changed,
//! moved, left out or signed by another key passes for what was written (I7).

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;
use signing_core::Signer;
use signing_core::journal::{
    AuditKeys, BODY_MAX_BYTES, Chain, ChainId, Drill, Failed, Frame, FrameError, Freeze, Gate,
    Head, Header, HeaderError, Init, Intent, KeyId, Kind, Outline, Record, RecordHash, Refusals,
    Refused, Reload, Segment, Signed, Start, Stop, TimingUs, Unfreeze, Unseal, Withheld,
};
use signing_core::key::PublicKey;
use time::OffsetDateTime;

use key_pairs::ed25519;

mod key_pairs;

const CHAIN: ChainId = ChainId::new([7; 16]);
const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// An audit key, and who trusts it alone.
fn audit_key(seed: u8) -> (SigningKey, KeyId, AuditKeys) {
    let (private, Signer { public_key, .. }) = ed25519(seed);
    (private, KeyId::of(&public_key), trusting(public_key))
}

fn trusting(key: PublicKey) -> AuditKeys {
    let mut keys = AuditKeys::default();
    keys.add(key);
    keys
}

fn freeze(reason: &str) -> Vec<u8> {
    Record::Freeze(Freeze { by: "uid 0", reason }).encode(AT).unwrap()
}

/// The frames of these bodies, one after the other in a chain.
fn frames(chain: ChainId, seed: u8, bodies: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (private, key, _) = audit_key(seed);
    let mut chain = Chain::new(chain, Head::START, key);
    let append = |body: &Vec<u8>| {
        let mut out = Vec::new();
        chain.append(body, chain.head().seq, |hash| private.sign(hash).to_bytes(), &mut out);
        out
    };
    bodies.iter().map(append).collect()
}

fn three() -> Vec<Vec<u8>> {
    frames(CHAIN, 1, &[freeze("one"), freeze("two"), freeze("three")])
}

/// Reads frames as a verifier does: how many pass, and what is wrong with the next.
fn read(frames: &[Vec<u8>], chain: &ChainId, keys: &AuditKeys) -> (usize, Option<FrameError>) {
    let mut head = Head::START;
    for (number, bytes) in frames.iter().enumerate() {
        let step = || {
            let frame = Frame::parse(bytes)?.ok_or(FrameError::CutShort)?;
            let next = head.then(chain, &frame)?;
            keys.verify(&frame)?;
            Outline::parse(frame.body).ok_or(FrameError::Body)?;
            Ok(next)
        };
        match step() {
            Ok(next) => head = next,
            Err(error) => return (number, Some(error)),
        }
    }
    (frames.len(), None)
}

/// Every kind of record, with everything that may be absent, and its data.
fn one_of_each() -> Vec<(Record<'static>, &'static str)> {
    let timing_us = TimingUs { queue: 1, upstream: 2, verify: 3 };
    let (algorithm, caller, mode) = ("ECDSA_SHA_256", "spiffe://x/a", "normal");
    let (input_digest, request_id, signer_kid) = ("sha256:00", "r1", "k");
    vec![
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
                frozen: Some("why"),
                open_intents: 2,
                sealed: vec!["k", "l"],
                version: "0.1.0",
            }),
            r#"{"audit_key":"AA==","audit_kid":"a","cut_bytes":9,"cut_sha256":"00","deployment":"d","first_seq":1,"frozen":"why","open_intents":2,"sealed":["k","l"],"version":"0.1.0"}"#,
        ),
        (Record::Stop(Stop { reason: "SIGTERM" }), r#"{"reason":"SIGTERM"}"#),
        (Record::Segment(Segment { oldest_open: Some(5) }), r#"{"oldest_open":5}"#),
        (Record::Segment(Segment { oldest_open: None }), "{}"),
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
    ]
}

#[test]
fn every_record_has_one_form_and_is_read_back() {
    let records = one_of_each();
    for (record, data) in &records {
        let word = record.kind().word();
        let expected =
            format!(r#"{{"at":"1970-01-01T00:00:00.000000Z","data":{data},"type":"{word}"}}"#);
        let body = record.encode(AT).unwrap();
        assert_eq!(String::from_utf8_lossy(&body), expected);
        let (outline, kind) = Outline::parse(&body).unwrap();
        assert_eq!((kind, outline.r#type.as_str()), (record.kind(), word));
        assert_eq!(serde_json::to_string(&outline.data).unwrap(), *data);
    }
    for kind in Kind::ALL {
        assert!(records.iter().any(|(record, _)| record.kind() == *kind), "{kind:?} is missing");
        assert_eq!(Kind::parse(kind.word()), Some(*kind));
    }
    assert_eq!(Kind::parse("signature"), None);
}

#[test]
fn a_body_in_another_form_is_no_record() {
    let good = String::from_utf8(freeze("INC-1")).unwrap();
    assert!(Outline::parse(good.as_bytes()).is_some());
    let changed = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    for (what, body) in [
        ("white space", changed(",", ", ")),
        (
            "keys in another order",
            changed(r#""by":"uid 0","reason":"INC-1""#, r#""reason":"INC-1","by":"uid 0""#),
        ),
        ("a key twice", changed(r#""by":"uid 0""#, r#""by":"uid 1","by":"uid 0""#)),
        ("an escape that is not needed", changed("INC", r"\u0049NC")),
        ("a float", changed(r#""uid 0""#, "1.5")),
        ("a number beyond 64 bits", changed(r#""uid 0""#, "36893488147419103232")),
        ("a time of another form", changed(".000000Z", "Z")),
        ("a type that nobody knows", changed("freeze", "thaw")),
        ("a member more", changed(r#","type""#, r#","more":1,"type""#)),
        ("data that is no object", changed(r#"{"by":"uid 0","reason":"INC-1"}"#, "[]")),
        ("something after it", format!("{good} ")),
        ("half of it", good[..good.len() / 2].to_owned()),
        ("nothing", String::new()),
    ] {
        assert!(Outline::parse(body.as_bytes()).is_none(), "{what}: {body}");
    }
    assert!(Outline::parse(b"\xff").is_none());
}

#[test]
fn i7_what_was_appended_follows_and_verifies() {
    let bodies: Vec<_> =
        one_of_each().iter().map(|(record, _)| record.encode(AT).unwrap()).collect();
    let frames = frames(CHAIN, 1, &bodies);
    let (_, _, keys) = audit_key(1);
    assert_eq!(read(&frames, &CHAIN, &keys), (bodies.len(), None));
    let last = Frame::parse(frames.last().unwrap()).unwrap().unwrap();
    assert_eq!((last.seq, last.body), (bodies.len() as u64, bodies.last().unwrap().as_slice()));
    assert_eq!(last.durable, last.seq - 1);
    assert!(frames.iter().all(|frame| frame.len().is_multiple_of(8)));
}

#[test]
fn i7_every_flipped_bit_of_a_record_is_found_there() {
    let frames = three();
    let (_, _, keys) = audit_key(1);
    for bit in 0..frames[1].len() * 8 {
        let mut changed = frames.clone();
        changed[1][bit / 8] ^= 1 << (bit % 8);
        let (passed, error) = read(&changed, &CHAIN, &keys);
        assert_eq!((passed, error.is_some()), (1, true), "bit {bit}");
    }
}

#[test]
fn i7_a_forged_checksum_hides_no_change() {
    let (_, _, keys) = audit_key(1);
    let covered = 8..three()[1].len() - three()[1].len() % 8;
    for at in covered {
        let mut changed = three();
        let frame = &mut changed[1];
        let end = 128 + u32::from_le_bytes(frame[..4].try_into().unwrap()) as usize;
        if at >= end {
            break;
        }
        frame[at] ^= 1;
        let checksum = crc32fast::hash(&frame[8..end]);
        frame[4..8].copy_from_slice(&checksum.to_le_bytes());
        let (passed, error) = read(&changed, &CHAIN, &keys);
        let found = matches!(
            error,
            Some(
                FrameError::Seq { .. }
                    | FrameError::Hash
                    | FrameError::Signature
                    | FrameError::UnknownKey(_)
            )
        );
        assert!(passed == 1 && found, "byte {at}: {error:?}");
    }
}

#[test]
fn i7_records_that_are_moved_left_out_or_repeated_do_not_follow() {
    let (_, _, keys) = audit_key(1);
    let [one, two, three] = three().try_into().unwrap();
    let reordered = [one.clone(), three.clone(), two.clone()];
    assert_eq!(
        read(&reordered, &CHAIN, &keys),
        (1, Some(FrameError::Seq { found: 3, expected: 2 }))
    );
    assert_eq!(read(&[one.clone(), three.clone()], &CHAIN, &keys).0, 1);
    assert_eq!(read(&[two.clone(), three], &CHAIN, &keys).0, 0);
    assert_eq!(read(&[one.clone(), two.clone(), two], &CHAIN, &keys).0, 2);
    // One with the right number, of a chain that went another way.
    let other = frames(CHAIN, 1, &[freeze("another"), freeze("two")]);
    assert_eq!(read(&[one, other[1].clone()], &CHAIN, &keys), (1, Some(FrameError::Hash)));
}

#[test]
fn i7_records_of_another_chain_or_key_do_not_pass() {
    let (_, _, keys) = audit_key(1);
    let bodies = [freeze("one")];
    let elsewhere = frames(ChainId::new([8; 16]), 1, &bodies);
    assert_eq!(read(&elsewhere, &CHAIN, &keys), (0, Some(FrameError::Hash)));
    let (_, other, _) = audit_key(2);
    let forged = frames(CHAIN, 2, &bodies);
    assert_eq!(read(&forged, &CHAIN, &keys), (0, Some(FrameError::UnknownKey(other))));
    // Signed by another key, under the name of the right one.
    let ((private, ..), (_, key, _)) = (audit_key(2), audit_key(1));
    let mut out = Vec::new();
    Chain::new(CHAIN, Head::START, key).append(
        &bodies[0],
        0,
        |hash| private.sign(hash).to_bytes(),
        &mut out,
    );
    assert_eq!(read(&[out], &CHAIN, &keys), (0, Some(FrameError::Signature)));
    // A key of another algorithm signs no records.
    let ec = trusting(key_pairs::p256(1).1.public_key);
    assert!(ec.is_empty());
}

#[test]
fn a_header_says_what_it_said_and_every_flipped_bit_is_found() {
    let before = Head { seq: 41, hash: RecordHash::new([9; 32]) };
    let header = Header { chain: CHAIN, before, segment_bytes: 1 << 20 };
    let bytes = header.encode();
    assert_eq!(Header::parse(&bytes), Ok(header));
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::parse(&changed).is_err(), "bit {bit}");
    }
    let mut newer = bytes;
    newer[8] = 2;
    assert_eq!(Header::parse(&newer), Err(HeaderError::Version(2)));
    let no_first =
        Header { before: Head { hash: RecordHash::new([9; 32]), ..Head::START }, ..header };
    assert_eq!(Header::parse(&no_first.encode()), Err(HeaderError::Content));
}

#[test]
fn zeros_end_a_segment_and_lengths_are_bounded() {
    assert!(Frame::parse(&[0; 512]).unwrap().is_none());
    assert!(Frame::parse(&[]).unwrap().is_none());
    let too_long = u32::try_from(BODY_MAX_BYTES + 1).unwrap();
    let found = Frame::parse(&too_long.to_le_bytes()).unwrap_err();
    assert_eq!(found, FrameError::Length(too_long));
    let frame = three().remove(0);
    for length in 4..frame.len() {
        assert_eq!(Frame::parse(&frame[..length]).unwrap_err(), FrameError::CutShort);
    }
}

proptest! {
    #[test]
    fn i7_no_change_of_any_bytes_passes(
        record in 0_usize..3,
        place in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 1..16),
    ) {
        let (_, _, keys) = audit_key(1);
        let mut changed = three();
        let from = place.index(changed[record].len());
        let to = (from + bytes.len()).min(changed[record].len());
        changed[record][from..to].copy_from_slice(&bytes[..to - from]);
        let expected = if changed == three() { (3, false) } else { (record, true) };
        let (passed, error) = read(&changed, &CHAIN, &keys);
        prop_assert_eq!((passed, error.is_some()), expected);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        if let Ok(Some(frame)) = Frame::parse(&bytes) {
            let _ = Head::START.then(&CHAIN, &frame);
            let _ = Outline::parse(frame.body);
        }
        let _ = Outline::parse(&bytes);
        if let Some(header) = bytes.first_chunk() {
            let _ = Header::parse(header);
        }
    }

    #[test]
    fn any_text_has_one_form(reason in any::<String>()) {
        let body = freeze(&reason);
        let (outline, _) = Outline::parse(&body).unwrap();
        prop_assert_eq!(outline.text("reason"), Some(reason.as_str()));
    }
}

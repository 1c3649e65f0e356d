//! A journal that is read while several threads write it at full speed: nothing in it is
//! called a defect but what is one.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;

use audit::scan::{Frames, Step, segments};
use audit::verify::{Options, verify};
use audit::walk::{Stop, Walk, WalkStep};
use audit::{Journal, JournalError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use signing_core::Registry;
use signing_core::journal::{Frame, Freeze, Record};

use support::{SEGMENT_BYTES, Scratch, key, open, small_journal, start, writable};

mod support;

const WRITERS: usize = 3;
/// How many records each pushes.
const RECORDS: usize = 10_000;

/// Calls `read` again and again while `WRITERS` threads push as fast as they are let; how
/// often it was called.
fn beside_writers(name: &str, mut read: impl FnMut(&Path)) -> usize {
    let scratch = Scratch::new(name);
    small_journal(&scratch.0);
    let journal = start(open(&scratch.0).unwrap());
    let mut reads = 0;
    thread::scope(|scope| {
        let journal = &journal;
        let writers: Vec<_> =
            (0..WRITERS).map(|number| scope.spawn(move || write(journal, number))).collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            read(&scratch.0);
            reads += 1;
        }
    });
    reads
}

/// Records of several lengths, of which each thread waits for some: batches of every size.
fn write(journal: &Journal, number: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut count = 0;
    while count < RECORDS {
        let reason = "x".repeat(count * 97 % 1900);
        let record = Record::Freeze(Freeze { by: "uid 0", id: None, reason: &reason });
        let pushed = if count % (8 << number) == 0 {
            journal
                .begin_append(&record)
                .map(|appending| runtime.block_on(appending.durable()).map(|_| ()).unwrap())
        } else {
            journal.note(&record)
        };
        match pushed {
            Ok(()) => count += 1,
            // For a moment, while the next segment is prepared or too much waits.
            Err(JournalError::Stalled(_)) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn verifying_the_newest_records_finds_no_defect_in_a_live_journal() {
    let der = key().public().spki_der().to_vec();
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
    let entry = json!({"signer_kid": "audit", "algorithm": "ed25519", "public_key_pem": pem, "purpose": "audit"});
    let registry = Registry::from_json(&json!({"signers": [entry]}).to_string()).unwrap();
    let options = Options { limit: Some(20), registry: Some(&registry), ..Options::default() };
    let runs = beside_writers("live-verify", |path| {
        let report = verify(path, &options, |_| ()).unwrap();
        assert_eq!(report.defect, None, "{report:?}");
        assert!(report.records <= 20, "it ends although the journal does not: {report:?}");
    });
    assert!(runs > 4, "{runs} are too few to meet anything");
}

#[test]
fn following_a_live_journal_finds_every_record_and_no_defect() {
    let mut walk = None;
    let mut next = 1;
    let mut steps: usize = 0;
    beside_writers("live-follow", |path| {
        let walk = walk.get_or_insert_with(|| Walk::open(path, 1).unwrap());
        steps += 1;
        walk.trust_rest(!steps.is_multiple_of(7));
        match walk.step().unwrap() {
            WalkStep::Record(place) => {
                assert_eq!(place.leaf.seq, next);
                next += 1;
            }
            WalkStep::Sealed(seal) => assert_eq!(seal.checkpoint.checkpoint().size, next - 1),
            WalkStep::End | WalkStep::TornWrite(_) => walk.look_again().unwrap(),
        }
    });
    assert!(next > 1000, "it came no further than record {next}");
}

#[test]
fn a_record_that_is_longer_than_a_look_is_found_whole() {
    let scratch = Scratch::new("live-long");
    small_journal(&scratch.0);
    let mut walk = Walk::open(&scratch.0, 1).unwrap();
    while walk.step().unwrap() != WalkStep::End {}
    let journal = start(open(&scratch.0).unwrap());
    let reason = "x".repeat(30_000);
    let record = Record::Freeze(Freeze { by: "uid 0", id: None, reason: &reason });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let appending = journal.begin_append(&record).unwrap();
    runtime.block_on(appending.durable()).unwrap();
    walk.look_again().unwrap();
    let mut longest = 0;
    loop {
        match walk.step().unwrap() {
            WalkStep::Record(place) => longest = longest.max(place.bytes),
            WalkStep::Sealed(_) => {}
            WalkStep::End => break,
            WalkStep::TornWrite(torn) => panic!("{torn}"),
        }
    }
    assert!(longest > reason.len(), "{longest}");
}

#[test]
fn what_stands_behind_zeros_is_found_by_whoever_looks_through_them() {
    let scratch = Scratch::new("live-zeros");
    let segment = small_journal(&scratch.0);
    let mut walk = Walk::open(&scratch.0, 1).unwrap();
    while walk.step().unwrap() != WalkStep::End {}
    writable(&segment).write_all_at(b"junk", SEGMENT_BYTES - 4).unwrap();
    walk.trust_rest(true);
    walk.look_again().unwrap();
    assert_eq!(walk.step().unwrap(), WalkStep::End);
    walk.trust_rest(false);
    assert!(matches!(walk.step(), Err(Stop::Defect(_))));
}

#[test]
fn a_record_that_is_changed_in_a_live_journal_is_found() {
    beside_writers("live-defect", |path| {
        let file = segments(path).unwrap().pop().unwrap();
        let mut frames = Frames::open(&file).unwrap();
        let mut places = Vec::new();
        while let Step::Frame(at, frame) = frames.step().unwrap() {
            if let Frame::Entry(entry) = frame {
                places.push((at, entry.seq));
            }
        }
        // One that others follow.
        let Some((at, seq)) = places.len().checked_sub(20).map(|index| places[index]) else {
            return;
        };
        let written = writable(&file.path);
        // Its length, so that it looks like the end; then its body.
        for offset in [0, 40] {
            let mut before = [0; 4];
            written.read_exact_at(&mut before, at + offset).unwrap();
            written.write_all_at(&[0; 4], at + offset).unwrap();
            let report = verify(path, &Options::default(), |_| ()).unwrap();
            let defect = report.defect.unwrap_or_else(|| panic!("not found at byte {offset}"));
            assert_eq!((defect.record, defect.at), (seq, at), "{defect}");
            written.write_all_at(&before, at + offset).unwrap();
        }
    });
}

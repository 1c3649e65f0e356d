//! What a crash leaves behind: a batch of which sectors never reached the disk is cut, and
//! only if nobody can have been told of it; intents are found across segments.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use audit::scan::segments;
use audit::{Journal, OpenError};
use ed25519_dalek::{Signer as _, SigningKey};
use signing_core::journal::{Chain, Failed, Freeze, Intent, KeyId, Record};
use time::OffsetDateTime;

use places::places;
use support::{SEED, Scratch, key, open, small_journal, start, writable};

#[path = "support/places.rs"]
mod places;
mod support;
#[path = "support/batch.rs"]
mod tails;

const SECTOR: usize = 512;
/// Of each record in a batch: longer than two sectors, so that some lie whole in one.
const REASON_BYTES: usize = 1500;

/// A journal with a batch behind what it ended with, of which no record knows more to be
/// on disk than `durable` says of it.
fn with_batch(path: &Path, durable: impl Fn(u64) -> u64) -> (u64, Vec<u8>) {
    let segment = small_journal(path);
    let end = *places(path).last().unwrap();
    let opened = open(path).unwrap();
    let private = SigningKey::from_bytes(&SEED);
    let mut chain = Chain::new(opened.chain(), opened.head(), KeyId::of(key().public()));
    let mut batch = Vec::new();
    for number in 1..=4 {
        let reason = "x".repeat(REASON_BYTES);
        let freeze = Record::Freeze(Freeze { by: "uid 0", reason: &reason });
        let body = freeze.encode(OffsetDateTime::UNIX_EPOCH).unwrap();
        let sign = |hash: &[u8; 32]| private.sign(hash).to_bytes();
        chain.append(&body, opened.head().seq + durable(number), sign, &mut batch);
    }
    drop(opened);
    writable(&segment).write_all_at(&batch, end).unwrap();
    (end, batch)
}

/// The file's whole sectors in `batch`, which begins at `end`, as places in it.
fn sectors(end: u64, batch: &[u8]) -> Vec<usize> {
    let first = SECTOR - usize::try_from(end).unwrap() % SECTOR;
    (first..).step_by(SECTOR).take_while(|at| at + SECTOR <= batch.len()).collect()
}

#[test]
fn a_batch_of_which_any_sector_never_came_is_cut_there() {
    let scratch = Scratch::new("sectors");
    let (end, batch) = with_batch(&scratch.0, |_| 0);
    let before = open(&scratch.0).unwrap().head().seq - 4;
    let segment = segments(&scratch.0).unwrap().remove(0).path;
    let file = writable(&segment);
    let sectors = sectors(end, &batch);
    assert!(sectors.len() > 8);
    let record = batch.len() / 4;
    for missing in sectors {
        file.write_all_at(&[0; SECTOR], end + missing as u64).unwrap();
        let opened = open(&scratch.0).unwrap();
        assert_eq!(opened.head().seq, before + (missing / record) as u64, "sector at {missing}");
        assert!(opened.cut().is_some(), "sector at {missing}");
        drop(opened);
        file.write_all_at(&batch, end).unwrap();
    }
    assert_eq!(open(&scratch.0).unwrap().head().seq, before + 4);
}

#[test]
fn what_a_later_record_knows_to_be_on_disk_is_never_cut() {
    let scratch = Scratch::new("acknowledged");
    // Each was written when the one before it was on disk.
    let (end, batch) = with_batch(&scratch.0, |number| number - 1);
    let segment = segments(&scratch.0).unwrap().remove(0).path;
    let file = writable(&segment);
    let record = batch.len() / 4;
    // Record 4 is whole, so it tells.
    for missing in sectors(end, &batch).into_iter().filter(|at| at + SECTOR <= 3 * record) {
        file.write_all_at(&[0; SECTOR], end + missing as u64).unwrap();
        let error = open(&scratch.0).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "sector at {missing}: {error}");
        file.write_all_at(&batch, end).unwrap();
    }
}

#[test]
fn a_change_inside_a_batch_that_no_disk_makes_is_damage() {
    let scratch = Scratch::new("changed");
    let (end, batch) = with_batch(&scratch.0, |_| 0);
    let segment = segments(&scratch.0).unwrap().remove(0).path;
    let file = writable(&segment);
    let record = batch.len() / 4;
    for at in (0..3 * record).step_by(97) {
        file.write_all_at(&[batch[at] ^ 1], end + at as u64).unwrap();
        match open(&scratch.0) {
            Err(OpenError::Damaged { .. }) => {}
            other => panic!("byte {at}: {other:?}"),
        }
        file.write_all_at(&batch, end).unwrap();
    }
}

#[test]
fn a_long_torn_write_is_judged_and_cut_piece_by_piece() {
    const SEGMENT: u64 = 8 << 20;
    let scratch = Scratch::new("long");
    let (segment, end, batch) = tails::with_batch(&scratch.0, SEGMENT, &[32_000; 170]);
    assert!(batch.len() > 5 << 20);
    let (first, behind) = (open(&scratch.0).unwrap().head().seq - 170, batch.len() as u64);
    let file = writable(&segment);
    // A bit that no crash changes, in the first record: all the others follow it.
    file.write_all_at(&[batch[200] ^ 1], end + 200).unwrap();
    let error = open(&scratch.0).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { at, .. } if at == end), "{error}");
    // Sectors of the same batch never came: at its beginning, and far in.
    file.write_all_at(&batch, end).unwrap();
    for from in [end.next_multiple_of(512), 4 << 20, 5 << 20] {
        file.write_all_at(&[0; SECTOR], from).unwrap();
    }
    let opened = open(&scratch.0).unwrap();
    let cut = opened.cut().unwrap().clone();
    assert_eq!(opened.head().seq, first);
    let used = batch.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    assert!(used <= behind);
    assert_eq!((cut.bytes, cut.sha256.len()), (used, 64));
    drop(opened);
    assert!(fs::read(&segment).unwrap()[end as usize..].iter().all(|byte| *byte == 0));
}

fn intent(request_id: &str) -> Record<'_> {
    Record::Intent(Intent {
        algorithm: "ED25519_SHA_512",
        caller: "spiffe://test/a",
        input_digest: "sha256:00",
        justification: None,
        mode: "normal",
        request_id,
        signer_kid: "k",
        traceparent: None,
    })
}

/// Adds records until `segments` more have begun.
fn fill(journal: &Journal, more: usize) {
    let count = || segments(journal.path()).unwrap().len();
    let wanted = count() + more;
    let reason = "x".repeat(8 * 1024);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    while count() < wanted {
        // Refused for a moment while the next segment is prepared.
        if let Ok(appending) =
            journal.begin_append(&Record::Freeze(Freeze { by: "uid 0", reason: &reason }))
        {
            runtime.block_on(appending.durable()).unwrap();
        }
    }
}

/// The directory as a crash leaves it, opened in another place.
fn crashed(path: &Path, name: &str) -> Scratch {
    let copy = Scratch::new(name);
    fs::create_dir(&copy.0).unwrap();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.0.join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
fn an_open_intent_is_found_in_an_older_segment_and_concluded_once() {
    let scratch = Scratch::new("open");
    small_journal(&scratch.0);
    let journal = start(open(&scratch.0).unwrap());
    let done = journal.intent(&intent("done")).unwrap();
    let left = journal.intent(&intent("left")).unwrap();
    let left_seq = left.seq();
    fill(&journal, 2);
    journal
        .conclude(
            done,
            &Record::Failed(Failed {
                algorithm: "ED25519_SHA_512",
                caller: "spiffe://test/a",
                detail: "",
                input_digest: "sha256:00",
                intent: left_seq - 1,
                mode: "normal",
                reason: "indeterminate",
                request_id: "done",
                signer_kid: "k",
            }),
        )
        .unwrap();
    fill(&journal, 1);

    let copy = crashed(&scratch.0, "open-crashed");
    assert!(segments(&copy.0).unwrap().len() >= 4);
    let opened = open(&copy.0).unwrap();
    assert_eq!(opened.open_intents(), 1);
    start(opened).stop("the test").unwrap();
    let newest = segments(&copy.0).unwrap().pop().unwrap().path;
    let bytes = fs::read(&newest).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let concluded = text.matches(&format!("\"intent\":{left_seq},")).count();
    assert_eq!((concluded, text.matches("\"request_id\":\"left\"").count()), (1, 1));
    assert_eq!(open(&copy.0).unwrap().open_intents(), 0);

    // The oldest segments were moved away: what they held is not missed.
    let moved = crashed(&copy.0, "open-moved");
    for old in segments(&moved.0).unwrap().iter().take(2) {
        fs::remove_file(&old.path).unwrap();
    }
    start(open(&moved.0).unwrap()).stop("the test").unwrap();
    drop(journal);
}

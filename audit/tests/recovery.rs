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
use audit::verify::{Options, verify};
use audit::{Journal, OpenError, Opened};
use signing_core::journal::{AuditKeys, Failed, Freeze, Head, Intent, Record};
use signing_core::tree::{LogId, TreeHash};

use batch::NextBatch;
use places::places;
use support::{STATED, Scratch, key, open, small_journal, start, writable};

#[path = "support/batch.rs"]
mod batch;
#[path = "support/places.rs"]
mod places;
mod support;

const SECTOR: usize = 512;
/// Of each record in a batch: longer than two sectors, so that some lie whole in one.
const REASON_BYTES: usize = 1500;

/// Four records behind a small journal in one write, or in four, of which each but the first knows
/// the one before it to be on disk; where they begin, and their bytes.
fn with_batch(path: &Path, writes: u64) -> (u64, Vec<u8>) {
    let segment = small_journal(path);
    let (_, end) = places(path);
    let mut next = NextBatch::of(path);
    let before = next.tree.size();
    let mut batch = Vec::new();
    for number in 0..4 {
        next.record(&"x".repeat(REASON_BYTES), &mut batch);
        if writes == 4 {
            next.checkpoint(before + number, &mut batch);
        }
    }
    if writes == 1 {
        next.checkpoint(before, &mut batch);
    }
    writable(&segment).write_all_at(&batch, end).unwrap();
    (end, batch)
}

/// Opens it, knowing how far it once went.
fn open_knowing(path: &Path, log: LogId, head: Head) -> Result<Opened, OpenError> {
    let mut keys = AuditKeys::default();
    keys.add(key().public().clone());
    Opened::open(path, key().into(), &keys, Some((log, head)))
}

/// The file's whole sectors in `batch`, which begins at `end`, as places in it.
fn sectors(end: u64, batch: &[u8]) -> Vec<usize> {
    let first = SECTOR - usize::try_from(end).unwrap() % SECTOR;
    (first..).step_by(SECTOR).take_while(|at| at + SECTOR <= batch.len()).collect()
}

#[test]
fn a_write_of_which_any_sector_never_came_is_cut_whole() {
    let scratch = Scratch::new("sectors");
    let (end, batch) = with_batch(&scratch.0, 1);
    let before = open(&scratch.0).unwrap().head().size - 4;
    let segment = segments(&scratch.0).unwrap().remove(0).path;
    let file = writable(&segment);
    let sectors = sectors(end, &batch);
    assert!(sectors.len() > 8);
    for missing in sectors {
        file.write_all_at(&[0; SECTOR], end + missing as u64).unwrap();
        let opened = open(&scratch.0).unwrap();
        assert_eq!(opened.head().size, before, "sector at {missing}");
        assert!(opened.cut().is_some(), "sector at {missing}");
        drop(opened);
        file.write_all_at(&batch, end).unwrap();
    }
    assert_eq!(open(&scratch.0).unwrap().head().size, before + 4);
}

#[test]
fn what_a_later_checkpoint_knows_to_be_on_disk_is_never_cut() {
    let scratch = Scratch::new("acknowledged");
    let (end, batch) = with_batch(&scratch.0, 4);
    let segment = segments(&scratch.0).unwrap().remove(0).path;
    let file = writable(&segment);
    let write = batch.len() / 4;
    // The fourth is whole, so it tells.
    for missing in sectors(end, &batch).into_iter().filter(|at| at + SECTOR <= 3 * write) {
        file.write_all_at(&[0; SECTOR], end + missing as u64).unwrap();
        let error = open(&scratch.0).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "sector at {missing}: {error}");
        file.write_all_at(&batch, end).unwrap();
    }
}

#[test]
fn what_is_known_from_elsewhere_to_have_been_on_disk_is_never_cut() {
    let scratch = Scratch::new("claimed");
    let (end, batch) = with_batch(&scratch.0, 1);
    let segment = segments(&scratch.0).unwrap().remove(0).path;
    let whole = open(&scratch.0).unwrap();
    let (log, head) = (whole.log(), whole.head());
    drop(whole);
    let torn = [&batch[..2000], &vec![0; batch.len() - 2000][..]].concat();
    writable(&segment).write_all_at(&torn, end).unwrap();
    let before = fs::read(&segment).unwrap();
    let error = open_knowing(&scratch.0, log, head).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(fs::read(&segment).unwrap(), before, "it was cut");
    // All of it gone: there is nothing to be cut, and it is behind.
    writable(&segment).write_all_at(&vec![0; batch.len()], end).unwrap();
    let error = open_knowing(&scratch.0, log, head).unwrap_err();
    assert!(matches!(error, OpenError::Behind { .. }), "{error}");
    // Another log of that size knows nothing of this one.
    let other = LogId::new([9; 16]);
    let error = open_knowing(&scratch.0, other, head).unwrap_err();
    assert!(matches!(error, OpenError::Behind { .. }), "{error}");
    writable(&segment).write_all_at(&batch, end).unwrap();
    assert_eq!(open_knowing(&scratch.0, log, head).unwrap().head(), head);
    let otherwise = Head { root: TreeHash::empty(), ..head };
    let error = open_knowing(&scratch.0, log, otherwise).unwrap_err();
    assert!(matches!(error, OpenError::Behind { .. }), "{error}");
}

#[test]
fn what_an_idle_writer_stated_to_be_on_disk_is_never_cut_and_missed_by_verify() {
    let scratch = Scratch::new("stated");
    let (end, _) = with_batch(&scratch.0, 1);
    let segment = segments(&scratch.0).unwrap().remove(0).path;
    // Its stop states all that is there.
    start(open(&scratch.0).unwrap()).stop("the test").unwrap();
    let whole = fs::read(&segment).unwrap();
    let stated = fs::read(scratch.0.join(STATED)).unwrap();
    // The end is gone, at the first byte of a write or inside it: alone, that looks like a crash.
    for kept in [0, 2000] {
        let mut cut = whole.clone();
        cut[usize::try_from(end).unwrap() + kept..].fill(0);
        fs::write(&segment, &cut).unwrap();
        fs::write(scratch.0.join(STATED), &stated).unwrap();
        let defect = verify(&scratch.0, &Options::default(), |_| ()).unwrap().defect.unwrap();
        assert!(defect.what.contains("the writer's own statement"), "{defect}");
        match (kept, open(&scratch.0).unwrap_err()) {
            (0, OpenError::Behind { .. }) | (_, OpenError::Damaged { .. }) => {}
            (_, error) => panic!("{kept}: {error}"),
        }
        assert_eq!(fs::read(&segment).unwrap(), cut, "{kept}: it was cut");
        fs::remove_file(scratch.0.join(STATED)).unwrap();
        assert_eq!(open(&scratch.0).unwrap().cut().is_some(), kept > 0);
    }
}

#[test]
fn a_change_inside_a_write_that_no_disk_makes_is_damage() {
    let scratch = Scratch::new("changed");
    let (end, batch) = with_batch(&scratch.0, 1);
    let segment = segments(&scratch.0).unwrap().remove(0).path;
    let file = writable(&segment);
    for at in (0..batch.len()).step_by(97) {
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
    let (segment, end, batch) = batch::with_batch(&scratch.0, SEGMENT, &[32_000; 170]);
    assert!(batch.len() > 5 << 20);
    let (first, behind) = (open(&scratch.0).unwrap().head().size - 170, batch.len() as u64);
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
    assert_eq!(opened.head().size, first);
    let used = batch.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    assert!(used <= behind);
    assert_eq!((cut.bytes, cut.sha256.len()), (used, 64));
    drop(opened);
    assert!(fs::read(&segment).unwrap()[end as usize..].iter().all(|byte| *byte == 0));
}

fn intent(request_id: &str) -> Record<'_> {
    Record::Intent(Intent {
        algorithm: "ED25519_SHA_512",
        attempt: Some("0f"),
        caller: "spiffe://test/a",
        door: "mtls",
        input_digest: "sha256:00",
        justification: None,
        mode: "normal",
        region: Some("eu-test-1"),
        request_id,
        signer_kid: "k",
        traceparent: None,
        upstream: Some("aws-kms"),
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
            journal.begin_append(&Record::Freeze(Freeze { by: "uid 0", id: None, reason: &reason }))
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
                attempt: Some("0f-1"),
                caller: "spiffe://test/a",
                detail: "",
                door: "mtls",
                earlier_attempts: Vec::new(),
                input_digest: "sha256:00",
                intent: left_seq - 1,
                mode: "normal",
                reason: "indeterminate",
                region: Some("eu-test-1"),
                request_id: "done",
                signer_kid: "k",
                upstream: Some("aws-kms"),
                upstream_request_id: None,
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

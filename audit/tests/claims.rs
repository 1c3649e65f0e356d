//! Claims and tails: what anybody knows to have been on disk is not cut, whatever the tail looks like, and what
//! nobody knows is cut as before.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use audit::scan::segments;
use audit::{Claims, Known, OpenError, Opened};
use signing_core::journal::AuditKeys;
use signing_core::tree::{LogId, TreeHash};

use batch::with_batch;
use support::{SEGMENT_BYTES, Scratch, key, open, small_journal, writable};

#[path = "support/batch.rs"]
mod batch;
#[path = "support/places.rs"]
mod places;
mod support;

/// Where a claim comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    State,
    /// Told at the start, with the root or without.
    Told,
    Position,
    /// The peer, which is asked.
    Peer,
}

fn opened(path: &Path, known: Vec<Known>, ask: Option<Known>) -> (Result<Opened, OpenError>, bool) {
    let mut keys = AuditKeys::default();
    keys.add(key().public().clone());
    let was_asked = Cell::new(false);
    let answer = |_: LogId| {
        was_asked.set(true);
        ask.clone()
    };
    let claims = Claims { known, ask: Some(&answer) };
    (Opened::open(path, key().into(), &keys, claims), was_asked.get())
}

#[test]
fn no_tail_is_cut_that_anybody_knows_to_have_been_on_disk() {
    let scratch = Scratch::new("claims");
    let (segment, end, batch) = with_batch(&scratch.0, SEGMENT_BYTES, &[1500; 3]);
    let opened_whole = open(&scratch.0).unwrap();
    let (log, whole) = (opened_whole.log(), opened_whole.head());
    drop(opened_whole);
    writable(&segment).write_all_at(&vec![0; batch.len()], end).unwrap();
    let before = open(&scratch.0).unwrap().head();
    let kept = fs::read(&segment).unwrap();
    let torn = |from: usize, to: usize| {
        let mut torn = batch.clone();
        torn[from..to].fill(0);
        torn
    };
    // The second sector that lies whole in the write.
    let lost = usize::try_from(end.next_multiple_of(512) - end).unwrap() + 512;
    let tails = [
        ("cut short in a record", torn(2000, batch.len())),
        ("cut short before the checkpoint", torn(batch.len() - 100, batch.len())),
        ("a lost sector", torn(lost, lost + 512)),
    ];
    for (what, tail) in tails {
        let put = || {
            fs::write(&segment, &kept).unwrap();
            writable(&segment).write_all_at(&tail, end).unwrap();
        };
        for from in [From::State, From::Told, From::Position, From::Peer] {
            // The whole write; a part of it, of which no checkpoint is; and what is there without it.
            for (size, root) in [(whole.size, whole.root), (before.size + 1, TreeHash::empty())] {
                let known = |by| Known { log, size, root: Some(root), by };
                let (known, asked) = match from {
                    From::State => (vec![known("the state directory")], None),
                    From::Told => (vec![known("--known-head")], None),
                    From::Position => (vec![Known { root: None, ..known("--known-head") }], None),
                    From::Peer => (Vec::new(), Some(known("the emergency signer"))),
                };
                put();
                let was = fs::read(&segment).unwrap();
                let (found, _) = opened(&scratch.0, known, asked);
                let error = found.unwrap_err();
                let said = error.to_string();
                assert!(matches!(error, OpenError::Damaged { .. }), "{what}, {from:?}: {said}");
                let says = format!("record {size} is known to have been on disk");
                assert!(
                    said.contains(&says) && said.contains(" says so"),
                    "{what}, {from:?}: {said}"
                );
                assert_eq!(fs::read(&segment).unwrap(), was, "{what}, {from:?}: it was cut");
            }
            // Nobody claims more than is left.
            let known = |by| Known { log, size: before.size, root: Some(before.root), by };
            put();
            let (found, was_asked) = match from {
                From::Peer => opened(&scratch.0, Vec::new(), Some(known("the emergency signer"))),
                _ => opened(&scratch.0, vec![known("--known-head")], None),
            };
            let found = found.unwrap();
            assert!(found.cut().is_some() && found.head() == before, "{what}, {from:?}");
            assert!(was_asked, "{what}: what would be cut is asked about first");
        }
        // A claim about another log says nothing of this tail, and the peer may not answer at all.
        put();
        let other = Known { log: LogId::new([9; 16]), size: 99, root: None, by: "the peer" };
        let (found, _) = opened(&scratch.0, Vec::new(), Some(other));
        assert!(matches!(found, Err(OpenError::Behind { .. })), "{what}: {found:?}");
        put();
        assert!(opened(&scratch.0, Vec::new(), None).0.unwrap().cut().is_some(), "{what}");
    }

    // Nothing is there to be cut: nobody is asked, and a larger claim is refused all the same.
    let clean = Scratch::new("claims-clean");
    small_journal(&clean.0);
    let (found, was_asked) = opened(&clean.0, Vec::new(), None);
    assert!(found.is_ok() && !was_asked);
    fs::write(&segment, &kept).unwrap();
    let position = Known { log, size: whole.size, root: None, by: "--known-head" };
    let error = opened(&scratch.0, vec![position], None).0.unwrap_err().to_string();
    assert!(error.contains("(--known-head says so)"), "{error}");
    let otherwise =
        Known { log, size: before.size, root: Some(TreeHash::empty()), by: "--known-head" };
    let error = opened(&scratch.0, vec![otherwise], None).0.unwrap_err().to_string();
    assert!(error.contains("something else"), "{error}");
    assert_eq!(open(&scratch.0).unwrap().head(), before);
    assert_eq!(segments(&scratch.0).unwrap().len(), 1);
}

#[test]
fn a_head_is_told_as_records_and_sinks_name_it() {
    let (log, root) = ("0f".repeat(16), "a5".repeat(32));
    let known = Known::parse(&format!("{log}:7:{root}"), "it").unwrap();
    assert_eq!((known.log.to_string(), known.size, known.by), (log.clone(), 7, "it"));
    assert_eq!(known.root.map(|root| root.to_string()), Some(root.clone()));
    assert_eq!(Known::parse(&format!("{log}:7"), "it").unwrap().root, None);
    for wrong in
        ["", "7", &log, &format!("{log}:x"), &format!("{log}:7:a5"), &format!("{log}:7:{root}:")]
    {
        assert!(Known::parse(wrong, "it").is_err(), "{wrong}");
    }
}

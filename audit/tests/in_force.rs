//! What is frozen and sealed is known of the newest segment alone, however long ago it began.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;

use audit::scan::segments;
use signing_core::journal::{Gate, InForce, Record, Unfreeze, Unseal};

use filled::{fill_segments, note};
use support::{Scratch, open, small_journal, start};

mod filled;
#[expect(dead_code, reason = "other tests look at more of a journal")]
mod support;

fn found(scratch: &Scratch) -> (Option<String>, usize) {
    let InForce { freeze, seals, .. } = open(&scratch.0).unwrap().in_force().clone();
    (freeze.map(|freeze| freeze.reason), seals.len())
}

#[test]
fn i7_a_freeze_and_a_seal_of_a_segment_that_was_moved_away_are_in_force() {
    let scratch = Scratch::new("in-force");
    // Its last freeze has no end.
    small_journal(&scratch.0);
    let reason = "a longer reason, so that the records have several lengths".to_owned();
    assert_eq!(found(&scratch), (Some(reason), 0));
    // The proxy starts with what is in force; this start knows of nothing.
    let journal = start(open(&scratch.0).unwrap());
    let freeze =
        Record::Freeze(signing_core::journal::Freeze { by: "a", id: None, reason: "INC-1" });
    let (detail, from, signer_kid, to) = ("doubt", "open", "k", "sealed");
    let seal = Record::Gate(Gate { detail, from, signer_kid, to, upstream: None });
    note(&journal, &freeze);
    note(&journal, &seal);
    fill_segments(&journal, &scratch.0, 4);
    journal.stop("the test").unwrap();
    for old in &segments(&scratch.0).unwrap()[..3] {
        fs::remove_file(&old.path).unwrap();
    }
    assert_eq!(found(&scratch), (Some("INC-1".to_owned()), 1));
    let opened = open(&scratch.0).unwrap();
    let in_force = opened.in_force().clone();
    let journal = support::start_with(opened, &in_force);
    assert_eq!(in_force.seals.values().next().unwrap().detail, "doubt");
    let (by, reason) = ("b", "over");
    let (frozen_by, frozen_for, frozen_id) = ("a", "INC-1", None);
    let unfreeze = Unfreeze { by, frozen_by, frozen_for, frozen_id, reason };
    note(&journal, &Record::Unfreeze(unfreeze));
    fill_segments(&journal, &scratch.0, 2);
    let sealed_for = "doubt";
    let unseal = Unseal { by, reason: "r", sealed_for, signer_kid: Some("k") };
    note(&journal, &Record::Unseal(unseal));
    journal.stop("the test").unwrap();
    assert_eq!(found(&scratch), (None, 0));
}

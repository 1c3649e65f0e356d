//! Two journals that name each other: what one says has to be in the other one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

use audit::Journal;
use audit::compare::{Compared, compare};
use audit::verify::{KeptHead, Options, verify};
use signing_core::journal::{BreakglassEnded, Freeze, Head, Leaf, Record};
use signing_core::tree::TreeHash;

use support::{Scratch, open, small_journal, start};

#[expect(dead_code, reason = "other tests look at more of a journal")]
mod support;

/// Appends a record, and waits until it is on disk.
fn append(journal: &Journal, record: &Record<'_>) -> Leaf {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(journal.begin_append(record).unwrap().durable()).unwrap().leaf()
}

/// A record that names a head and a record of another journal.
fn names(journal: &Journal, head: &str, record: &str) {
    append(
        journal,
        &Record::BreakglassEnded(BreakglassEnded {
            by: "uid 0",
            detail: "over",
            emergency_kid: "e",
            incident: "INC-1",
            reason: "operator",
            session: "s-1",
            signer_head: Some(head),
            signer_record: Some(record),
        }),
    );
}

/// Two journals, of which the first names the second as it then was, and each head that `more` makes
/// of that one.
fn pair(name: &str, more: impl FnOnce(&str, Head) -> Vec<(String, String)>) -> (Scratch, Scratch) {
    let (first, second) = (Scratch::new(&format!("{name}-1")), Scratch::new(&format!("{name}-2")));
    small_journal(&first.0);
    small_journal(&second.0);
    let other = start(open(&second.0).unwrap());
    let log = other.log().to_string();
    let leaf = append(&other, &Record::Freeze(Freeze { by: "uid 0", id: None, reason: "named" }));
    let head = other.head();
    let journal = start(open(&first.0).unwrap());
    let good =
        (format!("{log}:{}:{}", head.size, head.root), format!("{log}:{}:{}", leaf.seq, leaf.hash));
    for (head, record) in [good].into_iter().chain(more(&log, head)) {
        names(&journal, &head, &record);
    }
    journal.stop("the test").unwrap();
    other.stop("the test").unwrap();
    (first, second)
}

fn found(first: &Scratch, second: &Scratch) -> Compared {
    compare(&first.0, 1, &second.0).unwrap()
}

fn defect(first: &Scratch, second: &Scratch) -> String {
    found(first, second).defect.unwrap().to_string()
}

#[test]
fn heads_and_records_that_are_there_are_found() {
    let (first, second) = pair("there", |_, _| Vec::new());
    let compared = found(&first, &second);
    assert_eq!((compared.found, compared.moved_away, compared.earlier), (2, 0, 0));
    assert_eq!(compared.defect, None);
    // The other one names nothing.
    assert_eq!(found(&second, &first).found, 0);
}

#[test]
fn another_root_or_leaf_is_a_defect_that_names_both() {
    let other = TreeHash::leaf(b"another");
    let (first, second) = pair("root", |log, head| {
        let root = format!("{log}:{}:{}", head.size, head.root);
        vec![(root, format!("{log}:2:{other}"))]
    });
    let said = defect(&first, &second);
    for part in ["the record 2:", "replaced", first.0.to_str().unwrap(), second.0.to_str().unwrap()]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (first, second) = pair("leaf", |log, head| {
        vec![(format!("{log}:{}:{other}", head.size), format!("{log}:1:{other}"))]
    });
    assert!(defect(&first, &second).contains("replaced"));
}

#[test]
fn a_journal_that_is_behind_or_another_one_is_found() {
    let (first, second) = pair("behind", |_, _| Vec::new());
    // As it was before: a copy without what was named since.
    let older = Scratch::new("behind-3");
    small_journal(&older.0);
    let said = defect(&first, &older);
    assert!(said.contains("it is another journal"), "{said}");
    let (ahead, behind) = pair("cut", |log, _| {
        let hash = TreeHash::leaf(b"cut");
        vec![(format!("{log}:900:{hash}"), format!("{log}:901:{hash}"))]
    });
    let said = defect(&ahead, &behind);
    for part in ["900:", "cut short", behind.0.to_str().unwrap()] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // What is no head at all.
    let (odd, other) = pair("odd", |log, _| vec![(format!("{log}:x:y"), format!("{log}:1"))]);
    assert!(defect(&odd, &other).contains("names no journal"));
    assert!(second.0.exists());
}

#[test]
fn a_head_that_was_kept_with_its_log_is_asked_for() {
    let (first, second) = pair("kept", |_, _| Vec::new());
    let (log, size) = (open(&second.0).unwrap().log(), 3);
    let verdict = |directory: &Path, head: Head| {
        let kept = [KeptHead { whose: "the note".to_owned(), log: Some(log), head }];
        let options = Options { heads: &kept, ..Options::default() };
        let defect = verify(directory, &options, |_| ()).unwrap().defect;
        defect.map(|defect| defect.to_string())
    };
    let head = verify(&second.0, &Options::default(), |_| ()).unwrap().head.unwrap();
    assert_eq!(verdict(&second.0, head), None);
    let said = verdict(&second.0, Head { size, ..head }).unwrap();
    assert!(said.contains("the note has"), "{said}");
    let said = verdict(&second.0, Head { size: 900, ..head }).unwrap();
    assert!(said.contains("the note says that it was"), "{said}");
    let said = verdict(&first.0, head).unwrap();
    assert!(said.contains("another journal took its place"), "{said}");
    assert!(fs::read_dir(&first.0).unwrap().next().is_some());
}

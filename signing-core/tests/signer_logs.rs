//! Which log of an emergency signer a proxy believes, by what its own journal tells.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use signing_core::journal::{
    Acceptance, Head, InForce, Kind, NotBelieved, PeerLog, PeerLogs, Record, SignerLogRecord,
};
use signing_core::tree::{
    Checkpoint, ExtensionError, Frontier, LogId, TreeHash, node_place, prove_extension,
};
use time::OffsetDateTime;

const ONE: LogId = LogId::new([1; 16]);
const TWO: LogId = LogId::new([2; 16]);

/// The checkpoint of a log of so many records, from number `from` on others than its namesake's.
fn at(log: LogId, size: u64, from: u64) -> Checkpoint {
    Checkpoint { log, size, root: grown(size, from).0.root() }
}

fn grown(size: u64, from: u64) -> (Frontier, Vec<TreeHash>) {
    let (mut tree, mut row) = (Frontier::default(), Vec::new());
    for number in 0..size {
        let body = if number < from { format!("{number}") } else { format!("other {number}") };
        tree.push_each(TreeHash::leaf(body.as_bytes()), |hash| row.push(hash));
    }
    (tree, row)
}

fn path(old: u64, new: u64, from: u64) -> Vec<TreeHash> {
    let row = grown(new, from).1;
    let node = |level, number| row.get(usize::try_from(node_place(level, number)?).ok()?).copied();
    prove_extension(old, new, &mut { node }).unwrap()
}

fn log(instance: u8, checkpoint: &Checkpoint) -> PeerLog {
    let instance = hex::encode([instance; 32]);
    PeerLog { instance, log: checkpoint.log, head: Head::of(checkpoint) }
}

#[test]
fn i7_a_log_is_believed_if_it_goes_on_and_the_first_is() {
    let mut known = PeerLogs::default();
    assert_eq!(known.judge(&at(ONE, 5, 99), Some(&[])), Ok(Acceptance::First));
    known.learn(log(1, &at(ONE, 5, 99)), Acceptance::First);
    // On, and not at all.
    assert_eq!(known.judge(&at(ONE, 9, 99), Some(&path(5, 9, 99))), Ok(Acceptance::Extends));
    assert_eq!(known.judge(&at(ONE, 5, 99), Some(&[])), Ok(Acceptance::Extends));
    assert_eq!(known.judge(&at(ONE, 9, 99), None), Err(NotBelieved::NoProof(5)));
    let shorter = ExtensionError::Shorter { known: 5, found: 4 };
    assert_eq!(known.judge(&at(ONE, 4, 99), Some(&[])), Err(shorter.into()));
    // Put back to before record 4, and grown since.
    for size in [5, 6, 9, 70] {
        let forked = known.judge(&at(ONE, size, 3), Some(&path(5, size, 3)));
        assert_eq!(forked, Err(ExtensionError::Other(5).into()), "{size}");
    }
    let unknown = NotBelieved::Unknown { log: TWO, size: 9 };
    assert_eq!(known.judge(&at(TWO, 9, 99), Some(&[])), Err(unknown));
}

#[test]
fn i7_what_was_accepted_takes_the_place_of_its_log_and_its_instance() {
    let mut known = PeerLogs::default();
    known.learn(log(1, &at(ONE, 5, 99)), Acceptance::First);
    // An audit key that was renewed: of the log counts what is largest.
    known.learn(log(2, &at(ONE, 9, 99)), Acceptance::Extends);
    assert_eq!(known.of_log(ONE), Some(&log(2, &at(ONE, 9, 99))));
    let (fork, anew) = (log(1, &at(ONE, 7, 3)), log(1, &at(TWO, 3, 99)));
    known.learn(fork.clone(), Acceptance::Accepted);
    assert_eq!(known.of_log(ONE), Some(&fork));
    known.learn(anew.clone(), Acceptance::Accepted);
    assert_eq!((known.of_log(ONE), known.of_log(TWO)), (None, Some(&anew)));
    assert_eq!(known.nearest(&"3".repeat(64), ONE), Some(&anew));
    for number in 10..30 {
        known.learn(log(number, &at(LogId::new([number; 16]), 1, 0)), Acceptance::Accepted);
    }
    assert_eq!(known.of_log(TWO), None, "only so many are known");
    assert!(known.of_log(LogId::new([29; 16])).is_some());
}

#[test]
fn records_tell_what_is_known() {
    let mut in_force = InForce::default();
    let mut expected = PeerLogs::default();
    let known = [
        (log(1, &at(ONE, 5, 99)), Acceptance::First),
        (log(1, &at(ONE, 9, 99)), Acceptance::Extends),
        (log(2, &at(TWO, 3, 99)), Acceptance::Accepted),
    ];
    for (known, how) in known {
        let body = body(&known.to_text(), how.word(), &known.instance);
        in_force.hear(Kind::SignerLog, &body).unwrap();
        expected.learn(known, how);
    }
    assert_eq!(in_force.signer_logs, expected);
    let (head, instance) = (log(1, &at(ONE, 5, 99)).to_text(), "1".repeat(64));
    for (head, how, instance) in [
        ("", "first", &*instance),
        (&*head.replace(":5:", ":05:"), "first", &instance),
        (&*head, "believed", &instance),
        (&*head, "first", "me"),
    ] {
        assert_eq!(
            in_force.hear(Kind::SignerLog, &body(head, how, instance)),
            None,
            "{head} {how}"
        );
    }
}

fn body(signer_head: &str, how: &str, signer_instance: &str) -> Vec<u8> {
    let (by, known, reason) = ("a", None, None);
    let record = SignerLogRecord { by, how, known, reason, signer_head, signer_instance };
    Record::SignerLog(record).encode(OffsetDateTime::UNIX_EPOCH).unwrap()
}

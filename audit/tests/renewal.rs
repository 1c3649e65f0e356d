//! An audit key that was replaced never comes back, even with the signature of the one in force.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::Path;

use audit::{OpenError, Opened, WriterKeys};
use signing_core::journal::AuditKeys;

use filled::fill_segments;
use support::{SEED, Scratch, key_of, small_journal, start};

mod filled;
#[expect(dead_code, reason = "other tests look at more of a journal")]
mod support;

const NEXT: [u8; 32] = [9; 32];

fn open(path: &Path, key: &[u8; 32], previous: &[u8; 32]) -> Result<Opened, OpenError> {
    let mut registered = AuditKeys::default();
    for seed in [&SEED, &NEXT] {
        registered.add(key_of(seed).public().clone());
    }
    let keys = WriterKeys { key: key_of(key), previous: Some(key_of(previous)) };
    Opened::open(path, keys, &registered, None)
}

#[test]
fn i7_a_replaced_audit_key_does_not_take_the_journal_back() {
    let scratch = Scratch::new("renewal");
    small_journal(&scratch.0);
    start(open(&scratch.0, &NEXT, &SEED).unwrap()).stop("the test").unwrap();
    let error = open(&scratch.0, &SEED, &NEXT).unwrap_err();
    assert!(matches!(error, OpenError::ReplacedKey { .. }), "{error}");
    // Nothing was written: the key in force goes on.
    let journal = start(open(&scratch.0, &NEXT, &SEED).unwrap());
    // Also when the handover lies in an older segment, which the start does not read.
    fill_segments(&journal, &scratch.0, 3);
    journal.stop("the test").unwrap();
    let error = open(&scratch.0, &SEED, &NEXT).unwrap_err();
    assert!(matches!(error, OpenError::ReplacedKey { .. }), "{error}");
    start(open(&scratch.0, &NEXT, &NEXT).unwrap()).stop("the test").unwrap();
}

//! A journal whose newest record is of a later time than now: the clock was ahead, or is behind.

use std::path::Path;
use std::thread;
use std::time::Duration;

use audit::{AuditKey, Clock, Identity, Observer, Opened};
use signing_core::Moment;
use signing_core::journal::{AuditKeys, InForce, Kind};
use time::OffsetDateTime;

/// Writes a start and a stop that are two hours ahead into a journal that nobody writes now.
pub(crate) fn record_of_later(journal: &Path, audit_kid: &str) {
    // It blocks, which a runtime's thread may not.
    thread::scope(|scope| scope.spawn(|| record(journal, audit_kid)).join().unwrap());
}

fn record(journal: &Path, audit_kid: &str) {
    let key = || AuditKey::load(&journal.with_file_name("audit.key")).unwrap();
    let mut keys = AuditKeys::default();
    keys.add(key().public().clone());
    let opened = Opened::open(journal, key().into(), &keys, None).unwrap();
    let wall = || OffsetDateTime::now_utc() + time::Duration::hours(2);
    let clock = Clock { now: || Moment::from_nanos(1), wall };
    let identity = Identity {
        deployment: "test",
        audit_kid,
        version: "1",
        required_trail: None,
        in_force: &InForce::default(),
    };
    let journal = opened.start(&identity, 1 << 20, clock, Box::new(Unheard)).unwrap();
    journal.stop("the test").unwrap();
}

/// Hears nothing of what a journal's writer does.
#[derive(Debug)]
pub(crate) struct Unheard;

impl Observer for Unheard {
    fn record(&mut self, _: Kind) {}
    fn appended(&mut self, _: Duration) {}
    fn synced(&mut self, _: Duration) {}
    fn batch(&mut self, _: usize) {}
}

//! A journal whose newest segment is nearly full, so that the next begins under load.

use std::path::PathBuf;

use audit::{AuditKey, Clock, Identity, Opened};
use signing_core::Moment;
use signing_core::journal::{AuditKeys, Gate, InForce, Record};
use system_tests::ProxyBuilder;
use system_tests::audit_key::AUDIT_KID;

use time::OffsetDateTime;

use super::Site;
use crate::later::Unheard;

/// The smallest segments there are.
pub(super) const SEGMENT_BYTES: u64 = 1 << 20;
/// Left of the first one: less than a load takes.
const LEFT_BYTES: u64 = 8 * 1024;
/// Of each record that fills it.
const REASON_BYTES: usize = 2 * 1024;

impl Site {
    /// Makes the proxy's journal, and fills its first segment nearly.
    pub(super) fn fill_segment(&self) {
        // It blocks, which a thread that drives a runtime may not.
        std::thread::scope(|scope| scope.spawn(|| fill(&self.proxy())).join()).unwrap();
    }

    /// Its directory and the files in it that have a name now.
    pub(super) fn journal_paths(&self) -> Vec<PathBuf> {
        let journal = self.journal();
        let next = journal.join("next");
        let mut paths = system_tests::journal::segments(&journal);
        paths.extend([journal, next]);
        paths
    }
}

fn fill(proxy: &ProxyBuilder<'_>) {
    // The command makes the journal.
    drop(proxy.command());
    let journal = proxy.journal();
    let key = || AuditKey::load(&journal.with_file_name("audit.key")).unwrap();
    let mut keys = AuditKeys::default();
    keys.add(key().public().clone());
    let opened = Opened::open(&journal, key().into(), &keys, None).unwrap();
    let clock = Clock { now: || Moment::from_nanos(1), wall: || OffsetDateTime::UNIX_EPOCH };
    let identity = Identity {
        deployment: "test",
        audit_kid: AUDIT_KID,
        version: "1",
        required_trail: None,
        in_force: &InForce::default(),
    };
    let journal = opened.start(&identity, SEGMENT_BYTES, clock, Box::new(Unheard)).unwrap();
    let reason = "x".repeat(REASON_BYTES);
    // Of this segment and the next one.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    // Each is waited for: what is kept for checkpoints that do not come is given back then.
    while journal.space().set_aside > LEFT_BYTES + REASON_BYTES as u64 + SEGMENT_BYTES {
        let gate = Record::Gate(Gate {
            detail: &reason,
            from: "open",
            signer_kid: "filler",
            to: "shut",
            upstream: None,
        });
        runtime.block_on(journal.begin_append(&gate).unwrap().durable()).unwrap();
    }
    journal.stop("it is nearly full").unwrap();
}

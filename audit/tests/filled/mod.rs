//! A journal of several segments.

use std::path::Path;
use std::thread;

use audit::scan::segments;
use audit::{Journal, JournalError};
use signing_core::journal::{Record, Reload, SignersChanged};

/// Writes until there are so many segments.
pub(crate) fn fill_segments(journal: &Journal, path: &Path, count: usize) {
    let by = "x".repeat(8 * 1024);
    while segments(path).unwrap().len() < count {
        note(
            journal,
            &Record::Reload(Reload {
                by: &by,
                generation: 1,
                key_modes: None,
                registry_sha256: "",
                signers: SignersChanged::default(),
            }),
        );
    }
}

/// Writes one record, which may have to wait for a segment that is being prepared.
pub(crate) fn note(journal: &Journal, record: &Record<'_>) {
    loop {
        match journal.note(record) {
            Ok(()) => return,
            Err(JournalError::Stalled(_)) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

//! A journal of several segments.

use std::path::Path;

use audit::scan::segments;
use audit::{Journal, Trouble};
use signing_core::journal::{Record, Reload};

/// Writes until there are so many segments.
pub(crate) fn fill_segments(journal: &Journal, path: &Path, count: usize) {
    let by = "x".repeat(8 * 1024);
    while segments(path).unwrap().len() < count {
        match journal.note(&Record::Reload(Reload { by: &by, generation: 1, registry_sha256: "" }))
        {
            Ok(()) | Err(Trouble::Stalled(_)) => {}
            Err(trouble) => panic!("{trouble}"),
        }
    }
}

//! The newest records of a journal as JSON lines, and what verifying them found: evidence for a bundle.

use std::path::Path;

use audit::walk::{Walk, WalkStep, newest};
use serde_json::Value;

use super::{Record, verify};

/// The newest records, as `audit tail --json` shows them.
///
/// # Errors
/// If the journal cannot be read.
pub(crate) fn newest_records(journal: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let last = newest(journal)?.size;
    let from = last.saturating_sub(most) + 1;
    let mut walk = Walk::open(journal, from)?;
    let mut lines = Vec::new();
    loop {
        match walk.step()? {
            WalkStep::Record(place) if place.leaf.seq > last => break,
            WalkStep::Record(place) if place.leaf.seq >= from => {
                let Some(record) = Record::read(&walk, place) else { continue };
                lines.extend_from_slice(record.to_json().to_string().as_bytes());
                lines.push(b'\n');
            }
            WalkStep::Record(_) | WalkStep::Sealed(_) => {}
            WalkStep::End | WalkStep::TornWrite(_) => break,
        }
    }
    Ok(lines)
}

/// What verifying the newest records found, and the defect if there is one.
///
/// # Errors
/// If nothing can be said about the journal.
pub(crate) fn verified(
    journal: &Path,
    signers: Option<&Path>,
    limit: u64,
) -> anyhow::Result<(Value, Option<String>)> {
    verify::newest(journal, signers, limit)
}

/// What verifying all of a journal found, and of the other one beside it: how much, or the defect. Without a
/// registry the keys count that the journals name.
///
/// # Errors
/// If nothing can be said about a journal.
pub(crate) fn verified_whole(
    journal: &Path,
    signers: Option<&Path>,
    with: Option<&Path>,
) -> anyhow::Result<Result<String, String>> {
    verify::whole(journal, signers, with)
}

//! All records of a journal, one after the other.

use std::path::Path;

use anyhow::anyhow;
use audit::walk::{Walk, WalkStep, newest};
use signing_core::journal::Kind;

use super::Record;

/// Reads the records that a journal has now, in their order. None is left out: one that cannot be read may
/// be the one that matters.
///
/// # Errors
/// If the journal, or a record of it, cannot be read. What came before was found.
pub(crate) fn each(journal: &Path, mut found: impl FnMut(Kind, &Record)) -> anyhow::Result<()> {
    let last = newest(journal)?.size;
    let mut walk = Walk::open(journal, 1)?;
    loop {
        match walk.step()? {
            WalkStep::Record(place) if place.leaf.seq > last => return Ok(()),
            WalkStep::Record(place) => {
                let seq = place.leaf.seq;
                let record = Record::read(&walk, place);
                let record = record.ok_or_else(|| {
                    anyhow!("record {seq} has a type that this version does not know")
                })?;
                let kind = Kind::parse(&record.outline.r#type);
                found(
                    kind.ok_or_else(|| anyhow!("record {seq} is of no kind that is known"))?,
                    &record,
                );
            }
            WalkStep::Sealed(_) => {}
            WalkStep::End | WalkStep::TornWrite(_) => return Ok(()),
        }
    }
}

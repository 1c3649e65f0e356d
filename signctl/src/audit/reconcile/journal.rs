//! A journal that is held against its rows.

use std::path::Path;

use anyhow::Context as _;
use audit::compare::compare;
use audit::verify::{Options, verify};
use serde_json::Value;
use signing_core::Registry;
use signing_core::journal::AuditKeys;
use trail::event::{Event, Owner};
use trail::plan::Position;
use trail::reconcile::{Found, Rows};
use trail::source::{Source, SourceOutput, identify};

use super::super::annotations::Annotations;

/// Rows that are read at once.
const ROWS_MAX: usize = 1_000;

/// A journal that was held against its rows.
pub(super) struct ReconciledJournal {
    pub(super) log: String,
    /// The oldest record that is here.
    pub(super) oldest: u64,
    /// The newest record that the checkpoint rows cover which are as the journal says, and the position too.
    pub(super) covered: u64,
    /// What the policy service was to be asked about.
    pub(super) annotations: Annotations,
}

/// A journal, as far as it is known to be on disk.
#[derive(Clone, Copy)]
pub(super) struct Journal<'p> {
    pub(super) owner: Owner,
    pub(super) path: &'p Path,
    /// Whose it is, where journals of several members are given.
    pub(super) member: Option<&'p str>,
}

/// Whether two journals name each other rightly; what is not so is a gap of the one that names.
pub(super) fn each_names_the_other(
    (proxy, of_proxy): (&Path, &mut Found),
    (signer, of_signer): (&Path, &mut Found),
) -> anyhow::Result<()> {
    for (one, other, found) in [(proxy, signer, of_proxy), (signer, proxy, of_signer)] {
        let from = identify(one)?.1;
        if let Some(defect) = compare(one, from, other)?.defect {
            found.gap(defect.to_string());
        }
    }
    Ok(())
}

impl Journal<'_> {
    /// Its log, as rows name it.
    pub(super) fn origin(&self) -> anyhow::Result<String> {
        Ok(identify(self.path).context(self.owner.word())?.0.origin())
    }

    pub(super) fn is_sound(
        &self,
        registry: &Registry,
        is_copy: bool,
        found: &mut Found,
    ) -> anyhow::Result<()> {
        let options = Options { registry: Some(registry), is_copy, ..Options::default() };
        let report = verify(self.path, &options, |_| {})?;
        if let Some(defect) = report.defect {
            found.gap(defect.to_string());
        }
        Ok(())
    }

    pub(super) fn known(&self, positions: &[(String, Position)]) -> Option<Position> {
        let origin = identify(self.path).ok()?.0.origin();
        positions.iter().find(|(log, _)| *log == origin).map(|(_, position)| *position)
    }

    /// The newest record that is known to be on disk. What the rows hold has to be there, unless the journal
    /// is a copy that may be older than they are.
    pub(super) fn on_disk(
        &self,
        registry: &Registry,
        known: &[(String, Position)],
        is_copy: bool,
    ) -> anyhow::Result<u64> {
        let known = self.known(known).unwrap_or_else(Position::begin);
        if is_copy {
            let size = self.end(registry, self.beginning(registry)?)?;
            if size < known.shipped {
                return Ok(size);
            }
        }
        self.end(registry, known)
    }

    /// The newest record that is known to be on disk, read from a position on.
    fn end(&self, registry: &Registry, position: Position) -> anyhow::Result<u64> {
        let mut source = self.source(registry, position)?;
        let mut size = position.shipped;
        loop {
            source.read(ROWS_MAX)?;
            let mut is_end = true;
            while let Some(write) = source.take_write() {
                (is_end, size) = (false, write.checkpoint.checkpoint().size);
            }
            if is_end {
                return Ok(size);
            }
        }
    }

    /// The position before the oldest record that is here. What was moved away is not here to be held
    /// against anything.
    fn beginning(&self, registry: &Registry) -> anyhow::Result<Position> {
        let (_, oldest) = identify(self.path).context(self.owner.word())?;
        let mut position = Position::begin();
        if oldest > 1 {
            position.shipped = oldest - 1;
            position.root = self.source(registry, position)?.root_before()?;
        }
        Ok(position)
    }

    fn source(&self, registry: &Registry, position: Position) -> anyhow::Result<Source> {
        let keys = AuditKeys::of_registry(registry);
        Ok(Source::open(self.path, self.owner, keys, SourceOutput::Rows, position)?)
    }

    /// Holds the journal against its rows. Nobody signs positions: what one says only makes it stricter.
    pub(super) fn against(
        &self,
        registry: &Registry,
        rows: &mut Rows,
        positions: &[(String, Position)],
        target: u64,
        found: &mut Found,
    ) -> anyhow::Result<ReconciledJournal> {
        let (log, oldest) = identify(self.path).context(self.owner.word())?;
        let origin = log.origin();
        let position = self.beginning(registry)?;
        let known = self.known(positions).unwrap_or_else(Position::begin);
        let mut source = self.source(registry, position)?;
        if rows.are_of_copies() {
            source = source.as_copy();
        }
        let mut first = position.shipped + 1;
        // All up to here has its rows, whichever of the two says so.
        let held = known.shipped.max(rows.reach(&origin));
        let mut annotations = Annotations::of(&origin, oldest == 1, held);
        loop {
            source.read(ROWS_MAX)?;
            let mut is_end = true;
            while let Some(write) = source.take_write() {
                is_end = false;
                let size = write.checkpoint.checkpoint().size;
                let seq = |event: &Event| event.payload.get("seq").and_then(Value::as_u64);
                for event in write.events {
                    if seq(&event).is_some_and(|seq| seq <= held) {
                        rows.record(&event, found);
                        annotations.expect(self.owner, &event);
                    }
                }
                let begins = oldest > 1 && first == oldest;
                let note = write.checkpoint.note();
                if rows.checkpoint(&origin, size, note, (first, begins), found) {
                    first = size + 1;
                }
            }
            if is_end {
                break;
            }
        }
        let shown = first - 1;
        let is_shown = shown >= target || rows.go_beyond(&origin, first, target);
        if !is_shown || known.covered < target {
            let shown = if is_shown { target } else { shown };
            let (from, word) = (known.covered.min(shown) + 1, self.owner.word());
            found.gap(format!("records {from} to {target} of {word} are not covered by a row"));
        }
        Ok(ReconciledJournal {
            log: origin,
            oldest,
            covered: shown.min(known.covered),
            annotations,
        })
    }
}

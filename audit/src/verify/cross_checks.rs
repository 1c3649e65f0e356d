//! What records say of each other: every outcome has its intent, every intent at most one
//! outcome, what is withheld was signed, and the leaves of a batch fit together.

use std::collections::BTreeSet;

use super::leaves::{Leaf, Leaves};

/// A `withheld` names a `signed` record at most so far back; one further back is not judged.
const WINDOW: usize = 1 << 17;

/// A record that others name, or that names another.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) seq: u64,
    /// Where it begins in its file.
    pub(super) at: u64,
    pub(super) what: LinkedRecord,
}

/// What it says.
#[derive(Debug)]
pub(super) enum LinkedRecord {
    Start { deployment: String },
    Intent,
    Signed { intent: u64, leaf: Option<Box<Leaf>> },
    Failed { intent: u64 },
    Withheld { signed: u64 },
}

/// The records so far, as little of them as is needed.
pub(super) struct CrossChecks {
    /// The first record that was read: of those before nothing is known.
    from: u64,
    open: BTreeSet<u64>,
    /// The newest `signed` records that are not withheld, each at its number's remainder.
    signed: Vec<u64>,
    leaves: Leaves,
}

impl CrossChecks {
    /// A story that begins at record `from`.
    pub(super) fn new(from: u64) -> Self {
        Self { from, open: BTreeSet::new(), signed: vec![0; WINDOW], leaves: Leaves::default() }
    }

    /// Takes the next record, or says what is wrong with it.
    pub(super) fn tell(&mut self, event: &Event) -> Result<(), String> {
        match &event.what {
            LinkedRecord::Start { deployment } => self.leaves.start(deployment),
            LinkedRecord::Intent => {
                self.open.insert(event.seq);
            }
            LinkedRecord::Failed { intent } => self.conclude(*intent)?,
            LinkedRecord::Signed { intent, leaf } => {
                self.conclude(*intent)?;
                if let Some(leaf) = leaf {
                    self.leaves.take(event.seq, leaf)?;
                }
                if let Some(slot) = self.slot(event.seq) {
                    *slot = event.seq;
                }
            }
            LinkedRecord::Withheld { signed } => self.withhold(*signed, event.seq)?,
        }
        Ok(())
    }

    /// Intents without outcome.
    pub(super) fn open_intents(&self) -> u64 {
        self.open.len() as u64
    }

    fn conclude(&mut self, intent: u64) -> Result<(), String> {
        if intent < self.from || self.open.remove(&intent) {
            return Ok(());
        }
        Err(format!(
            "it is the outcome of record {intent}, which is no intent before it or has an outcome"
        ))
    }

    fn withhold(&mut self, signed: u64, seq: u64) -> Result<(), String> {
        let is_known = signed >= self.from && seq.saturating_sub(signed) < WINDOW as u64;
        match self.slot(signed) {
            Some(slot) if *slot == signed => *slot = 0,
            _ if is_known => {
                return Err(format!(
                    "it withholds record {signed}, which is no `signed` before it or is withheld"
                ));
            }
            _ => {}
        }
        Ok(())
    }

    fn slot(&mut self, seq: u64) -> Option<&mut u64> {
        self.signed.get_mut(usize::try_from(seq % WINDOW as u64).ok()?)
    }
}

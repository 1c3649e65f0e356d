//! Rows held against each other and against the registry: links, hashes, signatures, order, columns
//! against the payload, checkpoints and records. Pure: rows come one by one, in the order of their
//! times.
//!
//! Others may write to the same table. What is wrong with a row that is the trail's is a defect. A
//! fork that a foreign writer made, by linking to a head that was no longer the newest, is reported
//! apart.

mod logs;
mod row;

use std::collections::VecDeque;

use signing_core::Registry;
use signing_core::journal::AuditKeys;
use time::OffsetDateTime;

use crate::plan::Position;
use crate::postgres::Stored;
use crate::shape::Shape;

use logs::Logs;
pub(crate) use logs::is_record;
pub use row::RowCheck;
use row::Seen;

/// Rows whose hashes are remembered, to tell a fork from a row that is gone.
const REMEMBERED: usize = 1024;
/// Forks that are named; more are counted.
const FORKS_NAMED: usize = 8;

/// What is wrong, with the row that it is about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row}: {what}")]
pub struct Defect {
    /// Its id, or its number in the order of time where it has none.
    pub row: String,
    /// To end the sentence.
    pub what: String,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Rows.
    pub rows: u64,
    /// Of them the trail's.
    pub ours: u64,
    /// Of them others' whose signer the registry does not have: their signatures were not checked.
    pub unknown: u64,
    /// Forks by others.
    pub forks: u64,
    /// The first of them.
    pub named: Vec<String>,
    /// The first defect.
    pub defect: Option<Defect>,
}

/// A row that was passed.
struct Passed {
    hash: [u8; 32],
    is_ours: bool,
}

/// Takes rows one by one.
pub struct Verifier<'r> {
    alone: RowCheck<'r>,
    logs: Logs,
    /// Whether the first row is the first of the table.
    is_whole: bool,
    passed: VecDeque<Passed>,
    newest: Option<OffsetDateTime>,
    found: Found,
}

impl<'r> Verifier<'r> {
    /// Of a table from its first row on, or of its newest rows only.
    #[must_use]
    pub fn new(registry: &'r Registry, is_whole: bool, shape: Shape) -> Self {
        Self {
            alone: RowCheck::new(registry, shape),
            logs: Logs::new(AuditKeys::of_registry(registry), is_whole),
            is_whole,
            passed: VecDeque::new(),
            newest: None,
            found: Found::default(),
        }
    }

    /// Takes the next row; whether to go on.
    pub fn take(&mut self, row: &Stored) -> bool {
        self.found.rows += 1;
        let name =
            row.id.clone().unwrap_or_else(|| format!("{} in the order of time", self.found.rows));
        if let Err(what) = self.check(row, &name) {
            self.found.defect = Some(Defect { row: name, what });
        }
        self.found.defect.is_none()
    }

    /// The end of the rows. `positions` says, by log, how far the trail brought each: rows that were cut
    /// off the end are missed by it.
    #[must_use]
    pub fn finish(mut self, positions: &[(String, Position)]) -> Found {
        if self.found.defect.is_none()
            && let Some(what) = self.logs.finish(positions)
        {
            self.found.defect = Some(Defect { row: "after the last".to_owned(), what });
        }
        self.found
    }

    fn check(&mut self, row: &Stored, name: &str) -> Result<(), String> {
        let Seen { ours, prev, hash, is_signer_known } = self.alone.sealed(row)?;
        let is_ours = ours.is_some();
        self.found.unknown += u64::from(!is_signer_known);
        self.is_linked(prev, is_ours, name)?;
        self.is_in_order(row, is_ours)?;
        if let Some(members) = ours {
            self.found.ours += 1;
            self.alone.columns_fit(row, members)?;
            self.logs.take(members)?;
        }
        self.passed.push_back(Passed { hash, is_ours });
        if self.passed.len() > REMEMBERED {
            self.passed.pop_front();
        }
        Ok(())
    }

    /// The row before it is the one that it names, or a foreign writer forked the chain.
    fn is_linked(
        &mut self,
        prev: Option<[u8; 32]>,
        is_ours: bool,
        name: &str,
    ) -> Result<(), String> {
        let Some(last) = self.passed.back() else {
            return match prev {
                Some(_) if self.is_whole => {
                    Err("it is the first, and names a row before it: that is gone".to_owned())
                }
                _ => Ok(()),
            };
        };
        if prev == Some(last.hash) {
            return Ok(());
        }
        // Where in what was passed it links to, and who came between.
        let at = self.passed.iter().rposition(|passed| prev == Some(passed.hash));
        let is_foreign_between =
            at.is_some_and(|at| self.passed.iter().skip(at + 1).all(|passed| !passed.is_ours));
        let is_fork = if is_ours {
            at.is_some() && is_foreign_between
        } else {
            at.is_some() || prev.is_none()
        };
        if is_fork {
            self.found.forks += 1;
            if self.found.named.len() < FORKS_NAMED {
                self.found.named.push(name.to_owned());
            }
            return Ok(());
        }
        Err("its prev_hash is not the hash of the row before it: a row was deleted, added, moved or changed there".to_owned())
    }

    fn is_in_order(&mut self, row: &Stored, is_ours: bool) -> Result<(), String> {
        let at = row.at.ok_or("its time is NULL")?;
        if is_ours && self.newest.is_some_and(|newest| at <= newest) {
            return Err("its time is not after that of the row before it".to_owned());
        }
        self.newest = Some(at);
        Ok(())
    }
}

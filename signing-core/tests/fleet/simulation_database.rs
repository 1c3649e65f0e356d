//! The database between the members: rows that anybody may have written, and what a liar makes of them.

use std::collections::{BTreeMap, BTreeSet};

use signing_core::fleet::FreezeId;

use crate::people::Signature;
use crate::simulation::Random;

/// Freezes that one statement may list.
const ENDS_MAX: usize = 32;

/// A row of `fleet_statements`.
#[derive(Clone, Debug)]
pub(crate) enum Row {
    Freeze(FreezeId),
    Unfreeze { bytes: Vec<u8>, signature: Signature },
}

#[derive(Debug, Default)]
pub(crate) struct Database {
    pub(crate) rows: Vec<Row>,
    pub(crate) backups: Vec<Vec<Row>>,
    /// What each member said last that it holds.
    pub(crate) held: BTreeMap<usize, BTreeSet<FreezeId>>,
}

impl Database {
    pub(crate) fn freezes(rows: &[Row]) -> BTreeSet<FreezeId> {
        let id = |row: &Row| match row {
            Row::Freeze(id) => Some(*id),
            Row::Unfreeze { .. } => None,
        };
        rows.iter().filter_map(id).collect()
    }

    pub(crate) fn post(&mut self, id: FreezeId) {
        if !Self::freezes(&self.rows).contains(&id) {
            self.rows.push(Row::Freeze(id));
        }
    }

    pub(crate) fn remove(&mut self, ended: &[FreezeId]) {
        self.rows.retain(|row| !matches!(row, Row::Freeze(id) if ended.contains(id)));
    }

    pub(crate) fn restore(&mut self, random: &mut Random) {
        if !self.backups.is_empty() {
            self.rows = self.backups[random.index(self.backups.len())].clone();
        }
    }

    /// What a liar shows: rows left out, repeated, in another order, and signatures under bytes that
    /// nobody signed.
    pub(crate) fn lie(&self, random: &mut Random, invented: FreezeId) -> Vec<Row> {
        let mut shown: Vec<Row> = Vec::new();
        for row in &self.rows {
            for _ in 0..random.below(3) {
                let at = random.index(shown.len() + 1);
                shown.insert(at, row.clone());
            }
        }
        if random.below(4) == 0 {
            shown.push(Row::Freeze(invented));
        }
        // Somebody's signature, over a document that ends as much of what is shown as one can list.
        let everything = Self::freezes(&self.rows);
        let signatures: Vec<_> = self.rows.iter().filter_map(Row::signature).cloned().collect();
        if !everything.is_empty() && !signatures.is_empty() && random.below(2) == 0 {
            let ends: Vec<_> = everything.into_iter().take(ENDS_MAX).collect();
            let bytes = crate::people::draft(&ends, crate::people::NOW, 80_000).to_bytes().unwrap();
            let signature = signatures[random.index(signatures.len())].clone();
            shown.insert(0, Row::Unfreeze { bytes, signature });
        }
        shown
    }

    pub(crate) fn held_by_others(&self, than: usize) -> BTreeSet<FreezeId> {
        let others = self.held.iter().filter(|(node, _)| **node != than);
        others.flat_map(|(_, held)| held).copied().collect()
    }
}

impl Row {
    fn signature(&self) -> Option<&Signature> {
        match self {
            Self::Freeze(_) => None,
            Self::Unfreeze { signature, .. } => Some(signature),
        }
    }
}

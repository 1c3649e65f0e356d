//! What the agent of a member does to the database: it posts again what its member holds, and removes
//! what people ended and nobody holds.

use std::collections::BTreeSet;

use crate::freeze_id::FreezeId;

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errands {
    /// Freezes that the member holds and the database has not: it was restored, or somebody deleted
    /// them.
    pub post: Vec<FreezeId>,
    /// Freezes that the member knows to be ended, by a statement that it verified itself, and that no
    /// other member holds: a member that is created later does not have to hear of them.
    pub remove: Vec<FreezeId>,
}

/// Decides what is to be done, of what the member and the database say.
#[must_use]
pub fn errands(
    held: &BTreeSet<FreezeId>,
    ended: &BTreeSet<FreezeId>,
    rows: &BTreeSet<FreezeId>,
    held_by_others: &BTreeSet<FreezeId>,
) -> Errands {
    let is_over = |id: &&FreezeId| !held.contains(id) && !held_by_others.contains(id);
    Errands {
        post: held.difference(rows).copied().collect(),
        remove: rows.intersection(ended).filter(is_over).copied().collect(),
    }
}

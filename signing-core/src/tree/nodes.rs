//! The nodes of a tree in one row, to be kept in a file that only grows: behind each leaf stand the
//! nodes above it that it completes, the lowest first. Whoever has the row finds each node of the tree, as
//! [`super::prove_extension`] needs them.

use super::frontier::Frontier;
use super::hash::TreeHash;

/// How many nodes a tree of `size` leaves has in the row.
#[must_use]
pub const fn nodes_of(size: u64) -> u64 {
    // A perfect subtree of n leaves has 2 n - 1 nodes, and there is one for each bit of the size.
    size.saturating_mul(2).saturating_sub(size.count_ones() as u64)
}

/// The place in the row of the root over the perfect subtree of 2^level leaves with that number.
/// None: no tree is so large.
#[must_use]
pub fn node_place(level: u32, number: u64) -> Option<u64> {
    // It is completed by its last leaf, and stands so many places behind it.
    let next = number.checked_add(1)?.checked_mul(1_u64.checked_shl(level)?)?;
    next.checked_mul(2)?;
    Some(nodes_of(next - 1) + u64::from(level))
}

/// The largest tree whose nodes are all among the first `nodes` of the row.
#[must_use]
pub fn size_with(nodes: u64) -> u64 {
    // A tree has at least as many nodes as leaves, and less than twice as many.
    let mut size = nodes / 2;
    while nodes_of(size + 1) <= nodes {
        size += 1;
    }
    size
}

impl Frontier {
    /// Adds the next leaf; `hear` hears it and the nodes that it completes, as they stand in the row.
    pub fn push_each(&mut self, leaf: TreeHash, mut hear: impl FnMut(TreeHash)) {
        hear(leaf);
        self.join(leaf, &mut hear);
    }
}

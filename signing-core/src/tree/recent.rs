//! The leaves that came since a frontier: enough to prove that each of them is in the tree,
//! without one byte of what came before.

use super::frontier::Frontier;
use super::hash::TreeHash;

/// A tree of which the newest leaves are known one by one.
#[derive(Clone, Debug)]
pub struct Recent {
    before: Frontier,
    leaves: Vec<TreeHash>,
    now: Frontier,
}

impl Recent {
    /// Nothing came yet.
    #[must_use]
    pub fn since(before: Frontier) -> Self {
        Self { now: before.clone(), before, leaves: Vec::new() }
    }

    /// Adds the next leaf.
    pub fn push(&mut self, leaf: TreeHash) {
        self.leaves.push(leaf);
        self.now.push(leaf);
    }

    /// The tree with all of them.
    #[must_use]
    pub const fn now(&self) -> &Frontier {
        &self.now
    }

    /// Forgets the leaves one by one: from now on only later ones can be proved.
    pub fn forget(&mut self) {
        self.before.clone_from(&self.now);
        self.leaves.clear();
    }

    /// The inclusion path of the leaf with this index, the sibling of the leaf first (RFC 6962,
    /// section 2.1.1). None if the leaf is no recent one.
    #[must_use]
    pub fn path(&self, index: u64) -> Option<Vec<TreeHash>> {
        if index < self.before.size() || index >= self.now.size() {
            return None;
        }
        let (mut from, mut to) = (0, self.now.size());
        let mut path = Vec::new();
        while to - from > 1 {
            let middle = from + split(to - from);
            if index < middle {
                path.push(self.subtree(middle, to)?);
                to = middle;
            } else {
                path.push(self.subtree(from, middle)?);
                from = middle;
            }
        }
        path.reverse();
        Some(path)
    }

    /// The root over the leaves `from` up to `to`.
    fn subtree(&self, from: u64, to: u64) -> Option<TreeHash> {
        let known = self.before.size();
        if let Some(hash) = self.perfect(from, to) {
            return Some(hash);
        }
        if to - from == 1 {
            return self.leaves.get(usize::try_from(from.checked_sub(known)?).ok()?).copied();
        }
        let middle = from + split(to - from);
        Some(TreeHash::node(&self.subtree(from, middle)?, &self.subtree(middle, to)?))
    }

    /// The perfect subtree over these leaves, if the frontier has it.
    fn perfect(&self, from: u64, to: u64) -> Option<TreeHash> {
        let mut at = 0;
        let mut left = self.before.size();
        for hash in self.before.hashes() {
            let leaves = 1 << left.ilog2();
            if (from, to) == (at, at + leaves) {
                return Some(*hash);
            }
            at += leaves;
            left -= leaves;
        }
        None
    }
}

/// How many leaves are left of the root, in a tree of `size` leaves: the largest power of two
/// below `size`.
pub(super) const fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

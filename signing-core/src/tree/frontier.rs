//! The right edge of a tree: all that is needed to go on with it.

use super::hash::TreeHash;

/// A tree has at most so many perfect subtrees at its right edge: one for each bit of its size.
pub const FRONTIER_MAX: usize = 64;

/// The hashes of a tree's perfect subtrees, the largest first: one for each bit of its size.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    hashes: Vec<TreeHash>,
}

impl Frontier {
    /// The frontier of a tree of that size. None if a tree of that size has more or fewer hashes.
    #[must_use]
    pub fn new(size: u64, hashes: Vec<TreeHash>) -> Option<Self> {
        let expected = usize::try_from(size.count_ones()).ok()?;
        (hashes.len() == expected).then_some(Self { size, hashes })
    }

    /// How many leaves there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Its hashes.
    #[must_use]
    pub fn hashes(&self) -> &[TreeHash] {
        &self.hashes
    }

    /// Adds the next leaf.
    pub fn push(&mut self, leaf: TreeHash) {
        self.join(leaf, &mut |_| {});
    }

    /// Adds the next leaf; `hear` hears each node that it completes, the lowest first.
    pub(super) fn join(&mut self, leaf: TreeHash, hear: &mut impl FnMut(TreeHash)) {
        let mut hash = leaf;
        // Two subtrees of one size become one of twice that size.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.hashes.pop() {
                hash = TreeHash::node(&left, &hash);
                hear(hash);
            }
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// The root of the whole tree.
    #[must_use]
    pub fn root(&self) -> TreeHash {
        let mut smallest_first = self.hashes.iter().rev();
        let Some(smallest) = smallest_first.next() else { return TreeHash::empty() };
        smallest_first.fold(*smallest, |right, left| TreeHash::node(left, &right))
    }
}

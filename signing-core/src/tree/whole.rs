//! A tree that is in memory as a whole: the path of each of its leaves costs a few look-ups.

use super::extension::range;
use super::frontier::Frontier;
use super::hash::TreeHash;
use super::nodes::node_place;
use super::recent::split;

/// A whole tree.
#[derive(Clone, Debug, Default)]
pub struct WholeTree {
    edge: Frontier,
    /// Every node, in the row of [`super::node_place`].
    nodes: Vec<TreeHash>,
}

impl WholeTree {
    /// The tree of these leaves.
    #[must_use]
    pub fn new(leaves: impl IntoIterator<Item = TreeHash>) -> Self {
        let mut tree = Self::default();
        for leaf in leaves {
            let Self { edge, nodes } = &mut tree;
            edge.push_each(leaf, |node| nodes.push(node));
        }
        tree
    }

    /// How many leaves there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> TreeHash {
        self.edge.root()
    }

    /// The inclusion path of the leaf with this index, the leaf's sibling first (RFC 6962,
    /// section 2.1.1). None: there is no such leaf.
    #[must_use]
    pub fn path(&self, index: u64) -> Option<Vec<TreeHash>> {
        let (mut from, mut to) = (0, self.size());
        if index >= to {
            return None;
        }
        let mut node = |level, number| {
            let place = usize::try_from(node_place(level, number)?).ok()?;
            self.nodes.get(place).copied()
        };
        // As long as the tree is high.
        let height = usize::try_from(u64::BITS - to.leading_zeros()).unwrap_or(0);
        let mut path = Vec::with_capacity(height);
        while to - from > 1 {
            let middle = from + split(to - from);
            if index < middle {
                path.push(range(middle, to, &mut node)?);
                to = middle;
            } else {
                path.push(range(from, middle, &mut node)?);
                from = middle;
            }
        }
        path.reverse();
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::proof::root;
    use super::super::recent::Recent;
    use super::*;

    #[test]
    fn each_path_is_the_one_that_a_tree_of_leaves_has() {
        let leaves: Vec<_> = (0..70_u64).map(|at| TreeHash::leaf(&at.to_be_bytes())).collect();
        for size in 0..=leaves.len() {
            let tree = WholeTree::new(leaves[..size].iter().copied());
            let mut other = Recent::since(Frontier::default());
            leaves[..size].iter().for_each(|leaf| other.push(*leaf));
            assert_eq!((tree.size(), tree.root()), (size as u64, other.now().root()));
            for (index, leaf) in (0..).zip(&leaves[..size]) {
                let path = tree.path(index).unwrap();
                assert_eq!(Some(&path), other.path(index).as_ref(), "{index} of {size}");
                assert_eq!(root(*leaf, index, size as u64, &path), Some(tree.root()));
            }
            assert_eq!(tree.path(size as u64), None);
        }
    }
}

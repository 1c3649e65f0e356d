//! The proof that a log only grew: an older tree is the beginning of a newer one (RFC 6962, section
//! 2.1.2, and RFC 9162, section 2.1.4). Whoever holds the older head needs nothing else of the log.

use super::checkpoint::Checkpoint;
use super::hash::TreeHash;
use super::recent::split;

/// Longest proof: two nodes for each level of the highest tree there can be.
pub const EXTENSION_MAX: usize = 128;

/// Why a newer tree is not shown to extend an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionError {
    /// The newer one has fewer leaves.
    #[error("it ends with record {found}, and record {known} was there already")]
    Shorter {
        /// Leaves of the older one.
        known: u64,
        /// Leaves of the newer one.
        found: u64,
    },
    /// The newer one begins with other leaves, or the proof is not theirs.
    #[error("its first {0} records are not shown to be those that were there")]
    Other(u64),
}

/// Makes the proof that the tree of `new` leaves extends that of the first `old`: `node(level, number)`
/// is the root over the perfect subtree of 2^level leaves with that number. None if `node` lacks one
/// that is needed, or there are fewer leaves than that.
pub fn prove_extension(
    old: u64,
    new: u64,
    node: &mut impl FnMut(u32, u64) -> Option<TreeHash>,
) -> Option<Vec<TreeHash>> {
    if old > new {
        return None;
    }
    let mut path = Vec::new();
    if old == 0 || old == new {
        return Some(path);
    }
    // From the root down to the edge of the older tree; what lies beside that way is the proof.
    let (mut from, mut to) = (0, new);
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            path.push(range(middle, to, node)?);
            to = middle;
        } else {
            path.push(range(from, middle, node)?);
            from = middle;
        }
    }
    // The whole older tree is what its holder knows already.
    if from > 0 {
        path.push(range(from, to, node)?);
    }
    path.reverse();
    Some(path)
}

/// Checks that `newer` extends the tree of `size` leaves with `root`. Who signed it is for
/// [`crate::journal::AuditKeys::verify`] to say.
///
/// # Errors
/// [`ExtensionError`].
pub fn verify_extension(
    (size, root): (u64, TreeHash),
    newer: &Checkpoint,
    path: &[TreeHash],
) -> Result<(), ExtensionError> {
    if newer.size < size {
        return Err(ExtensionError::Shorter { known: size, found: newer.size });
    }
    let is_shown = if size == 0 {
        // The empty tree is the beginning of each.
        path.is_empty() && root == TreeHash::empty()
    } else if size == newer.size {
        path.is_empty() && root == newer.root
    } else {
        roots((size, root), newer.size, path) == Some((root, newer.root))
    };
    is_shown.then_some(()).ok_or(ExtensionError::Other(size))
}

/// The roots of both trees that this path leads to. None if trees of these sizes have a longer or shorter
/// one.
fn roots(
    (size, root): (u64, TreeHash),
    newer: u64,
    path: &[TreeHash],
) -> Option<(TreeHash, TreeHash)> {
    // The last node of either tree, on the level that the path has come to.
    let (mut at, mut last) = (size - 1, newer - 1);
    let shift = at.trailing_ones();
    (at, last) = (at >> shift, last >> shift);
    // A perfect older tree is a node of the newer one, and no part of the proof.
    let (first, rest) = if at == 0 {
        (root, path)
    } else {
        path.split_first().map(|(first, rest)| (*first, rest))?
    };
    let (mut old, mut new) = (first, first);
    for sibling in rest {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            old = TreeHash::node(sibling, &old);
            new = TreeHash::node(sibling, &new);
            // Levels on which neither tree has a node beside this one.
            while at != 0 && at % 2 == 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            new = TreeHash::node(&new, sibling);
        }
        (at, last) = (at / 2, last / 2);
    }
    (last == 0).then_some((old, new))
}

/// The root over the leaves `from` up to `to`.
pub(super) fn range(
    from: u64,
    to: u64,
    node: &mut impl FnMut(u32, u64) -> Option<TreeHash>,
) -> Option<TreeHash> {
    let leaves = to - from;
    if leaves.is_power_of_two() {
        let level = leaves.trailing_zeros();
        return node(level, from >> level);
    }
    let middle = from + split(leaves);
    Some(TreeHash::node(&range(from, middle, node)?, &range(middle, to, node)?))
}

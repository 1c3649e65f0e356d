//! The proof that a record is in a log, for whoever has the audit key and not the journal
//! (c2sp.org/tlog-proof).

use super::checkpoint::SignedCheckpoint;
use super::frontier::FRONTIER_MAX;
use super::hash::TreeHash;
use super::recent::split;

const TITLE: &str = "c2sp.org/tlog-proof@v1";
const INDEX: &str = "index ";

/// That the leaf with this index is in the tree of this checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// The leaf's index: the record's number less one.
    pub index: u64,
    /// From the leaf's sibling up.
    pub path: Vec<TreeHash>,
    /// A checkpoint that covers it.
    pub checkpoint: SignedCheckpoint,
}

/// What is wrong with a proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InclusionError {
    /// The text is not a proof.
    #[error(
        "it is not a proof: one begins with the line {TITLE}, then `index N`, hashes in base64, an empty line and a signed checkpoint"
    )]
    Text,
    /// The checkpoint does not reach as far.
    #[error("its index is {index}, and its checkpoint covers {size} records only")]
    Index {
        /// The leaf's.
        index: u64,
        /// The checkpoint's.
        size: u64,
    },
    /// The hashes lead elsewhere.
    #[error("the record and the proof's hashes do not lead to the checkpoint's root")]
    Root,
}

impl Inclusion {
    /// The proof as text (c2sp.org/tlog-proof).
    #[must_use]
    pub fn to_text(&self) -> String {
        let path: String = self.path.iter().map(|hash| hash.to_base64() + "\n").collect();
        format!("{TITLE}\n{INDEX}{}\n{path}\n{}", self.index, self.checkpoint.note())
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`InclusionError::Text`].
    pub fn parse(text: &str) -> Result<Self, InclusionError> {
        Self::read(text).filter(|proof| proof.to_text() == text).ok_or(InclusionError::Text)
    }

    fn read(text: &str) -> Option<Self> {
        let (proof, note) = text.split_once("\n\n")?;
        let mut lines = proof.split('\n');
        let title = lines.next()?;
        let index = lines.next()?.strip_prefix(INDEX)?.parse().ok()?;
        let path: Vec<_> = lines.map(TreeHash::parse_base64).collect::<Option<_>>()?;
        let checkpoint = SignedCheckpoint::parse(note).ok()?;
        let is_one = title == TITLE && path.len() < FRONTIER_MAX;
        is_one.then_some(Self { index, path, checkpoint })
    }

    /// Checks that the leaf is in the tree. Who signed the checkpoint is for
    /// [`crate::journal::AuditKeys::verify`] to say.
    ///
    /// # Errors
    /// [`InclusionError`].
    pub fn proves(&self, leaf: &TreeHash) -> Result<(), InclusionError> {
        let (index, size) = (self.index, self.checkpoint.checkpoint().size);
        if index >= size {
            return Err(InclusionError::Index { index, size });
        }
        let root = root(*leaf, index, size, &self.path).ok_or(InclusionError::Root)?;
        let is_root = root == self.checkpoint.checkpoint().root;
        is_root.then_some(()).ok_or(InclusionError::Root)
    }
}

/// The root that this path leads to. None if a tree of that size has a longer or shorter one.
pub(crate) fn root(leaf: TreeHash, index: u64, size: u64, path: &[TreeHash]) -> Option<TreeHash> {
    let Some((sibling, below)) = path.split_last() else { return (size == 1).then_some(leaf) };
    if size == 1 {
        return None;
    }
    let left = split(size);
    Some(if index < left {
        TreeHash::node(&root(leaf, index, left, below)?, sibling)
    } else {
        TreeHash::node(sibling, &root(leaf, index - left, size - left, below)?)
    })
}

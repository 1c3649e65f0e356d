//! What proves that a record is on disk: to this process, and to whoever has only the audit key.

use signing_core::journal::Leaf;
use signing_core::tree::{Inclusion, LogId};

/// Proof that a record is on disk (I1, I6): made by the writer only, after a sync that
/// succeeded, while the file is in its place. It is the receipt, too.
///
/// ```compile_fail
/// fn skip(leaf: signing_core::journal::Leaf, log: signing_core::tree::LogId) -> audit::Durable {
///     audit::Durable { log, leaf, proof: None }
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Durable {
    log: LogId,
    leaf: Leaf,
    proof: Option<Box<Proof>>,
}

/// A record and the proof that it is in its log: it stands alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The record's bytes, canonical JSON.
    pub record: Vec<u8>,
    /// That its leaf is in the tree of a signed checkpoint.
    pub inclusion: Inclusion,
}

impl Durable {
    pub(crate) fn new(log: LogId, leaf: Leaf, proof: Option<Box<Proof>>) -> Self {
        Self { log, leaf, proof }
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> LogId {
        self.log
    }

    /// The record.
    #[must_use]
    pub fn leaf(&self) -> Leaf {
        self.leaf
    }

    /// The record's number.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.leaf.seq
    }

    /// The proof, if whoever waited wanted it.
    #[must_use]
    pub fn proof(&self) -> Option<&Proof> {
        self.proof.as_deref()
    }
}

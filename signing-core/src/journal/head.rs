//! A journal that grows: its newest state, and the rule by which a frame goes on from it.

use super::frame::{self, Frame, FrameError, Sealing};
use crate::tree::{Checkpoint, Frontier, LogId, SignedCheckpoint, Signs, TreeHash};

/// How far a journal goes: the number of its newest record, and the root over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many records; the number of the newest.
    pub size: u64,
    /// The root of the tree of all of them.
    pub root: TreeHash,
}

impl Head {
    /// What a checkpoint states.
    #[must_use]
    pub const fn of(checkpoint: &Checkpoint) -> Self {
        Self { size: checkpoint.size, root: checkpoint.root }
    }
}

/// A record in its journal, as a receipt names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its number.
    pub seq: u64,
    /// The hash of its leaf.
    pub hash: TreeHash,
}

/// What a reader knows on its way: the tree so far, and the newest checkpoint.
#[derive(Clone, Debug)]
pub struct Growing {
    log: LogId,
    tree: Frontier,
    /// The newest checkpoint that fitted.
    newest: Head,
    /// What it says was on disk; a header says nothing of that.
    durable: u64,
}

/// What a frame turned out to be, in its place.
#[derive(Debug)]
pub enum Grown<'b> {
    /// The next record; no checkpoint covers it yet.
    Record {
        /// Its number, and its hash as a leaf of the tree.
        leaf: Leaf,
        /// Canonical JSON.
        body: &'b [u8],
    },
    /// A checkpoint that covers exactly what is before it. Who signed it is not checked.
    Sealed(Sealing),
}

impl Growing {
    /// A journal that goes on from a segment's header.
    #[must_use]
    pub const fn new(log: LogId, tree: Frontier, newest: Head) -> Self {
        Self { log, tree, newest, durable: 0 }
    }

    /// Which log it is.
    #[must_use]
    pub const fn log(&self) -> LogId {
        self.log
    }

    /// The tree so far.
    #[must_use]
    pub const fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// What the newest checkpoint that fitted covers.
    #[must_use]
    pub const fn newest(&self) -> Head {
        self.newest
    }

    /// The number of the newest record, covered or not.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Which record it is about that a frame here is not as it should be: the next one, or, of a
    /// checkpoint, the newest that it would cover.
    #[must_use]
    pub const fn about(&self, is_checkpoint: bool) -> u64 {
        let size = self.size();
        if !is_checkpoint {
            size.saturating_add(1)
        } else if size == 0 {
            1
        } else {
            size
        }
    }

    /// Takes the next frame.
    ///
    /// # Errors
    /// [`FrameError`] if it does not go on from here; nothing has changed then.
    pub fn take<'b>(&mut self, frame: Frame<'b>) -> Result<Grown<'b>, FrameError> {
        match frame {
            Frame::Entry(entry) => {
                let expected = self.size().saturating_add(1);
                if entry.seq != expected {
                    return Err(FrameError::Seq { found: entry.seq, expected });
                }
                let leaf = Leaf { seq: entry.seq, hash: entry.leaf() };
                self.tree.push(leaf.hash);
                Ok(Grown::Record { leaf, body: entry.body })
            }
            Frame::Checkpoint(sealing) => {
                let said = sealing.checkpoint.checkpoint();
                if said.log != self.log {
                    return Err(FrameError::Note);
                }
                if said.size != self.size() || said.size == self.newest.size {
                    return Err(FrameError::Size { found: said.size, expected: self.size() });
                }
                if sealing.durable > self.newest.size {
                    return Err(FrameError::Durable(sealing.durable));
                }
                if sealing.durable < self.durable {
                    let (found, before) = (sealing.durable, self.durable);
                    return Err(FrameError::DurableBack { found, before });
                }
                if said.root != self.tree.root() {
                    return Err(FrameError::Root);
                }
                self.newest = Head::of(said);
                self.durable = sealing.durable;
                Ok(Grown::Sealed(sealing))
            }
        }
    }
}

/// Lays out records and checkpoints one after the other.
#[derive(Clone, Debug)]
pub struct Layout {
    log: LogId,
}

impl Layout {
    /// For that log.
    #[must_use]
    pub const fn new(log: LogId) -> Self {
        Self { log }
    }

    /// Appends the record `seq`; its leaf.
    ///
    /// # Panics
    /// If the body is empty or too long: our own records are neither.
    pub fn record(&self, seq: u64, body: &[u8], out: &mut Vec<u8>) -> Leaf {
        frame::write_entry(out, seq, body);
        Leaf { seq, hash: TreeHash::leaf(body) }
    }

    /// Appends a checkpoint of `tree`, signed by each of `signers`. `durable` is the newest record known to be on disk.
    pub fn checkpoint(
        &self,
        tree: &Frontier,
        durable: u64,
        signers: &[Signs<'_>],
        out: &mut Vec<u8>,
    ) -> SignedCheckpoint {
        let checkpoint = Checkpoint { log: self.log, size: tree.size(), root: tree.root() };
        let signed = checkpoint.sign(signers);
        frame::write_checkpoint(out, &signed, durable);
        signed
    }

    /// Appends a checkpoint once more, with all that it covers known to be on disk.
    pub fn restate(&self, signed: &SignedCheckpoint, out: &mut Vec<u8>) {
        debug_assert_eq!(signed.checkpoint().log, self.log);
        frame::write_checkpoint(out, signed, signed.checkpoint().size);
    }
}

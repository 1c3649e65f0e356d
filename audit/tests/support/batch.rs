//! Writes behind a small journal, as they were laid out in one go and never acknowledged.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use audit::scan::{Frames, Step, segments};
use ed25519_dalek::{Signer as _, SigningKey};
use signing_core::journal::{Frame, Freeze, Head, Layout, Record};
use signing_core::tree::{Frontier, LogId};
use time::OffsetDateTime;

use crate::places::places;
use crate::support::{SEED, key, open, small_journal_in, writable};

/// A journal that goes on, in memory.
#[derive(Clone)]
pub(crate) struct NextBatch {
    pub(crate) log: LogId,
    pub(crate) tree: Frontier,
}

impl NextBatch {
    /// Goes on behind the journal in `path`.
    pub(crate) fn of(path: &Path) -> Self {
        let log = open(path).unwrap().log();
        Self { log, tree: tree_of(path) }
    }

    /// Adds a record with that reason.
    pub(crate) fn record(&mut self, reason: &str, out: &mut Vec<u8>) {
        let record = Record::Freeze(Freeze { by: "uid 0", id: None, reason });
        let body = record.encode(OffsetDateTime::UNIX_EPOCH).unwrap();
        let layout = Layout::new(self.log);
        self.tree.push(layout.record(self.tree.size() + 1, &body, out).hash);
    }

    /// Adds a checkpoint, which knows that so much was on disk.
    pub(crate) fn checkpoint(&self, durable: u64, out: &mut Vec<u8>) -> Head {
        let private = SigningKey::from_bytes(&SEED);
        let sign = |text: &[u8]| private.sign(text).to_bytes();
        let layout = Layout::new(self.log);
        let signed = layout.checkpoint(&self.tree, durable, &[(key().public(), &sign)], out);
        Head::of(signed.checkpoint())
    }
}

/// A journal with a write behind it, of a record for each length of its reason; its segment, where
/// the write begins, and its bytes.
pub(crate) fn with_batch(path: &Path, segment: u64, reasons: &[usize]) -> (PathBuf, u64, Vec<u8>) {
    let file = small_journal_in(path, segment);
    let (_, end) = places(path);
    let mut next = NextBatch::of(path);
    let durable = next.tree.size();
    let mut batch = Vec::new();
    for reason in reasons {
        next.record(&"xé".repeat(*reason / 3 + 1)[..], &mut batch);
    }
    next.checkpoint(durable, &mut batch);
    writable(&file).write_all_at(&batch, end).unwrap();
    (file, end, batch)
}

/// The tree of all records of a journal of one segment.
fn tree_of(path: &Path) -> Frontier {
    let mut frames = Frames::open(&segments(path).unwrap()[0]).unwrap();
    let mut tree = frames.header().frontier.clone();
    while let Step::Frame(_, frame) = frames.step().unwrap() {
        if let Frame::Entry(entry) = frame {
            tree.push(entry.leaf());
        }
    }
    tree
}

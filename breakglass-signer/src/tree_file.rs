//! The nodes of the journal's tree in a file of the state directory. With them this signer proves to a
//! proxy that its log goes on from what the proxy knows, also where the records in between were moved
//! away. The file holds no truth: it is made of the journal at each start, but for what lies before the
//! journal's first record, which is kept if it gives the frontier there. A wrong node makes a proof that
//! the proxy refuses.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use audit::Observer;
use signing_core::journal::{Kind, Leaf};
use signing_core::tree::{Frontier, TreeHash, node_place, nodes_of, prove_extension};

const NAME: &str = "tree-nodes";
const NODE_BYTES: usize = 32;
/// Nodes that may wait to be written: 32 MiB. Where more wait the file cannot be written, and nothing is
/// proved any more until the next start.
const WAITING_MAX: usize = 1 << 20;
/// So many are written at once while the journal is read.
const WRITTEN_AT_ONCE: usize = 1 << 12;
/// In the place of a node that is not known: no hash is that.
const NONE: [u8; NODE_BYTES] = [0; NODE_BYTES];

/// The file, and what waits to be written to it.
#[derive(Debug)]
pub struct TreeFile {
    file: File,
    growing: Arc<Mutex<Growing>>,
}

#[derive(Debug, Default)]
struct Growing {
    tree: Frontier,
    /// The place of the first node that waits.
    from: u64,
    waiting: Vec<TreeHash>,
    /// Some were dropped.
    has_gap: bool,
}

/// Hears the records that the journal's writer lays out, on its thread, which waits for no disk here.
#[derive(Debug)]
struct Hears(Arc<Mutex<Growing>>);

impl TreeFile {
    /// Opens it; what it holds is not believed yet.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(directory.join(NAME))?;
        Ok(Self { file, growing: Arc::default() })
    }

    /// Begins where the journal begins: `before` is the frontier of all that was moved away. What the file
    /// holds of that is kept if it gives this frontier.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn begin(&self, before: &Frontier) -> io::Result<()> {
        let nodes = nodes_of(before.size());
        let edge: Vec<_> = edge(before).collect();
        let is_kept = edge.iter().all(|(place, hash)| self.on_file(*place) == Some(*hash));
        if !is_kept {
            self.file.set_len(0)?;
        }
        self.file.set_len(nodes.saturating_mul(NODE_BYTES as u64))?;
        for (place, hash) in edge {
            self.file.write_all_at(hash.as_bytes(), at(place))?;
        }
        let growing =
            Growing { tree: before.clone(), from: nodes, waiting: Vec::new(), has_gap: false };
        *self.lock() = growing;
        Ok(())
    }

    /// Adds the next record while the journal is read.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn push(&self, leaf: TreeHash) -> io::Result<()> {
        let is_much = {
            let mut growing = self.lock();
            growing.push(leaf);
            growing.waiting.len() >= WRITTEN_AT_ONCE
        };
        if is_much { self.flush() } else { Ok(()) }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// If it cannot be written; it waits on then.
    pub fn flush(&self) -> io::Result<()> {
        let (from, bytes): (_, Vec<u8>) = {
            let growing = self.lock();
            (growing.from, growing.waiting.iter().flat_map(|hash| *hash.as_bytes()).collect())
        };
        // Nobody waits for this lock while the disk is asked.
        self.file.write_all_at(&bytes, at(from))?;
        let written = bytes.len() / NODE_BYTES;
        let mut growing = self.lock();
        growing.waiting.drain(..written);
        growing.from += written as u64;
        Ok(())
    }

    /// The proof that the tree of `new` records extends that of the first `old`; None if a node is not
    /// known that it needs.
    #[must_use]
    pub fn prove(&self, old: u64, new: u64) -> Option<Vec<TreeHash>> {
        let (size, has_gap) = {
            let growing = self.lock();
            (growing.tree.size(), growing.has_gap)
        };
        if has_gap || new > size {
            return None;
        }
        prove_extension(old, new, &mut |level, number| self.node(node_place(level, number)?))
    }

    /// What hears the records from here on.
    #[must_use]
    pub fn observer(&self) -> Box<dyn Observer> {
        Box::new(Hears(Arc::clone(&self.growing)))
    }

    fn node(&self, place: u64) -> Option<TreeHash> {
        let growing = self.lock();
        if let Some(at) = place.checked_sub(growing.from) {
            return growing.waiting.get(usize::try_from(at).ok()?).copied();
        }
        drop(growing);
        self.on_file(place)
    }

    fn on_file(&self, place: u64) -> Option<TreeHash> {
        let mut bytes = NONE;
        self.file.read_exact_at(&mut bytes, at(place)).ok()?;
        (bytes != NONE).then(|| TreeHash::new(bytes))
    }

    fn lock(&self) -> MutexGuard<'_, Growing> {
        self.growing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Growing {
    fn push(&mut self, leaf: TreeHash) {
        if self.has_gap || self.waiting.len() >= WAITING_MAX {
            self.has_gap = true;
            return;
        }
        let Self { tree, waiting, .. } = self;
        tree.push_each(leaf, |hash| waiting.push(hash));
    }
}

impl Observer for Hears {
    fn record(&mut self, _: Kind) {}
    fn leaf(&mut self, leaf: Leaf) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(leaf.hash);
    }
    fn appended(&mut self, _: Duration) {}
    fn synced(&mut self, _: Duration) {}
    fn batch(&mut self, _: usize) {}
}

/// The hashes of a frontier, each with its place among the nodes.
fn edge(frontier: &Frontier) -> impl Iterator<Item = (u64, TreeHash)> {
    let (size, mut from) = (frontier.size(), 0);
    let levels = (0..u64::BITS).rev().filter(move |level| size >> level & 1 == 1);
    levels.zip(frontier.hashes()).filter_map(move |(level, hash)| {
        let number = from >> level;
        from += 1 << level;
        Some((node_place(level, number)?, *hash))
    })
}

fn at(place: u64) -> u64 {
    place.saturating_mul(NODE_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const SIZE: u64 = 300;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("breakglass-tree-file-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn leaf(number: u64) -> TreeHash {
        TreeHash::leaf(&number.to_le_bytes())
    }

    fn frontier(size: u64) -> Frontier {
        let mut tree = Frontier::default();
        (0..size).for_each(|number| tree.push(leaf(number)));
        tree
    }

    /// Reads the records of a journal that begins behind record `from`.
    fn read(file: &TreeFile, from: u64) {
        file.begin(&frontier(from)).unwrap();
        (from..SIZE).for_each(|number| file.push(leaf(number)).unwrap());
    }

    fn expected(old: u64) -> Vec<TreeHash> {
        let mut row = Vec::new();
        let mut tree = Frontier::default();
        (0..SIZE).for_each(|number| tree.push_each(leaf(number), |hash| row.push(hash)));
        let node = |level, number| {
            let place = usize::try_from(node_place(level, number)?).ok()?;
            row.get(place).copied()
        };
        prove_extension(old, SIZE, &mut { node }).unwrap()
    }

    #[test]
    fn what_was_moved_away_is_proved_by_what_the_file_kept() {
        let scratch = Scratch::new("kept");
        read(&TreeFile::open(&scratch.0).unwrap(), 0);
        let file = TreeFile::open(&scratch.0).unwrap();
        // Not all of it was written: those records are read again.
        read(&file, 0);
        file.flush().unwrap();
        drop(file);
        let file = TreeFile::open(&scratch.0).unwrap();
        read(&file, 200);
        for old in 0..=SIZE {
            assert_eq!(file.prove(old, SIZE), Some(expected(old)), "{old}");
        }
        assert_eq!((file.prove(3, SIZE + 1), file.prove(SIZE + 1, SIZE)), (None, None));
    }

    #[test]
    fn a_file_that_is_gone_or_of_another_journal_proves_what_the_journal_has() {
        let scratch = Scratch::new("gone");
        for kept in [&[][..], &[7; 100_000]] {
            std::fs::write(scratch.0.join(NAME), kept).unwrap();
            let file = TreeFile::open(&scratch.0).unwrap();
            read(&file, 200);
            for old in 200..=SIZE {
                assert_eq!(file.prove(old, SIZE), Some(expected(old)), "{old}");
            }
            // Inside of what was moved away; 192 is at the edge of two perfect subtrees.
            assert_eq!(file.prove(100, SIZE), None);
            assert_eq!(file.prove(192, SIZE), Some(expected(192)));
        }
    }

    #[test]
    fn what_the_writer_lays_out_is_proved_before_it_is_on_file() {
        let scratch = Scratch::new("live");
        let file = TreeFile::open(&scratch.0).unwrap();
        file.begin(&Frontier::default()).unwrap();
        let mut observer = file.observer();
        for number in 0..SIZE {
            observer.leaf(Leaf { seq: number + 1, hash: leaf(number) });
            if number == 100 {
                file.flush().unwrap();
            }
        }
        for old in 0..=SIZE {
            assert_eq!(file.prove(old, SIZE), Some(expected(old)), "{old}");
        }
    }
}

//! The nodes of the journal's tree in a file of the state directory. With them a process proves to its peer
//! that its log goes on from what the peer knows, also where the records in between were moved away. The file
//! holds no truth: it is made of the journal at each start, but for what lies before the records that are
//! read then, which is kept if it gives the frontier there. A wrong node makes a proof that the peer refuses.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::files;
use nix::fcntl::{FallocateFlags, fallocate};
use signing_core::journal::{Kind, Leaf};
use signing_core::tree::{Frontier, TreeHash, node_place, nodes_of, prove_extension};

use crate::journal::Observer;
use crate::walk::{Stop, Walk, WalkStep};

const NAME: &str = "tree-nodes";
const NODE_BYTES: usize = 32;
/// Nodes that may wait to be written: 32 MiB. Where more wait the file cannot be written, and nothing is
/// proved any more until the next start.
const WAITING_MAX: usize = 1 << 20;
/// So many are written at once while the journal is read.
const WRITTEN_AT_ONCE: usize = 1 << 12;
/// Space that is not needed any more is given back when it is so many bytes, in whole blocks.
const GIVEN_BACK_MIN: u64 = 16 << 20;
const BLOCK_BYTES: u64 = 4096;
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
    /// How many records are before the newest segment, whose frontier the next start begins with.
    before_segment: u64,
    /// Of the nodes over so many records only the frontier is kept.
    forgotten: u64,
}

/// Why the file was not made of the journal.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The journal cannot be read.
    #[error("audit.dir: {0}")]
    Journal(#[from] Stop),
    /// The nodes cannot be written.
    #[error("state.dir: the nodes of the journal's tree cannot be written: {0}")]
    Tree(#[from] io::Error),
}

/// Hears the records that the journal's writer lays out, on its thread, which waits for no disk here.
#[derive(Debug)]
struct TreeObserver(Arc<Mutex<Growing>>);

impl TreeFile {
    /// Opens it; what it holds is not believed yet.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = files::open_with(&mut options, &directory.join(NAME))?;
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
        if !self.keeps(before) {
            self.file.set_len(0)?;
        }
        self.file.set_len(nodes.saturating_mul(NODE_BYTES as u64))?;
        for (place, hash) in edge {
            self.file.write_all_at(hash.as_bytes(), at(place))?;
        }
        let (tree, size) = (before.clone(), before.size());
        let growing = Growing { tree, from: nodes, before_segment: size, ..Growing::default() };
        *self.lock() = growing;
        Ok(())
    }

    /// Makes it of the journal in `directory`, of `size` records: of its newest segment, if the file has what
    /// lies before that, and else of all that is there.
    ///
    /// # Errors
    /// [`FillError`].
    pub fn fill(&self, directory: &Path, size: u64) -> Result<(), FillError> {
        let newest = Walk::open(directory, size)?;
        let is_kept = self.fill_of(newest, true)?;
        if !is_kept {
            self.fill_of(Walk::open(directory, 1)?, false)?;
        }
        Ok(self.flush()?)
    }

    /// Adds all records of that way, or, if the file has to have what lies before them, none: whether it did.
    fn fill_of(&self, mut walk: Walk, must_have: bool) -> Result<bool, FillError> {
        let mut segment = None;
        loop {
            match walk.step()? {
                WalkStep::Record(place) => {
                    let Some(header) = walk.header() else { continue };
                    if segment.is_none() {
                        if must_have && !self.keeps(&header.frontier) {
                            return Ok(false);
                        }
                        self.begin(&header.frontier)?;
                    }
                    if segment.replace(walk.index()) != Some(walk.index()) {
                        self.lock().before_segment = header.frontier.size();
                    }
                    self.push(place.leaf.hash)?;
                }
                WalkStep::Sealed(_) => {}
                WalkStep::End | WalkStep::TornWrite(_) => return Ok(true),
            }
        }
    }

    /// Whether it has what gives that frontier.
    fn keeps(&self, before: &Frontier) -> bool {
        edge(before).all(|(place, hash)| self.on_file(place) == Some(hash))
    }

    /// Gives the space back of the nodes that no proof needs from `size` records on, if it is much: what a peer
    /// knows that knows so many never gets less. What the next start needs stays.
    ///
    /// # Errors
    /// If the file system cannot.
    pub fn forget(&self, size: u64) -> io::Result<()> {
        let (from, size) = {
            let growing = self.lock();
            (growing.forgotten, size.min(growing.before_segment))
        };
        let to = at(nodes_of(size));
        if to.saturating_sub(at(nodes_of(from))) < GIVEN_BACK_MIN {
            return Ok(());
        }
        let kept = edge_of(size).map(|(level, number)| node_place(level, number).map(at));
        let Some(mut kept) = kept.collect::<Option<Vec<_>>>() else { return Ok(()) };
        let mut after = 0_u64;
        kept.sort_unstable();
        kept.push(to);
        for place in kept {
            let begin = after.div_ceil(BLOCK_BYTES) * BLOCK_BYTES;
            let end = place / BLOCK_BYTES * BLOCK_BYTES;
            after = place + NODE_BYTES as u64;
            let hole = begin..end;
            if !hole.is_empty() {
                let (begin, bytes) = (i64::try_from(begin), i64::try_from(end - begin));
                let (begin, bytes) =
                    (begin.map_err(io::Error::other)?, bytes.map_err(io::Error::other)?);
                let how =
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                fallocate(&self.file, how, begin, bytes)?;
            }
        }
        self.lock().forgotten = size;
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
        Box::new(TreeObserver(Arc::clone(&self.growing)))
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

impl Observer for TreeObserver {
    fn record(&mut self, kind: Kind) {
        if kind == Kind::Segment {
            // The first record of a segment, which is not in the tree yet.
            let mut growing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            growing.before_segment = growing.tree.size();
        }
    }
    fn leaf(&mut self, leaf: Leaf) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(leaf.hash);
    }
    fn appended(&mut self, _: Duration) {}
    fn synced(&mut self, _: Duration) {}
    fn batch(&mut self, _: usize) {}
}

/// The hashes of a frontier, each with its place among the nodes.
fn edge(frontier: &Frontier) -> impl Iterator<Item = (u64, TreeHash)> {
    let nodes = edge_of(frontier.size()).zip(frontier.hashes());
    nodes.filter_map(|((level, number), hash)| Some((node_place(level, number)?, *hash)))
}

/// The nodes of the frontier of `size` records: the level of each, and its number there.
fn edge_of(size: u64) -> impl Iterator<Item = (u32, u64)> {
    let mut from = 0;
    let levels = (0..u64::BITS).rev().filter(move |level| size >> level & 1 == 1);
    levels.map(move |level| {
        let number = from >> level;
        from += 1 << level;
        (level, number)
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
            let name = format!("tree-file-{name}-{}", std::process::id());
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

    /// Bytes that the file has on disk.
    fn on_disk(file: &TreeFile) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        file.file.sync_all().unwrap();
        file.file.metadata().unwrap().blocks() * 512
    }

    #[test]
    fn what_the_peer_knows_is_given_back_and_the_rest_is_proved_as_before() {
        const MANY: u64 = 600_000;
        let scratch = Scratch::new("forgotten");
        let file = TreeFile::open(&scratch.0).unwrap();
        file.begin(&Frontier::default()).unwrap();
        let mut observer = file.observer();
        let mut tree = Frontier::default();
        let (mut before, known) = (None, 450_001);
        for number in 0..MANY {
            // A segment begins with the record behind `known`.
            let begins = number == 460_003;
            observer.record(if begins { Kind::Segment } else { Kind::Intent });
            if begins {
                before = Some(tree.clone());
            }
            tree.push(leaf(number));
            observer.leaf(Leaf { seq: number + 1, hash: leaf(number) });
            if number % 100_000 == 0 {
                file.flush().unwrap();
            }
        }
        file.flush().unwrap();
        let olds = [known, known + 1, 460_003, 524_288, MANY - 1, MANY];
        let proofs: Vec<_> = olds.iter().map(|old| file.prove(*old, MANY).unwrap()).collect();
        let whole = on_disk(&file);
        // Too little to be worth it.
        file.forget(1000).unwrap();
        assert_eq!(on_disk(&file), whole);
        file.forget(known).unwrap();
        assert!(on_disk(&file) < whole / 3, "{whole}: {}", on_disk(&file));
        for (old, proof) in olds.iter().zip(&proofs) {
            assert_eq!(file.prove(*old, MANY).as_ref(), Some(proof), "{old}");
        }
        assert_eq!(file.prove(1000, MANY), None);
        // What the next start begins with is still there, however much the peer knows.
        file.forget(MANY).unwrap();
        assert!(file.keeps(&before.unwrap()));
    }
}

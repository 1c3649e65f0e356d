//! Sorts more than fits into memory: what is over a bound is sorted in files that have no name, and merged. Reading
//! and writing these files is all the IO that there is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many files are read at once; more are merged into one first.
const RUNS_MAX: usize = 32;
/// One entry, so that a length that is no length is never allocated.
const ENTRY_MAX_BYTES: usize = 1024 * 1024;
/// What is known of an entry in memory, beside its bytes.
const ENTRY_BYTES: usize = size_of::<(usize, usize)>();

/// Takes entries: bytes, by which they are sorted.
#[derive(Debug)]
pub struct Sorter {
    directory: PathBuf,
    most_bytes: usize,
    bytes: Vec<u8>,
    entries: Vec<(usize, usize)>,
    runs: Vec<File>,
}

/// Gives the entries in their order.
#[derive(Debug)]
pub struct Sorted {
    /// What was never written to a file.
    bytes: Vec<u8>,
    entries: std::vec::IntoIter<(usize, usize)>,
    runs: Vec<BufReader<File>>,
    /// The next entry of each file.
    next: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
}

impl Sorter {
    /// Keeps `most_bytes` in memory, and more in files of `directory`.
    #[must_use]
    pub fn new(directory: &Path, most_bytes: usize) -> Self {
        Self {
            directory: directory.to_owned(),
            most_bytes,
            bytes: Vec::new(),
            entries: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Takes an entry, in parts.
    ///
    /// # Errors
    /// If a file cannot be written; if the entry is longer than entries are.
    pub fn push(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > ENTRY_MAX_BYTES {
            return Err(io::Error::other("an entry is too long to be sorted"));
        }
        let held = self.bytes.len() + self.entries.len() * ENTRY_BYTES;
        if held + len + ENTRY_BYTES > self.most_bytes && !self.entries.is_empty() {
            self.spill()?;
        }
        self.entries.push((self.bytes.len(), len));
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        Ok(())
    }

    /// All of them, in order.
    ///
    /// # Errors
    /// If a file cannot be written or read.
    pub fn finish(mut self) -> io::Result<Sorted> {
        if !self.runs.is_empty() && !self.entries.is_empty() {
            self.spill()?;
        }
        self.sort();
        merged(self.bytes, self.entries, self.runs)
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.entries.sort_unstable_by_key(|entry| entry_of(bytes, *entry));
    }

    /// Writes what is in memory to a file.
    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let mut file = BufWriter::new(unnamed(&self.directory)?);
        for entry in self.entries.drain(..) {
            put(&mut file, entry_of(&self.bytes, entry))?;
        }
        self.bytes.clear();
        self.runs.push(file.into_inner().map_err(io::IntoInnerError::into_error)?);
        if self.runs.len() < RUNS_MAX {
            return Ok(());
        }
        let mut all = merged(Vec::new(), Vec::new(), std::mem::take(&mut self.runs))?;
        let mut file = BufWriter::new(unnamed(&self.directory)?);
        while let Some(entry) = all.next()? {
            put(&mut file, &entry)?;
        }
        self.runs.push(file.into_inner().map_err(io::IntoInnerError::into_error)?);
        Ok(())
    }
}

fn merged(bytes: Vec<u8>, entries: Vec<(usize, usize)>, runs: Vec<File>) -> io::Result<Sorted> {
    let mut readers = Vec::new();
    for mut run in runs {
        run.seek(SeekFrom::Start(0))?;
        readers.push(BufReader::new(run));
    }
    let mut sorted =
        Sorted { bytes, entries: entries.into_iter(), runs: readers, next: BinaryHeap::new() };
    for run in 0..sorted.runs.len() {
        sorted.refill(run)?;
    }
    Ok(sorted)
}

impl Sorted {
    /// The next one.
    ///
    /// # Errors
    /// If a file cannot be read.
    #[expect(clippy::should_implement_trait, reason = "each step may fail, and then it is over")]
    pub fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if let Some(entry) = self.entries.next() {
            return Ok(Some(entry_of(&self.bytes, entry).to_vec()));
        }
        let Some(Reverse((entry, run))) = self.next.pop() else { return Ok(None) };
        self.refill(run)?;
        Ok(Some(entry))
    }

    fn refill(&mut self, run: usize) -> io::Result<()> {
        if let Some(reader) = self.runs.get_mut(run)
            && let Some(entry) = take(reader)?
        {
            self.next.push(Reverse((entry, run)));
        }
        Ok(())
    }
}

fn entry_of(bytes: &[u8], (at, len): (usize, usize)) -> &[u8] {
    bytes.get(at..at + len).unwrap_or_default()
}

fn put(file: &mut impl Write, entry: &[u8]) -> io::Result<()> {
    let len = u32::try_from(entry.len()).map_err(io::Error::other)?;
    file.write_all(&len.to_le_bytes())?;
    file.write_all(entry)
}

fn take(file: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut len = [0; 4];
    match file.read_exact(&mut len) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let len = usize::try_from(u32::from_le_bytes(len)).map_err(io::Error::other)?;
    if len > ENTRY_MAX_BYTES {
        return Err(io::Error::other("a file of ours was changed while it was sorted"));
    }
    let mut entry = vec![0; len];
    file.read_exact(&mut entry)?;
    Ok(Some(entry))
}

/// A file that nobody else can open, and that is gone when this process is.
fn unnamed(directory: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!(".signctl-sort-{}-{number}", process::id()));
    let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let file = made.map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
    })?;
    remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(entries: &[Vec<u8>], most_bytes: usize) -> Vec<Vec<u8>> {
        let mut sorter = Sorter::new(&std::env::temp_dir(), most_bytes);
        entries.iter().for_each(|entry| sorter.push(&[entry]).unwrap());
        let (mut sorted, mut all) = (sorter.finish().unwrap(), Vec::new());
        while let Some(entry) = sorted.next().unwrap() {
            all.push(entry);
        }
        all
    }

    proptest! {
        #[test]
        fn whatever_fits_into_memory_the_order_is_the_same(
            entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..200),
            most_bytes in 0_usize..4000,
        ) {
            let mut expected = entries.clone();
            expected.sort();
            prop_assert_eq!(sorted(&entries, most_bytes), expected);
        }
    }

    #[test]
    fn i8_more_files_than_may_be_open_are_merged_meanwhile() {
        // Each entry is a file of its own.
        let entries: Vec<Vec<u8>> =
            (0..500_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes().to_vec()).collect();
        let mut expected = entries.clone();
        expected.sort();
        assert_eq!(sorted(&entries, 1), expected);
        let mut sorter = Sorter::new(&std::env::temp_dir(), 1);
        assert!(sorter.push(&[&vec![0; ENTRY_MAX_BYTES + 1]]).is_err());
        for entry in &entries {
            sorter.push(&[entry]).unwrap();
            assert!(sorter.runs.len() < RUNS_MAX);
        }
    }
}

//! One segment as the writer holds it: a file of fixed size whose name is checked to
//! be still its own.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use host::file_system::name_of;
use host::files;
use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, FallocateFlags, PosixFadviseAdvice, RenameFlags, fallocate, posix_fadvise, renameat2,
};
use nix::sys::statfs::fstatfs;

/// A segment in preparation: no part of the journal until it is renamed.
const NEXT: &str = "next";

/// A segment that is written to.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Segment {
    /// Opens the segment at `path` to read what the disk holds, and to go on writing.
    ///
    /// A process that was killed may have left pages that are not written yet: they are
    /// first. One whose sync failed may have left pages that look written and are not:
    /// the cache is dropped, so that what is read is what is there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = files::open_with(OpenOptions::new().read(true).write(true), path)?;
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, path: path.to_owned(), bytes })
    }

    /// Makes the next segment: its space is set aside and its size on disk when this
    /// returns, so that no write into it finds the disk full.
    pub(crate) fn prepare(directory: &Path, bytes: u64) -> io::Result<Self> {
        let path = directory.join(NEXT);
        // Whoever died while preparing left it; nothing in it was ever acknowledged.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let made = Self::make(path.clone(), bytes);
        if made.is_err() {
            // Half of it would only take the space that others need.
            let _ = fs::remove_file(&path);
        }
        made
    }

    fn make(path: PathBuf, bytes: u64) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        crate::readers::as_its_directory(&file, path.parent().unwrap_or(Path::new(".")))?;
        let length = i64::try_from(bytes).map_err(io::Error::other)?;
        fallocate(&file, FallocateFlags::empty(), 0, length)
            .map_err(|errno| not_set_aside(&file, errno))?;
        file.sync_all()?;
        Ok(Self { file, path, bytes })
    }

    /// Gives a prepared segment its name. Dying before the directory is synced leaves
    /// it under either name: nothing in it has been acknowledged yet.
    pub(crate) fn publish(&mut self, directory: &File, name: &str) -> io::Result<()> {
        let path = self.path.with_file_name(name);
        // A plain rename would replace what is there without a word.
        renameat2(AT_FDCWD, &self.path, AT_FDCWD, &path, RenameFlags::RENAME_NOREPLACE)?;
        directory.sync_all()?;
        self.path = path;
        Ok(())
    }

    /// Writes into the space that was set aside.
    pub(crate) fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    /// Returns once everything written is on disk. A failure is final: the kernel
    /// forgets it, and a second sync would lie.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Whether the file is still the one of its name, as long as it was made.
    pub(crate) fn is_in_place(&self) -> io::Result<()> {
        let held = self.file.metadata()?;
        let named = fs::symlink_metadata(&self.path)?;
        if (held.dev(), held.ino()) != (named.dev(), named.ino()) {
            return Err(io::Error::other("another file has taken its place"));
        }
        if held.len() != self.bytes {
            let why = format!("it has {} bytes, and was made with {}", held.len(), self.bytes);
            return Err(io::Error::other(why));
        }
        Ok(())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How long it is.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file itself, to be read.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Another handle to read it.
    pub(crate) fn reader(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Reads, at most to its end.
    pub(crate) fn read(&self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(to.saturating_sub(from)).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, from)?;
        Ok(bytes)
    }
}

/// Why space cannot be set aside. A file system that never can is named, since waiting does not
/// help and the disk is not full.
fn not_set_aside(file: &File, errno: Errno) -> io::Error {
    if !matches!(errno, Errno::EOPNOTSUPP | Errno::ENOSYS) {
        return errno.into();
    }
    let error = io::Error::from(errno);
    let kind = fstatfs(file).map_or_else(|errno| errno.to_string(), |found| name_of(&found));
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "this file system ({kind}) cannot set space aside (fallocate: {error}); put the \
             journal on one that can, such as ext4 with extents, XFS or btrfs"
        ),
    )
}

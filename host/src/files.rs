//! Opening and reading files: bounded, and only real files, so that a mistaken path, or what somebody put
//! in its place, costs a sentence and not the process.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use signing_core::worker::FileIdentity;

/// More than any registry, certificate or revocation list has.
const MAX_BYTES: u64 = 64 << 20;

/// The byte order mark.
const MARK: char = '\u{feff}';

/// What tells whether the file that this was asked of was written again.
#[must_use]
pub fn identity(metadata: &Metadata) -> FileIdentity {
    FileIdentity {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified_s: metadata.mtime(),
        modified_ns: metadata.mtime_nsec(),
    }
}

/// Opens `file` to read it.
///
/// # Errors
/// As [`open_with`].
pub fn open(file: &Path) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), file)
}

/// Opens `file` as `options` say, and waits for nothing: opening a named pipe waits for whoever is at its other
/// end, and a signal does not end that.
///
/// # Errors
/// If it cannot be opened, or is no regular file.
pub fn open_with(options: &mut OpenOptions, file: &Path) -> io::Result<File> {
    let no_wait = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = options.custom_flags(no_wait.bits()).open(file).map_err(|error| {
        // A directory to be written, or a socket, or a pipe that nobody reads.
        let is_other = std::fs::metadata(file).is_ok_and(|found| !found.is_file());
        if is_other { no_file() } else { error }
    })?;
    if opened.metadata()?.is_file() { Ok(opened) } else { Err(no_file()) }
}

/// Opens a directory, to lock or to sync it, and waits for nothing.
///
/// # Errors
/// If it cannot be opened, or is no directory.
pub fn open_directory(directory: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(directory)
}

fn no_file() -> io::Error {
    io::Error::other("is no regular file")
}

/// Reads `file` whole.
///
/// # Errors
/// If it cannot be read, is no file, or has more than 64 MiB.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open(file)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if read as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("has more than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Reads `file` whole, as text, without the byte order mark that some editors put first.
///
/// # Errors
/// As [`read`], and if it is not UTF-8.
pub fn read_text(file: &Path) -> io::Result<String> {
    text(read(file)?)
}

/// What [`read_text`] makes of a file's bytes.
///
/// # Errors
/// If they are not UTF-8.
pub fn text(bytes: Vec<u8>) -> io::Result<String> {
    let is_utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    let encoding = if is_utf16 { "is UTF-16, not UTF-8" } else { "is not UTF-8" };
    let mut text = String::from_utf8(bytes).map_err(|_| io::Error::other(encoding))?;
    if text.starts_with(MARK) {
        text.drain(..MARK.len_utf8());
    }
    Ok(text)
}

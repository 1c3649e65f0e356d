//! Reading the files that a configuration names: bounded, and only real files, so
//! that a mistaken path costs a sentence and not the process.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

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

/// Reads `file` whole.
///
/// # Errors
/// If it cannot be read, is no file, or has more than 64 MiB.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    // Asked before it is opened: opening a named pipe waits for somebody to write.
    if !std::fs::metadata(file)?.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    let mut bytes = Vec::new();
    let read = File::open(file)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
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

//! An archive in files: a directory that was downloaded from a bucket, in any depth, or one file of `audit export`.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use host::files;
use serde_json::Value;
use signing_core::tree::LogId;

use super::listing::{Listing, Place, ReadError, ReadObserver, unreadable};
use super::name::{Name, Part};
use super::verify::{Found, Records, Verifier};

/// The largest file that is read: an object that the trail writes is far smaller.
const FILE_MAX_BYTES: u64 = 64 << 20;
/// The largest export: it is read whole.
const EXPORT_MAX_BYTES: u64 = 4 << 30;
/// Directories below each other: prefix, year, month, day, and more.
const DEPTH_MAX: usize = 64;

/// The objects in a directory. Links are not followed.
pub(super) fn listed(root: &Path, found: &mut Found) -> Result<Listing, ReadError> {
    let mut listing = Listing::default();
    let mut open: Vec<(PathBuf, usize)> = vec![(root.to_owned(), 0)];
    while let Some((directory, depth)) = open.pop() {
        for entry in fs::read_dir(&directory).map_err(unreadable(&directory))? {
            let entry = entry.map_err(unreadable(&directory))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(unreadable(&path))?;
            if kind.is_dir() && depth < DEPTH_MAX {
                open.push((path, depth + 1));
            } else if kind.is_file()
                && let Some(key) = path.strip_prefix(root).ok().and_then(Path::to_str)
                && let Some(name) = Name::parse(key)
            {
                listing.add(name, Place { key: key.to_owned(), version: None }, found);
            }
        }
    }
    Ok(listing)
}

/// A file of a bounded size.
pub(super) fn read(path: &Path) -> Result<Bytes, ReadError> {
    bounded(path, FILE_MAX_BYTES).map(Bytes::from)
}

/// What `audit export` wrote: lines of records, and then the checkpoint that covers them.
pub(super) fn exported(
    path: &Path,
    verifier: &mut Verifier<'_>,
    hear: &mut dyn ReadObserver,
) -> Result<(), ReadError> {
    let body = bounded(path, EXPORT_MAX_BYTES)?;
    let key = path.display().to_string();
    match divided(&body) {
        Ok((part, records, note)) => {
            let note = Some(note.as_bytes());
            let of = Records { key: &key, part, body: records, note, is_newest: true };
            verifier.records(&of, &mut |log, leaf| hear.record(log, leaf));
        }
        Err(what) => verifier.found().defect(format!("{key}: {what}")),
    }
    Ok(())
}

/// Which records an export has, their lines, and the checkpoint.
fn divided(body: &[u8]) -> Result<(Part, &[u8], String), &'static str> {
    let value = |line: &[u8]| signing_core::json::from_slice::<Value>(line).ok();
    let whole = body.strip_suffix(b"\n").ok_or("its last line has no end")?;
    let at = whole.iter().rposition(|byte| *byte == b'\n').ok_or("it has one line only")?;
    let (records, last) = (whole.get(..=at), whole.get(at + 1..));
    let note =
        last.and_then(value).and_then(|line| Some(line.get("checkpoint")?.as_str()?.to_owned()));
    let note = note
        .ok_or("its last line is no checkpoint: it was cut off, or is no file of `audit export`")?;
    let records = records.unwrap_or_default();
    let mut lines = records.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let first = lines.next().and_then(value).ok_or("its first line is no record")?;
    let log = first.get("log").and_then(Value::as_str).and_then(LogId::parse_origin);
    let seq = first.get("seq").and_then(Value::as_u64).filter(|seq| *seq > 0);
    let (Some(log), Some(first)) = (log, seq) else { return Err("its first line is no record") };
    let last = first + lines.count() as u64;
    Ok((Part { log, first, last }, records, note))
}

fn bounded(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    let file = files::open(path).map_err(unreadable(path))?;
    let mut body = Vec::new();
    let read = file.take(most + 1).read_to_end(&mut body).map_err(unreadable(path))?;
    if read as u64 > most {
        let error = std::io::Error::other(format!("it is larger than {most} bytes"));
        return Err(ReadError::File { path: path.to_owned(), error });
    }
    Ok(body)
}

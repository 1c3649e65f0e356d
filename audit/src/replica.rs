//! The first start of a replica, as far as it is IO: what is in its volume, and the file with what the
//! sinks said of it. The decision is [`signing_core::replica::decide`]'s.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use host::files;
use signing_core::replica::{Answer, Decision, Found, ReplicaName, decide};

use crate::presence::Presence;

/// What is in the volume: a journal in this directory, and this file of the state.
#[must_use]
pub fn inspect(journal: &Path, state: &Path) -> Found {
    let state = match fs::symlink_metadata(state) {
        Ok(_) => Some(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    };
    Found { journal: Presence::inspect(journal, "").is_there, state }
}

/// Looks, reads the answer in `file`, and decides.
#[must_use]
pub fn decide_by(
    (dir, state): (&Path, &Path),
    replica: &ReplicaName,
    journal: &str,
    file: &Path,
) -> Decision {
    let answer = read_answer(file);
    let given = match &answer {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(format!(
            "{} is not there; run first: signing-trail register --config FILE --journal JOURNAL --answer {}",
            file.display(),
            file.display()
        )),
        Err(why) => Err(format!("{}: {why}", file.display())),
    };
    decide(
        inspect(dir, state),
        replica,
        journal,
        given.as_ref().map(|given| *given).map_err(String::as_str),
    )
}

/// Reads an answer. None: there is no answer.
///
/// # Errors
/// If it cannot be read, or is not what was written.
pub fn read_answer(file: &Path) -> Result<Option<Answer>, String> {
    match host::files::read(file) {
        Ok(bytes) => Answer::parse(&bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Replaces the answer. When it returns, the answer is on disk; dying before leaves the one before.
///
/// # Errors
/// If it cannot be written.
pub fn write_answer(file: &Path, answer: &Answer) -> io::Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let mut bytes = serde_json::to_vec_pretty(answer)?;
    bytes.push(b'\n');
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o640);
    let mut out = files::open_with(&mut options, Path::new(&new))?;
    out.write_all(&bytes)?;
    out.sync_all()?;
    fs::rename(&new, file)?;
    sync_directory_of(file)
}

/// Takes the answer away once it was used: it is good for one journal. When it returns, that is on disk.
///
/// # Errors
/// If it is still there.
pub fn use_up(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_directory_of(file),
    }
}

fn sync_directory_of(file: &Path) -> io::Result<()> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

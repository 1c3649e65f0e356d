//! Who else reads the journal: one group, such as that of `signing-trail`. The directory says so by its
//! group and mode, and each file of the journal is made as its directory is.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use crate::scan::segments;
use crate::stated;

/// What is made in it gets its group, which may enter and read.
const DIRECTORY: u32 = 0o2750;
/// The bits of that which make its files readable too.
const SHARED: u32 = 0o2050;
const FILE: u32 = 0o640;

/// Why a group cannot be let in.
#[derive(Debug, thiserror::Error)]
#[error(
    "audit.reader_group {group}: {} cannot be given to it: {error}; run this as a member of the group \
     (systemd: SupplementaryGroups=), or as root: chgrp -R {group} on the journal", .path.display()
)]
pub struct NotLetIn {
    group: u32,
    path: PathBuf,
    error: io::Error,
}

/// Lets the group with this number read the journal in `path`, and what is written there from now on. Dying
/// half-way leaves some files closed to it; the next call opens them.
///
/// # Errors
/// [`NotLetIn`], which names the first file that could not be given.
pub fn let_in(path: &Path, group: u32) -> Result<(), NotLetIn> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| NotLetIn { group, path, error }
    };
    // First: what is made meanwhile belongs to the group already.
    give(path, group, DIRECTORY).map_err(failed(path))?;
    for segment in segments(path).map_err(failed(path))? {
        give(&segment.path, group, FILE).map_err(failed(&segment.path))?;
    }
    let stated = path.join(stated::NAME);
    match give(&stated, group, FILE) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&stated)(error)),
        _ => Ok(()),
    }
}

fn give(path: &Path, group: u32, mode: u32) -> io::Result<()> {
    let found = fs::metadata(path)?;
    if found.gid() != group {
        chown(path, None, Some(group))?;
    }
    // A change of owner takes bits away.
    if found.gid() != group || found.mode() & 0o7777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Opens a file of the journal to those who may read its directory. No umask counts.
pub(crate) fn as_its_directory(file: &File, directory: &Path) -> io::Result<()> {
    if fs::metadata(directory)?.mode() & SHARED == SHARED {
        file.set_permissions(Permissions::from_mode(FILE))?;
    }
    Ok(())
}

//! `signctl audit export --tiles`: the whole log as static files, for every client of tiled logs
//! (c2sp.org/tlog-tiles).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use audit::tenure::{self, Trust};
use host::out;
use nix::unistd::syncfs;
use signing_core::Registry;
use signing_core::journal::BODY_MAX_BYTES;
use signing_core::tree::{ENTRY_MAX_BYTES, Tile, Tiles};

/// The name of the file with the checkpoint, as the standard has it.
const CHECKPOINT: &str = "checkpoint";

// A record that no bundle holds would leave a journal without tiles.
const _: () = assert!(BODY_MAX_BYTES <= ENTRY_MAX_BYTES);

/// Writes the log into `directory`, which gets its name once all of it is on disk.
pub(super) fn export(
    journal: &Path,
    directory: &Path,
    registry: Option<&Registry>,
) -> anyhow::Result<()> {
    let name = directory.display();
    if !is_free(directory).with_context(|| name.to_string())? {
        bail!("{name}: it is not an empty directory; name another one");
    }
    // Without a slash at the end, which would put it inside.
    let new: PathBuf = directory.components().collect();
    let new = PathBuf::from(format!("{}.new", new.display()));
    DirBuilder::new().mode(0o700).create(&new).with_context(|| {
        format!("{}: cannot be made (if an export was interrupted, remove it)", new.display())
    })?;
    let made = write(journal, &new, registry).and_then(|size| {
        syncfs(File::open(&new)?)?;
        // It replaces an empty directory at most: no other one.
        fs::rename(&new, directory)?;
        super::sync_parent(directory)?;
        Ok(size)
    });
    if made.is_err() {
        // Half of it is of no use.
        let _ = fs::remove_dir_all(&new);
    }
    let size = made.with_context(|| format!("{name} is not written"))?;
    out::say(&format!("{name}: {}", text::counted(size, "record")));
    Ok(())
}

/// Whether nothing is there, or a directory without anything in it.
fn is_free(directory: &Path) -> io::Result<bool> {
    match directory.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => Ok(fs::read_dir(directory)?.next().is_none()),
        Ok(_) => Ok(false),
    }
}

/// Writes all of it; how many records there are.
fn write(journal: &Path, to: &Path, registry: Option<&Registry>) -> anyhow::Result<u64> {
    let mut tiles = Tiles::default();
    let trust = registry.map_or(Trust::Journal(None), Trust::Registry);
    let signed = tenure::read(journal, trust, |leaf, body| {
        if leaf.seq != tiles.size() + 1 {
            bail!(
                "records {} to {} are not in {}, and the tree of a log is made of all its records; bring \
                 the segments back that were moved away, or give a directory with copies of all \
                 segments with --journal",
                tiles.size() + 1,
                leaf.seq - 1,
                journal.display()
            );
        }
        tiles.push(body)?.iter().try_for_each(|tile| put(to, tile))
    })?;
    let size = tiles.size();
    tiles.finish().iter().try_for_each(|tile| put(to, tile))?;
    let bytes = signed.checkpoint.note().as_bytes().to_vec();
    put(to, &Tile { path: CHECKPOINT.to_owned(), bytes })?;
    Ok(size)
}

fn put(to: &Path, tile: &Tile) -> anyhow::Result<()> {
    let file = to.join(&tile.path);
    let parent = file.parent().unwrap_or(to);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent).and_then(|()| {
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&file)?;
        file.write_all(&tile.bytes)
    });
    made.with_context(|| file.display().to_string())
}

//! What an idle writer states beside its segments: its newest checkpoint, and that all of it is on
//! disk. In the segments only the next write says that, and an idle writer writes nothing.
//! A reader that ships records waits for one or the other.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use host::files;
use signing_core::journal::{CHECKPOINT_MAX_BYTES, Frame, Layout};
use signing_core::tree::SignedCheckpoint;

use crate::readers::as_its_directory;
use crate::scan::read_at;

/// The file in the journal's directory. It is no segment.
pub(crate) const NAME: &str = "durable";

/// The file as the writer holds it.
#[derive(Debug)]
pub(crate) struct Statement {
    file: File,
    /// The size that it states.
    stated: u64,
}

impl Statement {
    /// Opens the file, or makes it. What stands in it stays true: it was on disk then.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = files::open_with(&mut options, &directory.join(NAME))?;
        as_its_directory(&file, directory)?;
        Ok(Self { file, stated: 0 })
    }

    /// States that everything which `newest` covers is on disk. It is called after the sync
    /// that brought it there. A process that dies in this call leaves a checksum that does not fit,
    /// and so no statement; the next start's records are stated as usual.
    pub(crate) fn state(&mut self, layout: &Layout, newest: &SignedCheckpoint) -> io::Result<()> {
        let size = newest.checkpoint().size;
        if self.stated == size {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(CHECKPOINT_MAX_BYTES);
        layout.restate(newest, &mut bytes);
        self.file.write_all_at(&bytes, 0)?;
        self.stated = size;
        Ok(())
    }
}

/// The newest checkpoint that an idle writer stated to be on disk whole, if there is one. Who
/// signed it is not checked, nor whether the records here have its root.
///
/// # Errors
/// If the file is there and cannot be read.
pub fn stated(directory: &Path) -> io::Result<Option<SignedCheckpoint>> {
    let file = match files::open(&directory.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(io::Error::new(error.kind(), format!("the file {NAME}: {error}")));
        }
        Ok(file) => file,
    };
    let mut bytes = [0; CHECKPOINT_MAX_BYTES];
    let read = read_at(&file, &mut bytes, 0)?;
    // One that is being written does not fit its checksum: the next look finds it whole.
    let frame = Frame::parse(bytes.get(..read).unwrap_or_default());
    let Ok(Some(Frame::Checkpoint(sealing))) = frame else { return Ok(None) };
    let is_whole = sealing.durable == sealing.checkpoint.checkpoint().size;
    Ok(is_whole.then_some(sealing.checkpoint))
}

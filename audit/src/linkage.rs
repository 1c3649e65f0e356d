//! Whether the segments go on one from the other: each header holds the checkpoint before it, and
//! that has to be the last one of the segment before. Two reads for each segment.

use signing_core::journal::Head;
use signing_core::tree::SignedCheckpoint;

use crate::error::OpenError;
use crate::reader::{Item, Reader};
use crate::scan::SegmentFile;

/// Checks all of them. Returns the checkpoints in the headers of all but the newest.
pub(crate) fn check(files: &[SegmentFile]) -> Result<Vec<SignedCheckpoint>, OpenError> {
    let mut before: Option<(&SegmentFile, Reader)> = None;
    let mut headers = Vec::new();
    for file in files {
        let reader = Reader::open(file)?;
        if let Some((earlier, last)) = before {
            let (expected, found) = (last.header().log(), reader.header().log());
            if found != expected {
                return Err(OpenError::OtherLog { path: file.path.clone(), found, expected });
            }
            headers.push(last.header().checkpoint.clone());
            follows(earlier, last, file, reader.header().before())?;
        }
        before = Some((file, reader));
    }
    Ok(headers)
}

/// Checks that `earlier` ends with the checkpoint that the header of `file` holds.
fn follows(
    earlier: &SegmentFile,
    mut reader: Reader,
    file: &SegmentFile,
    named: Head,
) -> Result<(), OpenError> {
    let io = || OpenError::io(&earlier.path);
    if reader.frames.ends_with(named).map_err(io())? {
        return Ok(());
    }
    // Something is wrong with it: where, all of its records tell.
    let damaged = |seq: u64, at, why: String| {
        let path = earlier.path.clone();
        OpenError::Damaged { path, seq, at, why }
    };
    let at = loop {
        match reader.step().map_err(io())? {
            Item::Record { .. } | Item::Sealed { .. } => {}
            Item::End(at) => break at,
            Item::Broken { at, record, error } => {
                return Err(damaged(record, at, error.to_string()));
            }
        }
    };
    if reader.frames.first_nonzero(at).map_err(io())?.is_some() {
        let why = "its length is zero, and what follows is not".to_owned();
        return Err(damaged(reader.growing().size() + 1, at, why));
    }
    let newest = reader.growing().newest();
    if reader.growing().size() != newest.size {
        let why = "no checkpoint is behind it".to_owned();
        return Err(damaged(reader.growing().size(), at, why));
    }
    let name = earlier.path.display();
    let why = if newest == named {
        return Ok(());
    } else if newest.size < named.size {
        let (from, to) = (newest.size + 1, named.size);
        format!("{name} ends with record {}, so records {from} to {to} are missing", newest.size)
    } else {
        format!(
            "{name} ends with record {} and root {}, and it goes on after record {} and root {}",
            newest.size, newest.root, named.size, named.root
        )
    };
    Err(OpenError::Unlinked { path: file.path.clone(), why })
}

//! Whether the segments go on one from the other: each header says after which record, and
//! that record has to be the last of the segment before. Two reads for each segment.

use std::path::Path;

use signing_core::journal::{ChainId, Head};

use crate::error::OpenError;
use crate::scan::{Frames, SegmentFile, Step};

/// Checks all of them; the one chain that they are of.
pub(crate) fn check(files: &[SegmentFile]) -> Result<ChainId, OpenError> {
    let mut before: Option<(&SegmentFile, Frames)> = None;
    for file in files {
        let frames = Frames::open(file)?;
        if let Some((earlier, last)) = before {
            let (expected, found) = (last.header().chain, frames.header().chain);
            if found != expected {
                return Err(OpenError::OtherChain { path: file.path.clone(), found, expected });
            }
            follows(earlier, last, file, frames.header().before)?;
        }
        before = Some((file, frames));
    }
    let chain = before.map(|(_, frames)| frames.header().chain);
    chain.ok_or_else(|| OpenError::NoJournal(Path::new("").to_owned()))
}

/// Checks that `earlier` ends with the record that the header of `file` names.
fn follows(
    earlier: &SegmentFile,
    mut frames: Frames,
    file: &SegmentFile,
    named: Head,
) -> Result<(), OpenError> {
    let io = || OpenError::io(&earlier.path);
    if frames.ends_with(named).map_err(io())? {
        return Ok(());
    }
    // Something is wrong with it: where, all of its records tell.
    let mut newest = frames.header().before;
    let at = loop {
        match frames.step().map_err(io())? {
            Step::Frame(_, frame) => newest = Head { seq: frame.seq, hash: frame.hash },
            Step::End(at) => break at,
            Step::Broken(at, error) => {
                let (path, seq) = (earlier.path.clone(), newest.seq + 1);
                return Err(OpenError::Damaged { path, seq, at, why: error.to_string() });
            }
        }
    };
    if frames.first_nonzero(at).map_err(io())?.is_some() {
        let (path, seq) = (earlier.path.clone(), newest.seq + 1);
        let why = "its length is zero, and what follows is not".to_owned();
        return Err(OpenError::Damaged { path, seq, at, why });
    }
    let name = earlier.path.display();
    let why = if newest == named {
        return Ok(());
    } else if newest.seq < named.seq {
        let (from, to) = (newest.seq + 1, named.seq);
        format!("{name} ends with record {}, so records {from} to {to} are missing", newest.seq)
    } else {
        format!(
            "{name} ends with record {} with hash {}, and it goes on after record {} with hash {}",
            newest.seq, newest.hash, named.seq, named.hash
        )
    };
    Err(OpenError::Unlinked { path: file.path.clone(), why })
}

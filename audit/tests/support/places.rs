//! Where the frames of a small journal lie.

use std::path::Path;

use audit::scan::{Frames, Step, segments};
use signing_core::journal::Frame;

/// A frame: the record that it is, or the newest that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) at: u64,
    pub(crate) record: u64,
    pub(crate) is_checkpoint: bool,
}

/// Each frame of the newest segment, and where the last one ends.
pub(crate) fn places(path: &Path) -> (Vec<Place>, u64) {
    let mut frames = Frames::open(&segments(path).unwrap()[0]).unwrap();
    let mut places = Vec::new();
    loop {
        match frames.step().unwrap() {
            Step::Frame(at, Frame::Entry(entry)) => {
                places.push(Place { at, record: entry.seq, is_checkpoint: false });
            }
            Step::Frame(at, Frame::Checkpoint(sealing)) => {
                let record = sealing.checkpoint.checkpoint().size;
                places.push(Place { at, record, is_checkpoint: true });
            }
            Step::End(end) => return (places, end),
            Step::Broken(at, error) => panic!("frame at {at}: {error}"),
        }
    }
}

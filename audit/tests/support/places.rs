//! Where the records of a small journal lie.

use std::path::Path;

use audit::scan::{Frames, Step, segments};

/// Where each record begins, and where the last one ends.
pub(crate) fn places(path: &Path) -> Vec<u64> {
    let mut frames = Frames::open(&segments(path).unwrap()[0]).unwrap();
    let mut places = Vec::new();
    loop {
        match frames.step().unwrap() {
            Step::Frame(at, _) => places.push(at),
            Step::End(at) => {
                places.push(at);
                return places;
            }
            Step::Broken(at, error) => panic!("record at {at}: {error}"),
        }
    }
}

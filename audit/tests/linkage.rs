//! A segment before the newest that is missing, cut or another one is found at the start.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::Duration;

use audit::scan::{Frames, SegmentFile, Step, segments};
use audit::{Journal, JournalError, OpenError, SegmentCheck};
use signing_core::journal::Frame;

use filled::fill_segments;
use support::{Scratch, open, small_journal, start, writable};

mod filled;
mod support;

/// How often it is looked at what the background found, and after how long.
const LOOKS: u32 = 30_000;
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A journal of four segments and a little more.
fn segmented(scratch: &Scratch) -> Vec<SegmentFile> {
    small_journal(&scratch.0);
    let journal = start(open(&scratch.0).unwrap());
    fill_segments(&journal, &scratch.0, 4);
    journal.stop("the test").unwrap();
    segments(&scratch.0).unwrap()
}

/// Where the last write of a segment begins, and where it ends.
fn last_write(segment: &SegmentFile) -> (u64, u64) {
    let mut frames = Frames::open(segment).unwrap();
    let (mut last, mut end) = (0, 0);
    loop {
        match frames.step().unwrap() {
            Step::Frame(at, Frame::Checkpoint(sealing)) => {
                (last, end) = (end, at + sealing.bytes as u64);
            }
            Step::Frame(..) => {}
            Step::End(end) => return (last, end),
            Step::Broken(at, error) => panic!("record at {at}: {error}"),
        }
    }
}

#[test]
fn a_segment_that_is_missing_inside_refuses_the_start_and_the_oldest_may_be_moved() {
    let scratch = Scratch::new("missing");
    let files = segmented(&scratch);
    for file in &files[1..3] {
        let kept = fs::read(&file.path).unwrap();
        fs::remove_file(&file.path).unwrap();
        let error = open(&scratch.0).unwrap_err();
        assert!(matches!(error, OpenError::Unlinked { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains(&format!("records {} to ", file.first_seq)), "{said}");
        fs::write(&file.path, kept).unwrap();
    }
    fs::remove_file(&files[0].path).unwrap();
    assert_eq!(open(&scratch.0).unwrap().cut(), None);
}

#[test]
fn an_older_segment_that_ends_otherwise_refuses_the_start() {
    let scratch = Scratch::new("cut-inside");
    let files = segmented(&scratch);
    let older = &files[1];
    let original = fs::read(&older.path).unwrap();
    let (from, to) = last_write(older);
    let file = writable(&older.path);
    // The last write gone, and a bit of its checkpoint changed.
    let length = usize::try_from(to - from).unwrap();
    file.write_all_at(&vec![0; length], from).unwrap();
    let error = open(&scratch.0).unwrap_err();
    assert!(matches!(error, OpenError::Unlinked { .. }), "{error}");
    fs::write(&older.path, &original).unwrap();
    let byte = original[usize::try_from(to).unwrap() - 60];
    file.write_all_at(&[byte ^ 1], to - 60).unwrap();
    let error = open(&scratch.0).unwrap_err();
    assert!(matches!(&error, OpenError::Damaged { path, .. } if *path == older.path), "{error}");
    fs::write(&older.path, &original).unwrap();
    assert_eq!(open(&scratch.0).unwrap().cut(), None);
}

#[test]
fn a_segment_of_the_same_numbers_from_another_run_refuses_the_start() {
    let scratch = Scratch::new("swapped");
    let files = segmented(&scratch);
    // Its chain goes on otherwise after a copy was taken: the second segment of both begins alike.
    let copy = Scratch::new("swapped-copy");
    fs::create_dir(&copy.0).unwrap();
    for file in &files[..2] {
        fs::copy(&file.path, copy.0.join(file.path.file_name().unwrap())).unwrap();
    }
    // What it ended with is taken off, and something else written.
    let second = segments(&copy.0).unwrap().remove(1);
    let (from, to) = last_write(&second);
    let length = usize::try_from(to - from).unwrap();
    writable(&second.path).write_all_at(&vec![0; length], from).unwrap();
    start(open(&copy.0).unwrap()).stop("otherwise").unwrap();
    fs::copy(&second.path, &files[1].path).unwrap();
    let error = open(&scratch.0).unwrap_err();
    assert!(
        matches!(&error, OpenError::Unlinked { path, .. } if *path == files[2].path),
        "{error}"
    );
}

/// Waits until the older segments are checked, or something is found.
fn looked_through(journal: &Journal) -> Option<JournalError> {
    for _ in 0..LOOKS {
        let older = journal.older_segments();
        match journal.error() {
            None | Some(JournalError::Stalled(_)) if older.checked < older.of => {}
            error => return error.filter(|error| matches!(error, JournalError::Sealed(_))),
        }
        // A pause: between two looks.
        thread::sleep(LOOK_EVERY);
    }
    panic!("it does not come to an end: {:?}", journal.older_segments());
}

#[test]
fn a_change_inside_an_older_segment_seals_soon_after_the_start() {
    let scratch = Scratch::new("inside");
    let files = segmented(&scratch);
    let journal = start(open(&scratch.0).unwrap());
    assert_eq!(looked_through(&journal), None);
    assert_eq!(journal.older_segments(), SegmentCheck { checked: 3, of: 3, waits: None });
    journal.stop("the test").unwrap();
    for (file, at) in files[..3].iter().zip([5000, 200_000, 900_000]) {
        let original = fs::read(&file.path).unwrap();
        let byte = original[usize::try_from(at).unwrap()];
        writable(&file.path).write_all_at(&[byte ^ 1], at).unwrap();
        let journal = start(open(&scratch.0).unwrap());
        let found = looked_through(&journal).unwrap().to_string();
        assert!(found.contains(file.path.to_str().unwrap()), "{found}");
        assert!(found.contains("is damaged"), "{found}");
        let _ = journal.stop("sealed");
        fs::write(&file.path, &original).unwrap();
    }
}

//! A process without a file descriptor left: older segments are read when there is one, and
//! nothing is sealed. A test of its own, since the limit is the whole process's.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use audit::scan::segments;
use audit::{Journal, JournalError, SegmentCheck};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use filled::fill_segments;
use support::{Scratch, open, small_journal, start, writable};

mod filled;
mod support;

/// How often it is looked at what the background found, and after how long.
const LOOKS: u32 = 30_000;
const LOOK_EVERY: Duration = Duration::from_millis(1);

fn older(journal: &Journal, is: impl Fn(&SegmentCheck) -> bool) -> SegmentCheck {
    for _ in 0..LOOKS {
        let older = journal.older_segments();
        let sealed = matches!(journal.error(), Some(JournalError::Sealed(_)));
        assert!(!sealed, "{:?}", journal.error());
        if is(&older) {
            return older;
        }
        // A pause: between two looks.
        thread::sleep(LOOK_EVERY);
    }
    panic!("it does not come: {:?}", journal.older_segments());
}

#[test]
fn older_segments_wait_for_a_file_descriptor_and_are_read_then() {
    let scratch = Scratch::new("shortage");
    small_journal(&scratch.0);
    let journal = start(open(&scratch.0).unwrap());
    fill_segments(&journal, &scratch.0, 3);
    journal.stop("the test").unwrap();
    let opened = open(&scratch.0).unwrap();
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // The first number that is free is the first that may not be used.
    let free = writable(&segments(&scratch.0).unwrap()[0].path).as_raw_fd();
    setrlimit(Resource::RLIMIT_NOFILE, u64::try_from(free).unwrap(), most).unwrap();
    let journal = start(opened);
    let waits = older(&journal, |older| older.waits.is_some());
    assert!(waits.waits.unwrap().contains("LimitNOFILE"));
    assert_eq!((waits.checked, waits.of), (0, 2));
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let read = older(&journal, |older| older.checked == older.of);
    assert_eq!(read, SegmentCheck { checked: 2, of: 2, waits: None });
    journal.stop("the test").unwrap();
}

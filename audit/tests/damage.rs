//! Damage: every bit that is flipped and every byte that is cut off is found when the
//! journal is opened, also in the last record.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::fs;
use std::os::unix::fs::FileExt as _;

use audit::OpenError;
use signing_core::journal::HEADER_BYTES;

use places::places;
use support::{SEGMENT_BYTES, Scratch, open, small_journal, start, writable};

#[path = "support/places.rs"]
mod places;
mod support;

#[test]
fn every_flipped_bit_is_found_and_nothing_is_cut() {
    let scratch = Scratch::new("flips");
    let segment = small_journal(&scratch.0);
    let (places, end) = places(&scratch.0);
    let original = fs::read(&segment).unwrap();
    let file = writable(&segment);
    // A few beyond the end, and the file's last byte.
    for at in (0..end + 16).chain([SEGMENT_BYTES - 1]) {
        let byte = original[usize::try_from(at).unwrap()];
        file.write_all_at(&[byte ^ (1 << (at % 8))], at).unwrap();
        let hit = places.iter().rev().find(|place| place.at <= at);
        match open(&scratch.0) {
            Err(error) if at < HEADER_BYTES as u64 => {
                assert!(error.to_string().contains(".journal"), "byte {at}: {error}");
            }
            Err(OpenError::Damaged { seq, path, .. }) => {
                // What stands behind the last record is in the place of the next.
                let behind = u64::from(at >= end);
                assert_eq!((seq, &path), (hit.unwrap().record + behind, &segment), "byte {at}");
            }
            Err(error) => panic!("byte {at}: {error}"),
            Ok(opened) => panic!("byte {at} of {hit:?} was not found: {opened:?}"),
        }
        file.write_all_at(&original[..usize::try_from(end).unwrap() + 16], 0).unwrap();
        file.write_all_at(&[0], SEGMENT_BYTES - 1).unwrap();
    }
    assert_eq!(fs::read(&segment).unwrap(), original);
    assert_eq!(open(&scratch.0).unwrap().cut(), None, "nothing is found where nothing is");
}

#[test]
fn a_file_of_another_length_is_refused_by_its_name() {
    let scratch = Scratch::new("lengths");
    let segment = small_journal(&scratch.0);
    let original = fs::read(&segment).unwrap();
    let file = writable(&segment);
    let (_, last) = places(&scratch.0);
    for length in (0..last + 16).chain([SEGMENT_BYTES - 1, SEGMENT_BYTES + 1]) {
        file.set_len(length).unwrap();
        let error = open(&scratch.0).unwrap_err().to_string();
        assert!(error.contains(segment.to_str().unwrap()), "{length} bytes: {error}");
        file.set_len(SEGMENT_BYTES).unwrap();
        file.write_all_at(&original[..usize::try_from(last).unwrap()], 0).unwrap();
    }
    assert_eq!(open(&scratch.0).unwrap().cut(), None, "nothing is found where nothing is");
}

#[test]
fn a_journal_without_its_first_record_is_refused_and_left_as_it_is() {
    let scratch = Scratch::new("wiped");
    let segment = small_journal(&scratch.0);
    let (places, end) = places(&scratch.0);
    let file = writable(&segment);
    // All records gone but a piece of the first, and that too.
    for from in [places[1].at - 72, places[0].at] {
        let wiped = vec![0; usize::try_from(end - from).unwrap()];
        file.write_all_at(&wiped, from).unwrap();
        let before = fs::read(&segment).unwrap();
        let error = open(&scratch.0).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { seq: 1, .. }), "{error}");
        assert_eq!(fs::read(&segment).unwrap(), before);
    }
}

#[test]
fn a_torn_write_is_cut_and_the_next_start_says_so() {
    let scratch = Scratch::new("torn");
    let segment = small_journal(&scratch.0);
    let (_, end) = places(&scratch.0);
    writable(&segment).write_all_at(&[0; 40], end - 40).unwrap();
    let journal = start(open(&scratch.0).unwrap());
    journal.stop("the test").unwrap();
    let text = String::from_utf8_lossy(&fs::read(&segment).unwrap()).into_owned();
    assert!(text.contains("\"cut_bytes\":"), "{text}");
    let cuts = text.split("\"cut_bytes\":").skip(1).map(|rest| rest.split(',').next().unwrap());
    assert_eq!(cuts.filter(|bytes| *bytes != "0").count(), 1);
}

//! What stands behind the newest checkpoint: for every kind of it, the start and `verify`
//! say the same. A torn write is cut and no defect; anything else is a defect, and nothing is cut.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use audit::OpenError;
use audit::verify::{Options, Report, verify};
use signing_core::journal::{HEADER_BYTES, Shape};

use batch::{NextBatch, with_batch};
use places::places;
use support::{SEGMENT_BYTES, Scratch, open, small_journal, writable};

#[path = "support/batch.rs"]
mod batch;
#[path = "support/places.rs"]
mod places;
mod support;

const SECTOR: usize = 512;

/// What both say.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Whole,
    /// Torn: the first record of the write that is not whole.
    Torn(u64),
    /// A defect: its record, and where it begins.
    Defect(u64, u64),
}

fn verified(path: &Path) -> Report {
    verify(path, &Options::default(), |_| ()).unwrap()
}

/// Asks both what they say of the journal with `tail` from `at` on. What is cut is gone; the
/// rest stays.
fn both(path: &Path, segment: &Path, at: u64, tail: &[u8], of: &str) -> Verdict {
    let file = writable(segment);
    let rest = usize::try_from(SEGMENT_BYTES - at).unwrap();
    file.write_all_at(&[tail, &vec![0; rest - tail.len()]].concat(), at).unwrap();
    let before = fs::read(segment).unwrap();
    let report = verified(path);
    let verdict = match (open(path), &report.defect, &report.torn) {
        (Ok(opened), None, None) => {
            assert_eq!(opened.cut(), None, "{of}");
            Verdict::Whole
        }
        (Ok(opened), None, Some(torn)) => {
            let cut = opened.cut().unwrap_or_else(|| panic!("{of}: not cut: {torn}"));
            assert!(cut.bytes > 0 && cut.sha256.len() == 64, "{of}");
            assert_eq!(
                (opened.head().size, torn.file.as_path()),
                (torn.record - 1, segment),
                "{of}"
            );
            assert_eq!(report.head.unwrap(), opened.head(), "{of}");
            Verdict::Torn(torn.record)
        }
        (Err(OpenError::Damaged { seq, path, at, why }), Some(defect), None) => {
            assert_eq!((seq, at, &path), (defect.record, defect.at, &defect.file), "{of}");
            assert_eq!(why, defect.what, "{of}");
            assert_eq!(fs::read(segment).unwrap(), before, "{of}: it was changed");
            Verdict::Defect(seq, at)
        }
        (start, defect, torn) => {
            panic!("{of}: start: {start:?}, verify: defect {defect:?}, torn {torn:?}")
        }
    };
    if let Verdict::Torn(_) = verdict {
        let again = verified(path);
        assert_eq!((again.defect, again.torn), (None, None), "{of}");
        assert_eq!(open(path).unwrap().cut(), None, "{of}: what was cut is gone");
    }
    verdict
}

/// The frames of a batch: where each begins, where it ends, and where its padding begins.
fn frames(batch: &[u8]) -> Vec<(usize, usize, usize)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Ok(Some(shape)) = Shape::parse(batch.get(at..).unwrap_or_default()) {
        found.push((at, at + shape.bytes, at + shape.used()));
        at += shape.bytes;
    }
    found
}

/// Which record it is about that the frame at `from` is not as it should be: `next`, or, if its
/// length says that it is a checkpoint, the one before.
fn about(bytes: &[u8], from: usize, next: u64) -> u64 {
    next - u64::from(bytes.get(from + 3).is_some_and(|byte| byte >> 7 == 1))
}

/// A number that looks like any other, always the same for the same `number`.
fn any(number: u64) -> u64 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &number.to_le_bytes());
    u64::from_le_bytes(*digest.as_ref().first_chunk().unwrap())
}

fn random(bytes: usize) -> Vec<u8> {
    (0..).flat_map(|number| any(number).to_le_bytes()).take(bytes).collect()
}

#[test]
fn every_truncation_of_a_write_is_torn() {
    let scratch = Scratch::new("truncations");
    let (segment, end, batch) = with_batch(&scratch.0, SEGMENT_BYTES, &[3, 40]);
    let first = open(&scratch.0).unwrap().head().size - 1;
    let (_, _, used) = *frames(&batch).last().unwrap();
    for written in 0..batch.len() {
        let of = format!("{written} bytes");
        let found = both(&scratch.0, &segment, end, &batch[..written], &of);
        let is_nothing = batch[..written].iter().all(|byte| *byte == 0);
        if written >= used || is_nothing {
            assert_eq!(found, Verdict::Whole, "{of}");
            continue;
        }
        let (number, (from, _, frame_used)) =
            frames(&batch).into_iter().enumerate().find(|(_, (_, to, _))| written < *to).unwrap();
        let is_torn = found == Verdict::Torn(first);
        // Of a header that is cut off, too little may be there to tell what it is; and one byte alone
        // may be missing because it was changed.
        let record = about(&batch[..written], from, first + number as u64);
        let is_there = found == Verdict::Defect(record, end + from as u64);
        let may_be = written - from <= 16 || written + 1 == frame_used;
        assert!(is_torn || is_there && may_be, "{of}: {found:?}");
    }
}

#[test]
fn a_write_that_lacks_any_of_its_sectors_is_torn() {
    for (name, reasons) in [
        ("short", &[1, 60, 7, 120, 30, 250, 3, 500, 90, 11][..]),
        ("long", &[1500, 1, 3000, 20, 1100]),
        ("one", &[900]),
        ("edge", &[700, 400, 400, 2000]),
    ] {
        let scratch = Scratch::new(&format!("subsets-{name}"));
        let (segment, end, batch) = with_batch(&scratch.0, SEGMENT_BYTES, reasons);
        let first = open(&scratch.0).unwrap().head().size + 1 - reasons.len() as u64;
        let skipped = usize::try_from(end).unwrap() % SECTOR;
        let sectors = (skipped + batch.len()).div_ceil(SECTOR);
        let one = (0..sectors).map(|sector| 1 << sector);
        let all_but_one = (0..sectors).map(|sector| !(1 << sector));
        for lost in one.chain(all_but_one).chain((0..150).map(any)) {
            let mut torn = batch.clone();
            for (at, byte) in torn.iter_mut().enumerate() {
                let sector = (skipped + at) / SECTOR;
                *byte *= u8::from(lost >> sector & 1 == 0);
            }
            let came = torn.iter().filter(|byte| **byte != 0).count();
            let expected = if torn == batch || came == 0 {
                Verdict::Whole
            } else if came < 16 {
                // The last bytes of its checkpoint alone.
                Verdict::Defect(first, end)
            } else {
                Verdict::Torn(first)
            };
            let of = format!("{name}, {sectors} sectors, lost {lost:b}");
            assert_eq!(both(&scratch.0, &segment, end, &torn, &of), expected, "{of}");
        }
    }
}

#[test]
fn every_changed_byte_of_the_last_write_is_a_defect() {
    let scratch = Scratch::new("changed-last");
    let (segment, end, write) = with_batch(&scratch.0, SEGMENT_BYTES, &[1, 150]);
    assert_eq!(both(&scratch.0, &segment, end, &write, "as it was"), Verdict::Whole);
    let first = open(&scratch.0).unwrap().head().size - 1;
    for at in 0..write.len() {
        let (number, _) =
            frames(&write).into_iter().enumerate().find(|(_, (_, to, _))| at < *to).unwrap();
        let bit = 1 << (at % 8);
        for changed in [write[at] ^ bit, !write[at], 0] {
            let mut bytes = write.clone();
            bytes[at] = changed;
            if bytes != write {
                let of = format!("byte {at} is {changed}");
                let found = both(&scratch.0, &segment, end, &bytes, &of);
                let begin = end + frames(&write)[number].0 as u64;
                // Whether it is a checkpoint is in the length, which may be what was changed.
                let record = about(&bytes, frames(&write)[number].0, first + number as u64);
                assert_eq!(found, Verdict::Defect(record, begin), "{of}");
            }
        }
    }
}

/// What nobody can have written there, each with its name.
fn junk(end: u64, next: &NextBatch, last: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let newest = next.tree.size();
    let write = |durable| {
        let (mut grown, mut bytes) = (next.clone(), Vec::new());
        grown.record(&"x".repeat(2000), &mut bytes);
        grown.checkpoint(durable, &mut bytes);
        bytes
    };
    let good = write(newest);
    let with = |at: usize, put: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + put.len()].copy_from_slice(put);
        bytes
    };
    let behind = |zeros: usize, junk: &[u8]| [&vec![0; zeros], junk].concat();
    let to_sector = SECTOR - usize::try_from(end).unwrap() % SECTOR;
    let (mut other, mut later, mut without) = (next.clone(), Vec::new(), Vec::new());
    other.record("another", &mut Vec::new());
    other.record("a record", &mut without);
    other.checkpoint(newest + 1, &mut later);
    let text = br#"{"at":"2026-11-24T02:22:12.123456Z","data":{},"type":"stop"}"#;
    vec![
        ("sevens", vec![7; 700]),
        ("one byte", vec![1]),
        ("two bytes", vec![1, 2]),
        ("bytes of 255", vec![255; 4096]),
        ("a few random bytes", random(16)),
        ("random bytes", random(700)),
        ("many random bytes", random(5000)),
        ("text", b"this is a line of a log\n".repeat(40)),
        ("a body", text.to_vec()),
        ("the last write again", last.to_vec()),
        ("a record without the one before", without),
        ("a checkpoint alone", later.clone()),
        ("a checkpoint of a root that is another", with(good.len() - 200, b"AAAAAAAA")),
        ("a write that knows too much", write(newest + 1)),
        ("a record that is cut off, of another number", with(8, &[200])[..1000].to_vec()),
        ("a header and random bytes", [&good[..16], &random(700)].concat()),
        ("a record with another length", with(0, &[200])),
        ("a record that is longer than it was", with(1, &[good[1] + 20])),
        (
            "a record that is cut off, then junk",
            [&good[..900], &[0; 2000], &random(700)[..]].concat(),
        ),
        ("a byte behind zeros", behind(3001, &[1])),
        ("a byte where a sector begins", behind(to_sector + 4096, &[1])),
        ("a few bytes where a sector begins", behind(to_sector + 4096, &random(15))),
        ("random bytes behind few zeros", behind(8, &random(700))),
        ("random bytes behind a sector", behind(to_sector, &random(700))),
        ("random bytes behind sectors", behind(to_sector + 4096, &random(700))),
        ("random bytes inside a sector", behind(to_sector + 4096 + 100, &random(40))),
        ("sevens behind sectors", behind(to_sector + 4096, &[7; 700])),
        ("an acknowledged write behind a sector", behind(to_sector + SECTOR, &later)),
    ]
}

#[test]
fn a_segment_without_its_first_record_is_a_defect() {
    let scratch = Scratch::new("empty");
    let segment = small_journal(&scratch.0);
    let (from, bytes) = (HEADER_BYTES as u64, fs::read(&segment).unwrap());
    for came in [0, 100, 300] {
        let part = &bytes[HEADER_BYTES..HEADER_BYTES + came];
        let found = both(&scratch.0, &segment, from, part, &format!("{came} bytes of it"));
        assert_eq!(found, Verdict::Defect(1, from));
    }
}

#[test]
fn what_no_torn_write_leaves_is_a_defect() {
    let scratch = Scratch::new("junk");
    let segment = small_journal(&scratch.0);
    let (places, end) = places(&scratch.0);
    let last = places.iter().rev().filter(|place| place.is_checkpoint).nth(1).unwrap();
    let begin = places.iter().find(|place| place.at > last.at).unwrap().at;
    let last = fs::read(&segment).unwrap()[begin as usize..end as usize].to_vec();
    let next = NextBatch::of(&scratch.0);
    let is_defect = |bytes: &[u8], name: &str| {
        let found = both(&scratch.0, &segment, end, bytes, name);
        let newest = next.tree.size();
        // A record, or the checkpoint behind it, is in another's place.
        let is_next = matches!(found, Verdict::Defect(record, at)
            if (newest..=newest + 1).contains(&record) && at >= end);
        assert!(is_next, "{name}: {found:?}");
    };
    for (name, bytes) in junk(end, &next, &last) {
        is_defect(&bytes, name);
    }
    let far = usize::try_from(SEGMENT_BYTES - end).unwrap();
    is_defect(&[&vec![0; far - 1], &[1][..]].concat(), "the end");
    assert_eq!(both(&scratch.0, &segment, end, &[], "zeros"), Verdict::Whole);
}

//! What stands behind the newest whole record: for every kind of it, the start and `verify`
//! say the same. A torn write is cut and no defect; anything else is a defect, and nothing is cut.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use audit::OpenError;
use audit::verify::{Options, Report, verify};
use signing_core::journal::{Chain, Head, KeyId};

use batch::{frame, with_batch};
use places::places;
use support::{SEGMENT_BYTES, Scratch, key, open, small_journal, writable};

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
    /// Torn: the record that is not whole.
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
                (opened.head().seq, torn.file.as_path()),
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
    while let Some(length) = batch.get(at..).and_then(|rest| rest.first_chunk()) {
        let used = at + 128 + u32::from_le_bytes(*length) as usize;
        found.push((at, used.next_multiple_of(8), used));
        at = used.next_multiple_of(8);
    }
    found
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
    let first = open(&scratch.0).unwrap().head().seq - 1;
    for written in 0..batch.len() {
        let (number, (from, _, used)) = frames(&batch)
            .into_iter()
            .enumerate()
            .find(|(_, (_, to, _))| written < *to)
            .map(|(number, frame)| (first + number as u64, frame))
            .unwrap();
        let missing = batch.get(written..used).unwrap_or_default();
        let is_sector = (end + written as u64).is_multiple_of(SECTOR as u64);
        let expected = match missing.iter().filter(|byte| **byte != 0).count() {
            0 => Verdict::Whole,
            // Only one byte: it may be one of an acknowledged record that was changed.
            1 if !is_sector => Verdict::Defect(number, end + from as u64),
            _ if batch[from..written].iter().all(|byte| *byte == 0) => Verdict::Whole,
            // No checksum: the length alone could be anything.
            _ if written - from <= 4 => Verdict::Defect(number, end + from as u64),
            _ => Verdict::Torn(number),
        };
        let of = format!("{written} bytes");
        assert_eq!(both(&scratch.0, &segment, end, &batch[..written], &of), expected, "{of}");
    }
}

#[test]
fn a_write_that_lacks_any_of_its_sectors_is_torn() {
    for (name, reasons) in [
        ("short", &[1, 60, 7, 120, 30, 250, 3, 500, 90, 11][..]),
        ("long", &[1500, 1, 3000, 20, 1100]),
        ("one", &[900]),
        // The header of the second begins in the last bytes of a sector.
        ("edge", &[700, 400, 400, 2000]),
    ] {
        let scratch = Scratch::new(&format!("subsets-{name}"));
        let (segment, end, batch) = with_batch(&scratch.0, SEGMENT_BYTES, reasons);
        let first = open(&scratch.0).unwrap().head().seq + 1 - reasons.len() as u64;
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
            let is_hit =
                |(from, _, used): &(usize, usize, usize)| torn[*from..*used] != batch[*from..*used];
            let expected = match frames(&batch).iter().position(is_hit) {
                Some(number) if torn[frames(&batch)[number].0..].iter().any(|byte| *byte != 0) => {
                    Verdict::Torn(first + number as u64)
                }
                _ => Verdict::Whole,
            };
            let of = format!("{name}, {sectors} sectors, lost {lost:b}");
            assert_eq!(both(&scratch.0, &segment, end, &torn, &of), expected, "{of}");
        }
    }
}

/// A journal with one record more, whose signature ends in a zero: `ends_in_zero`.
fn with_last(name: &str, ends_in_zero: bool) -> (Scratch, PathBuf, u64, Vec<u8>) {
    let scratch = Scratch::new(name);
    let segment = small_journal(&scratch.0);
    let end = *places(&scratch.0).last().unwrap();
    let opened = open(&scratch.0).unwrap();
    let new = || Chain::new(opened.chain(), opened.head(), KeyId::of(key().public()));
    for reason in 0.. {
        let mut bytes = Vec::new();
        frame(&mut new(), &reason.to_string(), opened.head().seq, &mut bytes);
        let (_, _, used) = frames(&bytes)[0];
        if (bytes[used - 1] == 0) == ends_in_zero {
            return (scratch, segment, end, bytes);
        }
    }
    panic!("no such signature")
}

#[test]
fn every_changed_byte_of_the_last_record_is_a_defect() {
    for ends_in_zero in [false, true] {
        let (scratch, segment, end, record) = with_last("changed-last", ends_in_zero);
        let seq = open(&scratch.0).unwrap().head().seq + 1;
        assert_eq!(both(&scratch.0, &segment, end, &record, "as it was"), Verdict::Whole);
        for at in 0..record.len() {
            let bit = 1 << (at % 8);
            for changed in [record[at] ^ bit, !record[at], 0] {
                let mut bytes = record.clone();
                bytes[at] = changed;
                if bytes != record {
                    let of = format!("byte {at} is {changed}, {ends_in_zero}");
                    let found = both(&scratch.0, &segment, end, &bytes, &of);
                    assert_eq!(found, Verdict::Defect(seq, end), "{of}");
                }
            }
        }
    }
}

/// What nobody can have written there, each with its name.
fn junk(end: u64, head: Head, chain: &Chain, last: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let record = |durable| {
        let mut bytes = Vec::new();
        frame(&mut chain.clone(), &"x".repeat(2000), durable, &mut bytes);
        bytes
    };
    let next = record(head.seq);
    let with = |at: usize, put: &[u8]| {
        let mut bytes = next.clone();
        bytes[at..at + put.len()].copy_from_slice(put);
        bytes
    };
    let behind = |zeros: usize, junk: &[u8]| [&vec![0; zeros], junk].concat();
    let to_sector = SECTOR - usize::try_from(end).unwrap() % SECTOR;
    let mut other = chain.clone();
    frame(&mut other, "another", head.seq, &mut Vec::new());
    let mut later = Vec::new();
    frame(&mut other, "a record", head.seq + 1, &mut later);
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
        ("the last record again", last.to_vec()),
        ("a record without the one before", later.clone()),
        ("a record that is cut off, of another number", with(8, &[9])[..1000].to_vec()),
        ("a record that is cut off, and knows too much", record(head.seq + 1)[..1000].to_vec()),
        ("a header and random bytes", [&next[..32], &random(700)].concat()),
        ("a header with a long body of random bytes", with(32, &random(1200))[..1400].to_vec()),
        ("a record whose hash is another", with(next.len() - 90, &[1, 2, 3])),
        ("a record with another length", with(0, &[200])),
        ("a record that is longer than it was", with(1, &[next[1] + 20])),
        (
            "a record that is cut off, then junk",
            [&next[..900], &[0; 2000], &random(700)[..]].concat(),
        ),
        ("a byte behind zeros", behind(3001, &[1])),
        ("a byte where a sector begins", behind(to_sector + 4096, &[1])),
        ("a few bytes where a sector begins", behind(to_sector + 4096, &random(15))),
        ("random bytes behind few zeros", behind(8, &random(700))),
        ("random bytes behind a sector", behind(to_sector, &random(700))),
        ("random bytes behind sectors", behind(to_sector + 4096, &random(700))),
        ("random bytes inside a sector", behind(to_sector + 4096 + 100, &random(40))),
        ("sevens behind sectors", behind(to_sector + 4096, &[7; 700])),
        ("an acknowledged record behind a sector", behind(to_sector + SECTOR, &later)),
    ]
}

#[test]
fn a_segment_without_its_first_record_is_a_defect() {
    let scratch = Scratch::new("empty");
    let segment = small_journal(&scratch.0);
    let (from, bytes) = (places(&scratch.0)[0], fs::read(&segment).unwrap());
    let from_usize = usize::try_from(from).unwrap();
    for came in [0, 100, 300] {
        let part = &bytes[from_usize..from_usize + came];
        let found = both(&scratch.0, &segment, from, part, &format!("{came} bytes of it"));
        assert_eq!(found, Verdict::Defect(1, from));
    }
}

#[test]
fn what_no_torn_write_leaves_is_a_defect() {
    let scratch = Scratch::new("junk");
    let segment = small_journal(&scratch.0);
    let places = places(&scratch.0);
    let (from, end) = (places[places.len() - 2], places[places.len() - 1]);
    let last = fs::read(&segment).unwrap()[from as usize..end as usize].to_vec();
    let opened = open(&scratch.0).unwrap();
    let head = opened.head();
    let chain = Chain::new(opened.chain(), head, KeyId::of(key().public()));
    drop(opened);
    for (name, bytes) in junk(end, head, &chain, &last) {
        let found = both(&scratch.0, &segment, end, &bytes, name);
        assert_eq!(found, Verdict::Defect(head.seq + 1, end), "{name}");
    }
    let far = usize::try_from(SEGMENT_BYTES - end).unwrap();
    let found = both(&scratch.0, &segment, end, &[&vec![0; far - 1], &[1][..]].concat(), "the end");
    assert_eq!(found, Verdict::Defect(head.seq + 1, end));
    assert_eq!(both(&scratch.0, &segment, end, &[], "zeros"), Verdict::Whole);
}

//! The journal's form: each record's canonical bytes, and that nothing which was changed,
//! moved, left out or signed by another key passes for what was written (I7).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use proptest::prelude::*;
use signing_core::journal::{
    AuditKeys, BODY_MAX_BYTES, Custody, Frame, FrameError, Growing, Grown, HEADER_BYTES, Head,
    Header, KeyId, Kind, Outline, Shape,
};
use signing_core::tree::{Frontier, LogId};

use journal_records::one_of_each;
use journal_writing::{AT, Audit, LOG, Writing, freeze, trusting};

mod journal_records;
#[expect(dead_code, reason = "another test signs a checkpoint alone")]
mod journal_writing;
mod key_pairs;

/// Three records in two writes: five frames.
fn five() -> Vec<Vec<u8>> {
    let key = Audit::new(1);
    let mut writing = Writing::new(LOG);
    writing.record(&freeze("one"));
    writing.record(&freeze("two"));
    writing.checkpoint(&[&key]);
    writing.record(&freeze("three"));
    writing.checkpoint(&[&key]);
    writing.frames
}

/// Reads frames as a verifier does: how many pass, and what is wrong with the next.
fn read(frames: &[Vec<u8>], log: LogId, keys: &AuditKeys) -> (usize, Option<FrameError>) {
    let tree = Frontier::default();
    let before = Head { size: 0, root: tree.root() };
    let mut growing = Growing::new(log, tree, before);
    let mut custody = Custody::default();
    for (number, bytes) in frames.iter().enumerate() {
        let mut step = || {
            let frame = Frame::parse(bytes)?.ok_or(FrameError::CutShort)?;
            match growing.take(frame)? {
                Grown::Record { body, .. } => {
                    Outline::parse(body).ok_or(FrameError::Body).map(|_| ())
                }
                Grown::Sealed(sealing) => custody.take(keys, &sealing.checkpoint),
            }
        };
        if let Err(error) = step() {
            return (number, Some(error));
        }
    }
    (frames.len(), None)
}

fn trusted() -> AuditKeys {
    trusting([&Audit::new(1)])
}

#[test]
fn every_record_has_one_form_and_is_read_back() {
    let records = one_of_each();
    for (record, data) in &records {
        let word = record.kind().word();
        let expected =
            format!(r#"{{"at":"1970-01-01T00:00:00.000000Z","data":{data},"type":"{word}"}}"#);
        let body = record.encode(AT).unwrap();
        assert_eq!(String::from_utf8_lossy(&body), expected);
        let (outline, kind) = Outline::parse(&body).unwrap();
        assert_eq!((kind, outline.r#type.as_str()), (record.kind(), word));
        assert_eq!(serde_json::to_string(&outline.data).unwrap(), *data);
    }
    for kind in Kind::ALL {
        assert!(records.iter().any(|(record, _)| record.kind() == *kind), "{kind:?} is missing");
        assert_eq!(Kind::parse(kind.word()), Some(*kind));
    }
    assert_eq!(Kind::parse("signature"), None);
}

#[test]
fn a_body_in_another_form_is_no_record() {
    let good = String::from_utf8(freeze("INC-1")).unwrap();
    assert!(Outline::parse(good.as_bytes()).is_some());
    let changed = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    for (what, body) in [
        ("white space", changed(",", ", ")),
        (
            "keys in another order",
            changed(r#""by":"uid 0","reason":"INC-1""#, r#""reason":"INC-1","by":"uid 0""#),
        ),
        ("a key twice", changed(r#""by":"uid 0""#, r#""by":"uid 1","by":"uid 0""#)),
        ("an escape that is not needed", changed("INC", r"\u0049NC")),
        ("a float", changed(r#""uid 0""#, "1.5")),
        ("a number beyond 64 bits", changed(r#""uid 0""#, "36893488147419103232")),
        ("a time of another form", changed(".000000Z", "Z")),
        ("a type that nobody knows", changed("freeze", "thaw")),
        ("a member more", changed(r#","type""#, r#","more":1,"type""#)),
        ("data that is no object", changed(r#"{"by":"uid 0","reason":"INC-1"}"#, "[]")),
        ("something after it", format!("{good} ")),
        ("half of it", good[..good.len() / 2].to_owned()),
        ("nothing", String::new()),
    ] {
        assert!(Outline::parse(body.as_bytes()).is_none(), "{what}: {body}");
    }
    assert!(Outline::parse(b"\xff").is_none());
}

#[test]
fn i7_what_was_written_is_read_and_verifies() {
    let key = Audit::new(1);
    let mut writing = Writing::new(LOG);
    for (number, (record, _)) in one_of_each().iter().enumerate() {
        writing.record(&record.encode(AT).unwrap());
        if number % 3 == 2 {
            writing.checkpoint(&[&key]);
        }
    }
    writing.record(&freeze("the last"));
    writing.checkpoint(&[&key]);
    assert_eq!(read(&writing.frames, LOG, &trusted()), (writing.frames.len(), None));
    for bytes in &writing.frames {
        assert!(bytes.len().is_multiple_of(8));
        let frame = Frame::parse(bytes).unwrap().unwrap();
        let shape = Shape::parse(bytes).unwrap().unwrap();
        assert_eq!((frame.bytes(), shape.bytes), (bytes.len(), bytes.len()));
        let is_checkpoint = matches!(frame, Frame::Checkpoint(_));
        assert_eq!(
            (Shape::is_checkpoint(bytes), shape.is_checkpoint),
            (is_checkpoint, is_checkpoint)
        );
    }
    let newest = Head { size: writing.tree.size(), root: writing.tree.root() };
    let Ok(Some(Frame::Checkpoint(last))) = Frame::parse(writing.frames.last().unwrap()) else {
        panic!("the last frame is no checkpoint")
    };
    assert_eq!(Head::of(last.checkpoint.checkpoint()), newest);
}

#[test]
fn i7_every_flipped_bit_is_found_by_the_checkpoint_behind_it() {
    let frames = five();
    // A record is covered by the checkpoint behind it, a checkpoint by its own signature.
    for (at, covered_by) in [(0, 2), (1, 2), (2, 2), (3, 4), (4, 4)] {
        for bit in 0..frames[at].len() * 8 {
            let mut changed = frames.clone();
            changed[at][bit / 8] ^= 1 << (bit % 8);
            let (passed, error) = read(&changed, LOG, &trusted());
            assert!((at..=covered_by).contains(&passed), "frame {at}, bit {bit}: {passed}");
            assert!(error.is_some(), "frame {at}, bit {bit}");
        }
    }
}

#[test]
fn i7_a_forged_checksum_hides_no_change() {
    for at in 0..5 {
        let good = five();
        let used = Shape::parse(&good[at]).unwrap().unwrap().used();
        for byte in 8..used {
            let mut changed = good.clone();
            changed[at][byte] ^= 1;
            let checksum = crc32fast::hash(&changed[at][8..used]);
            changed[at][4..8].copy_from_slice(&checksum.to_le_bytes());
            let (passed, error) = read(&changed, LOG, &trusted());
            let error = error.unwrap_or_else(|| {
                // What a checkpoint says was on disk is no part of what is signed, and nothing grows.
                assert!((16..24).contains(&byte) && at == 4, "frame {at}, byte {byte}");
                FrameError::Checksum
            });
            assert!(passed >= at, "frame {at}, byte {byte}: {error}");
        }
    }
}

#[test]
fn i7_frames_that_are_moved_left_out_or_repeated_do_not_pass() {
    let frames = five();
    let of = |places: &[usize]| places.iter().map(|at| frames[*at].clone()).collect::<Vec<_>>();
    for (places, passed) in [
        (&[1, 0, 2][..], 0),
        (&[0, 2], 1),
        (&[0, 1, 1], 2),
        (&[0, 1, 2, 2], 3),
        (&[0, 1, 2, 4], 3),
        (&[0, 1, 3, 4], 3),
        (&[2], 0),
        (&[3], 0),
    ] {
        let (found, error) = read(&of(places), LOG, &trusted());
        assert_eq!((found, error.is_some()), (passed, true), "{places:?}: {error:?}");
    }
    // The right numbers, of a log that went another way.
    let key = Audit::new(1);
    let mut other = Writing::new(LOG);
    other.record(&freeze("another"));
    other.record(&freeze("two"));
    other.checkpoint(&[&key]);
    let mixed = [frames[0].clone(), other.frames[1].clone(), frames[2].clone()];
    assert_eq!(read(&mixed, LOG, &trusted()), (3, None), "the same record is the same");
    let mixed = [other.frames[0].clone(), frames[1].clone(), frames[2].clone()];
    assert_eq!(read(&mixed, LOG, &trusted()), (2, Some(FrameError::Root)));
}

#[test]
fn i7_checkpoints_of_another_log_or_key_do_not_pass() {
    let (one, two) = (Audit::new(1), Audit::new(2));
    let written = |log, key: &Audit| {
        let mut writing = Writing::new(log);
        writing.record(&freeze("one"));
        writing.checkpoint(&[key]);
        writing.frames
    };
    let elsewhere = written(LogId::new([8; 16]), &one);
    assert_eq!(read(&elsewhere, LOG, &trusted()), (1, Some(FrameError::Note)));
    assert_eq!(read(&written(LOG, &two), LOG, &trusted()), (1, Some(FrameError::UnknownKey)));
    // Signed by another key, under the name of the right one.
    let posing = Audit { private: two.private, public: one.public };
    assert_eq!(read(&written(LOG, &posing), LOG, &trusted()), (1, Some(FrameError::Signature)));
    // A key of another algorithm signs no checkpoints.
    let mut keys = AuditKeys::default();
    keys.add(key_pairs::p256(1).1.public_key);
    assert!(keys.is_empty());
}

#[test]
fn i7_a_new_audit_key_takes_over_with_the_old_one_and_the_old_one_is_refused_then() {
    let (old, new, other) = (Audit::new(1), Audit::new(2), Audit::new(3));
    let keys = trusting([&old, &new, &other]);
    let id = |key: &Audit| KeyId::of(&key.public);
    let after = |writes: &[&[&Audit]]| {
        let mut writing = Writing::new(LOG);
        for signers in writes {
            writing.record(&freeze("x"));
            writing.checkpoint(signers);
        }
        let (passed, error) = read(&writing.frames, LOG, &keys);
        (passed / 2, error)
    };
    let other_key = |key: &Audit| Some(FrameError::OtherKey(id(key)));
    assert_eq!(after(&[&[&old], &[&new, &old], &[&new]]), (3, None));
    assert_eq!(after(&[&[&old], &[&new, &old], &[&old]]), (2, other_key(&old)));
    assert_eq!(after(&[&[&old], &[&new]]), (1, other_key(&new)));
    assert_eq!(after(&[&[&old], &[&old, &new]]), (1, other_key(&old)), "in the wrong order");
    assert_eq!(after(&[&[&old], &[&new, &other]]), (1, other_key(&new)), "beside a third one");
    let back: &[&[&Audit]] = &[&[&old], &[&new, &old], &[&new], &[&old, &new]];
    assert_eq!(after(back), (3, other_key(&old)), "a replaced key comes back");
    let later: &[&[&Audit]] = &[&[&old], &[&new, &old], &[&other, &new], &[&old, &other]];
    assert_eq!(after(later), (3, other_key(&old)), "a replaced key comes back later");
    assert_eq!(after(&[&[&old], &[&old, &old]]), (1, other_key(&old)), "one key twice");
    let headless: &[&[&Audit]] = &[&[&new, &old], &[&old, &new]];
    assert_eq!(after(headless), (1, other_key(&old)), "the first one read has both");
    let unknown = Audit::new(4);
    assert_eq!(after(&[&[&old], &[&new, &unknown]]), (1, Some(FrameError::UnknownKey)));
}

#[test]
fn a_checkpoint_knows_no_more_to_be_on_disk_than_was_written_before() {
    let key = Audit::new(1);
    for (durable, passes) in [(0, true), (2, true), (3, false), (u64::MAX, false)] {
        let mut writing = Writing::new(LOG);
        writing.record(&freeze("one"));
        writing.record(&freeze("two"));
        writing.checkpoint(&[&key]);
        writing.record(&freeze("three"));
        writing.durable = durable;
        writing.checkpoint(&[&key]);
        let expected = if passes { (5, None) } else { (4, Some(FrameError::Durable(durable))) };
        assert_eq!(read(&writing.frames, LOG, &trusted()), expected);
    }
}

#[test]
fn what_was_on_disk_stays_there() {
    let key = Audit::new(1);
    for (then, passes) in [(0, false), (1, false), (2, true), (3, true)] {
        let mut writing = Writing::new(LOG);
        for durable in [0, 1, 2, then] {
            writing.record(&freeze("x"));
            writing.durable = durable;
            writing.checkpoint(&[&key]);
        }
        let back = FrameError::DurableBack { found: then, before: 2 };
        let expected = if passes { (8, None) } else { (7, Some(back)) };
        assert_eq!(read(&writing.frames, LOG, &trusted()), expected);
    }
}

#[test]
fn zeros_end_a_segment_and_lengths_are_bounded() {
    assert!(Frame::parse(&[0; 512]).unwrap().is_none());
    assert!(Frame::parse(&[]).unwrap().is_none());
    for too_long in [u32::try_from(BODY_MAX_BYTES + 1).unwrap(), (1 << 31) + 417, 1 << 31] {
        let found = Frame::parse(&too_long.to_le_bytes()).unwrap_err();
        assert_eq!(found, FrameError::Length(too_long));
    }
    for frame in five() {
        for length in 4..frame.len() {
            assert_eq!(Frame::parse(&frame[..length]).unwrap_err(), FrameError::CutShort);
        }
    }
}

proptest! {
    #[test]
    fn i7_no_change_of_any_bytes_passes(
        frame in 0_usize..5,
        place in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 1..16),
    ) {
        let mut changed = five();
        let from = place.index(changed[frame].len());
        let to = (from + bytes.len()).min(changed[frame].len());
        changed[frame][from..to].copy_from_slice(&bytes[..to - from]);
        let (passed, error) = read(&changed, LOG, &trusted());
        if changed == five() {
            prop_assert_eq!((passed, error), (5, None));
        } else {
            prop_assert!(passed >= frame && error.is_some());
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        if let Ok(Some(Frame::Entry(entry))) = Frame::parse(&bytes) {
            let _ = Outline::parse(entry.body);
        }
        let _ = Outline::parse(&bytes);
        let padded: Vec<u8> = bytes.iter().copied().cycle().take(HEADER_BYTES).collect();
        if let Some(header) = padded.first_chunk() {
            let _ = Header::parse(header);
        }
    }

    #[test]
    fn any_text_has_one_form(reason in any::<String>()) {
        let body = freeze(&reason);
        let (outline, _) = Outline::parse(&body).unwrap();
        prop_assert_eq!(outline.text("reason"), Some(reason.as_str()));
    }
}

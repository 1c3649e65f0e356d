//! A segment's header: what it says is read back, and whatever else it could say is refused (I7).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use signing_core::journal::{Frame, HEADER_BYTES, Header, HeaderError, Layout};
use signing_core::tree::{Checkpoint, Frontier, TreeHash};

use journal_writing::{Audit, LOG, signed_by, trusting};

#[expect(dead_code, reason = "another test writes records too")]
mod journal_writing;
#[expect(dead_code, reason = "another test takes the other one")]
mod key_pairs;

fn header(records: u64) -> Header {
    let mut tree = Frontier::default();
    (0..records).for_each(|number| tree.push(TreeHash::leaf(&number.to_le_bytes())));
    headed(tree)
}

fn headed(tree: Frontier) -> Header {
    let checkpoint = Checkpoint { log: LOG, size: tree.size(), root: tree.root() };
    let checkpoint = signed_by(checkpoint, &[&Audit::new(1)]);
    Header { checkpoint, frontier: tree, segment_bytes: 1 << 20 }
}

#[test]
fn a_header_says_what_it_said_and_every_flipped_bit_is_found() {
    for records in [0, 1, 41, 255, 256] {
        let header = header(records);
        let bytes = header.encode();
        assert_eq!(Header::parse(&bytes), Ok(header.clone()));
        assert_eq!((header.before().size, header.growing().size()), (records, records));
        for bit in 0..HEADER_BYTES * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::parse(&changed).is_err(), "{records} records, bit {bit}");
        }
        // With a checksum that fits.
        for byte in 16..700 {
            let mut changed = bytes;
            changed[byte] ^= 1;
            let checksum = crc32fast::hash(&changed[16..]).to_le_bytes();
            changed[12..16].copy_from_slice(&checksum);
            if let Ok(other) = Header::parse(&changed) {
                // The length of the file, and signatures, are for others to check.
                assert_ne!(other, header, "byte {byte}");
                let is_free = (40..48).contains(&byte)
                    || trusting([&Audit::new(1)]).verify(&other.checkpoint).is_err();
                assert!(is_free, "{records} records, byte {byte}");
            }
        }
    }
    for version in [1, 3] {
        let mut other = header(3).encode();
        other[8] = version;
        assert_eq!(Header::parse(&other), Err(HeaderError::Version(u32::from(version))));
    }
    let beyond = (1 << 63) - 1;
    for (size, is_one) in [(beyond - 1, true), (beyond, false), (u64::MAX - 1, false)] {
        let tree = Frontier::new(size, vec![TreeHash::empty(); size.count_ones() as usize]);
        let found = Header::parse(&headed(tree.unwrap()).encode());
        assert_eq!(found.is_ok(), is_one, "{size} records before it: {found:?}");
    }
    let (key, next) = (Audit::new(1), Audit::new(2));
    for (size, is_one) in [(0, false), (1, true)] {
        let Header { checkpoint, .. } = header(size);
        let both = signed_by(*checkpoint.checkpoint(), &[&next, &key]);
        let found = Header::parse(&Header { checkpoint: both, ..header(size) }.encode());
        assert_eq!(found.is_ok(), is_one, "two signatures before record {}", size + 1);
    }
    let mut swapped = header(3);
    swapped.frontier = header(5).frontier;
    assert!(Header::parse(&swapped.encode()).is_err(), "another tree's frontier");
}

proptest! {
    #[test]
    fn a_forged_header_and_any_record_behind_it_are_read_without_a_panic(
        size in prop_oneof![0..300_u64, any::<u64>(), u64::MAX - 3..=u64::MAX],
        place in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..16),
        seqs in prop::collection::vec(any::<u64>(), 0..4),
    ) {
        let hashes = vec![TreeHash::empty(); size.count_ones() as usize];
        // Its first record has a number, as every header's has.
        prop_assume!(size < u64::MAX);
        let mut forged = headed(Frontier::new(size, hashes).unwrap()).encode();
        let from = 16 + place.index(HEADER_BYTES - 32);
        forged[from..from + bytes.len()].copy_from_slice(&bytes);
        let checksum = crc32fast::hash(&forged[16..]).to_le_bytes();
        forged[12..16].copy_from_slice(&checksum);
        if let Ok(header) = Header::parse(&forged) {
            let mut growing = header.growing();
            let next = (0..3).map(|more| header.before().size.saturating_add(more + 1));
            for seq in next.chain(seqs) {
                let mut frame = Vec::new();
                Layout::new(LOG).record(seq, b"x", &mut frame);
                let _ = growing.take(Frame::parse(&frame).unwrap().unwrap());
            }
        }
    }
}

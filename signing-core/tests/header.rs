//! A segment's header: what it says is read back, and whatever else it could say is refused (I7).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use signing_core::journal::{HEADER_BYTES, Header, HeaderError};
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
    let mut swapped = header(3);
    swapped.frontier = header(5).frontier;
    assert!(Header::parse(&swapped.encode()).is_err(), "another tree's frontier");
}

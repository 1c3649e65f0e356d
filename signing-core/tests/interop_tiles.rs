//! A log in tiles, file by file, held against the crate `tlog_tiles`, which shares no code with us.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;

use signing_core::tree::{Tile, Tiles};
use tlog_tiles::{Hash, HashReader};

/// Around each edge of a tile and of a bundle; the last is the example of c2sp.org/tlog-tiles.
const SIZES: [u64; 11] = [1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000];
/// A tile spans so many levels of the tree.
const HEIGHT: u8 = 8;

fn record(number: u64) -> Vec<u8> {
    format!("{{\"record\":{number}}}").into_bytes()
}

/// Their tree of the same records, hash by hash.
#[derive(Default)]
struct Theirs(Vec<Hash>);

impl HashReader for Theirs {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        let hash = |index: &u64| *self.0.get(usize::try_from(*index).unwrap()).unwrap();
        Ok(indexes.iter().map(hash).collect())
    }
}

/// All files that a log of that size has: theirs, with the paths of the standard instead of those of
/// Go's checksum database, and the bundles as the page says.
fn expected(size: u64, tree: &Theirs) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for tile in tlog_tiles::Tile::new_tiles(HEIGHT, 0, size) {
        let path = tile.path().replacen("tile/8/", "tile/", 1);
        if tile.level() == 0 {
            let first = tile.level_index() << HEIGHT;
            let entries = (first..first + u64::from(tile.width())).flat_map(|number| {
                let entry = record(number);
                [&u16::try_from(entry.len()).unwrap().to_be_bytes()[..], &entry].concat()
            });
            files.insert(path.replacen("tile/0/", "tile/entries/", 1), entries.collect());
        }
        files.insert(path, tile.read_data(tree).unwrap());
    }
    files
}

#[test]
fn our_tiles_and_bundles_are_those_that_others_read() {
    let (mut ours, mut tree) = (Tiles::default(), Theirs::default());
    let mut full = BTreeMap::new();
    let named = |tiles: Vec<Tile>| tiles.into_iter().map(|Tile { path, bytes }| (path, bytes));
    for number in 0..SIZES.into_iter().max().unwrap() {
        full.extend(named(ours.push(&record(number)).unwrap()));
        let more = tlog_tiles::stored_hashes(number, &record(number), &tree).unwrap();
        tree.0.extend(more);
        let size = ours.size();
        if !SIZES.contains(&size) {
            continue;
        }
        let (mut files, expected) = (full.clone(), expected(size, &tree));
        files.extend(named(ours.clone().finish()));
        assert!(files.keys().eq(expected.keys()), "{size} records: {:?}", files.keys());
        for (path, bytes) in &expected {
            assert!(files.get(path) == Some(bytes), "{size} records: {path}");
        }
    }
    assert_eq!(full.keys().filter(|path| path.starts_with("tile/0/")).count(), 273);
}

//! A log as static files, for every client of tiled logs (c2sp.org/tlog-tiles): tiles of 256 hashes
//! of one level of the tree, and bundles of 256 entries.

use super::frontier::Frontier;
use super::hash::TreeHash;

/// Hashes of a full tile, and entries of a full bundle.
const WIDTH: usize = 256;
/// A tile spans so many levels of the tree: 256 is two to this power.
const HEIGHT: u32 = WIDTH.ilog2();
/// In a bundle, the length of an entry stands before it: 2 bytes, big endian.
pub const ENTRY_MAX_BYTES: usize = u16::MAX as usize;

/// One file of a log in tiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Where it lies below the log's prefix, such as `tile/0/x001/234.p/7`.
    pub path: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// A log that is cut into tiles, entry by entry. It holds less than a tile of each level and less
/// than one bundle, however long the log is.
#[derive(Clone, Debug, Default)]
pub struct Tiles {
    size: u64,
    /// From the leaves up: the hashes of each level that fill no tile yet.
    levels: Vec<Vec<TreeHash>>,
    /// The entries that fill no bundle yet.
    bundle: Vec<u8>,
}

/// An entry does not fit into a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has {0} bytes, and an entry in a bundle has at most {ENTRY_MAX_BYTES}")]
pub struct EntryTooLong(pub usize);

impl Tiles {
    /// How many entries there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds the next entry; the files that are full with it.
    ///
    /// # Errors
    /// [`EntryTooLong`]; nothing has changed then.
    pub fn push(&mut self, entry: &[u8]) -> Result<Vec<Tile>, EntryTooLong> {
        let length = u16::try_from(entry.len()).map_err(|_| EntryTooLong(entry.len()))?;
        self.bundle.extend_from_slice(&length.to_be_bytes());
        self.bundle.extend_from_slice(entry);
        self.size += 1;
        let mut full = Vec::new();
        let mut hash = TreeHash::leaf(entry);
        for level in 0.. {
            let number = tile_number(self.size - 1, level);
            let Some(hashes) = self.levels.get_mut(level as usize) else {
                self.levels.push(vec![hash]);
                break;
            };
            hashes.push(hash);
            if hashes.len() < WIDTH {
                break;
            }
            full.push(Tile {
                path: path(&level.to_string(), number, WIDTH),
                bytes: joined(hashes),
            });
            hash = root(hashes);
            hashes.clear();
            if level == 0 {
                let bytes = std::mem::take(&mut self.bundle);
                full.push(Tile { path: path(ENTRIES, number, WIDTH), bytes });
            }
        }
        Ok(full)
    }

    /// The files at the right edge of the tree, which are not full.
    #[must_use]
    pub fn finish(self) -> Vec<Tile> {
        let edge = (0..).zip(&self.levels).filter(|(_, hashes)| !hashes.is_empty());
        let mut partial: Vec<_> = edge
            .map(|(level, hashes)| Tile {
                path: path(&level.to_string(), tile_number(self.size, level), hashes.len()),
                bytes: joined(hashes),
            })
            .collect();
        if let Some(width) = self.levels.first().map(Vec::len).filter(|width| *width > 0) {
            let path = path(ENTRIES, tile_number(self.size, 0), width);
            partial.push(Tile { path, bytes: self.bundle });
        }
        partial
    }
}

/// Where a tile's level stands, a bundle has this.
const ENTRIES: &str = "entries";

/// Which tile of that level spans the entry with this index.
fn tile_number(index: u64, level: u32) -> u64 {
    // A tree of 2^64 leaves fits under one tile of level 7.
    index.checked_shr(HEIGHT * (level + 1)).unwrap_or(0)
}

/// `tile/<L>/<N>[.p/<W>]`, where N has three digits in each part, and an x before all but the last.
fn path(level: &str, number: u64, width: usize) -> String {
    let mut digits = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        digits = format!("x{:03}/{digits}", rest % 1000);
        rest /= 1000;
    }
    let partial = if width < WIDTH { format!(".p/{width}") } else { String::new() };
    format!("tile/{level}/{digits}{partial}")
}

fn joined(hashes: &[TreeHash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// The root over a full tile.
fn root(hashes: &[TreeHash]) -> TreeHash {
    let mut tree = Frontier::default();
    hashes.iter().for_each(|hash| tree.push(*hash));
    tree.root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_three_digits_in_each_part() {
        for (number, width, expected) in [
            (0, 256, "tile/0/000"),
            (0, 1, "tile/0/000.p/1"),
            (999, 256, "tile/0/999"),
            (1000, 255, "tile/0/x001/000.p/255"),
            (1_234_067, 256, "tile/0/x001/x234/067"),
        ] {
            assert_eq!(path("0", number, width), expected);
        }
        assert_eq!(path(ENTRIES, 7, 256), "tile/entries/007");
    }

    #[test]
    fn an_entry_that_no_bundle_holds_is_refused() {
        let mut tiles = Tiles::default();
        assert!(tiles.push(&vec![b'x'; ENTRY_MAX_BYTES]).is_ok());
        let too_long = tiles.push(&vec![b'x'; ENTRY_MAX_BYTES + 1]);
        assert_eq!((too_long, tiles.size()), (Err(EntryTooLong(ENTRY_MAX_BYTES + 1)), 1));
    }
}

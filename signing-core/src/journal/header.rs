//! The first bytes of a segment: which log it is of, and what is before it.
//!
//! ```text
//! 0    8  "SIGNJRNL"
//! 8    4  version, 2                        (integers are little endian)
//! 12   4  CRC-32 of bytes 16 .. 4096
//! 16  16  log
//! 32   8  seq of its first record
//! 40   8  bytes of the whole file
//! 48   4  length of the note, N
//! 52   4  number of hashes, F
//! 56   N  note: the last signed checkpoint before the segment
//! 56+N    F hashes of 32 bytes: the frontier of the tree before the segment
//!         zeros up to 4096
//! ```

use super::head::{Growing, Head};
use crate::tree::{FRONTIER_MAX, Frontier, LogId, SignedCheckpoint, TreeHash};

/// Bytes of a header; the first frame follows.
pub const HEADER_BYTES: usize = 4096;

const MAGIC: &[u8; 8] = b"SIGNJRNL";
const VERSION: u32 = 2;
const COVERED_FROM: usize = 16;
/// No journal has so many records. So no sum of numbers overflows, whatever a header claims.
const FIRST_SEQ_LIMIT: u64 = 1 << 63;

/// A segment's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The last signed checkpoint before the segment.
    pub checkpoint: SignedCheckpoint,
    /// The frontier of its tree.
    pub frontier: Frontier,
    /// Bytes of the whole file.
    pub segment_bytes: u64,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It is no segment.
    #[error("it does not begin like a segment of a journal")]
    Magic,
    /// It is of another version.
    #[error("its version is {0}, and this program reads version {VERSION}")]
    Version(u32),
    /// Bytes were changed.
    #[error("the checksum of its header does not fit")]
    Checksum,
    /// It does not say what a header says.
    #[error("its header says what cannot be")]
    Content,
    /// The frontier is not the checkpoint's.
    #[error("the frontier in its header does not hash to the root of the checkpoint there")]
    Root,
}

impl Header {
    /// Which log the segment is of.
    #[must_use]
    pub const fn log(&self) -> LogId {
        self.checkpoint.checkpoint().log
    }

    /// How far the journal went before the segment.
    #[must_use]
    pub const fn before(&self) -> Head {
        Head::of(self.checkpoint.checkpoint())
    }

    /// The journal as it goes on from here.
    #[must_use]
    pub fn growing(&self) -> Growing {
        Growing::new(self.log(), self.frontier.clone(), self.before())
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let note = self.checkpoint.note().as_bytes();
        let hashes = self.frontier.hashes();
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let mut covered = Vec::with_capacity(HEADER_BYTES - COVERED_FROM);
        covered.extend_from_slice(self.log().as_bytes());
        covered.extend_from_slice(&(self.before().size + 1).to_le_bytes());
        covered.extend_from_slice(&self.segment_bytes.to_le_bytes());
        covered.extend_from_slice(&length(note.len()));
        covered.extend_from_slice(&length(hashes.len()));
        covered.extend_from_slice(note);
        hashes.iter().for_each(|hash| covered.extend_from_slice(hash.as_bytes()));
        covered.resize(HEADER_BYTES - COVERED_FROM, 0);
        let start = [*MAGIC, pair(VERSION, crc32fast::hash(&covered))].concat();
        let mut bytes = [0; HEADER_BYTES];
        for (to, from) in bytes.iter_mut().zip(start.into_iter().chain(covered)) {
            *to = from;
        }
        bytes
    }

    /// Reads the header at the start of a segment. Who signed the checkpoint is for
    /// [`super::AuditKeys::verify`] to say.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderError> {
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(HeaderError::Magic)?;
        if magic != MAGIC {
            return Err(HeaderError::Magic);
        }
        let (version, rest) = rest.split_first_chunk::<4>().ok_or(HeaderError::Magic)?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let (checksum, covered) = rest.split_first_chunk::<4>().ok_or(HeaderError::Magic)?;
        if crc32fast::hash(covered) != u32::from_le_bytes(*checksum) {
            return Err(HeaderError::Checksum);
        }
        let header = Self::content(covered).ok_or(HeaderError::Content)?;
        let is_its = header.frontier.root() == header.before().root;
        if is_its { Ok(header) } else { Err(HeaderError::Root) }
    }

    fn content(covered: &[u8]) -> Option<Self> {
        let (log, rest) = covered.split_first_chunk::<16>()?;
        let (first, rest) = rest.split_first_chunk::<8>()?;
        let (segment_bytes, rest) = rest.split_first_chunk::<8>()?;
        let (note, rest) = rest.split_first_chunk::<4>()?;
        let (hashes, rest) = rest.split_first_chunk::<4>()?;
        let hashes = usize::try_from(u32::from_le_bytes(*hashes)).ok()?;
        let (note, rest) =
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*note)).ok()?)?;
        let checkpoint = SignedCheckpoint::parse(std::str::from_utf8(note).ok()?).ok()?;
        let (frontier, padding) =
            rest.split_at_checked(hashes.min(FRONTIER_MAX).checked_mul(32)?)?;
        let frontier = frontier.as_chunks::<32>().0.iter().copied().map(TreeHash::new).collect();
        let said = checkpoint.checkpoint();
        let frontier = Frontier::new(said.size, frontier)?;
        let first = u64::from_le_bytes(*first);
        let is_one = said.log == LogId::new(*log)
            && first < FIRST_SEQ_LIMIT
            && Some(said.size) == first.checked_sub(1)
            // Nothing is handed over before the first record.
            && (said.size > 0 || checkpoint.signatures() == 1)
            && frontier.hashes().len() == hashes
            && padding.iter().all(|byte| *byte == 0);
        let segment_bytes = u64::from_le_bytes(*segment_bytes);
        is_one.then_some(Self { checkpoint, frontier, segment_bytes })
    }
}

fn pair(first: u32, second: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    for (to, from) in
        bytes.iter_mut().zip(first.to_le_bytes().into_iter().chain(second.to_le_bytes()))
    {
        *to = from;
    }
    bytes
}

//! The first bytes of a segment: which chain it continues, and after what.
//!
//! ```text
//! 0    8  "SIGNJRNL"
//! 8    4  version, 1                        (integers are little endian)
//! 12   4  CRC-32 of bytes 16 .. 512
//! 16  16  chain
//! 32   8  seq of its first record
//! 40  32  hash of the record before that; zeros before record 1
//! 72   8  bytes of the whole file
//! 80      zeros up to 512
//! ```

use super::chain::Head;
use super::hash::{ChainId, RecordHash};

/// Bytes of a header; the first frame follows.
pub const HEADER_BYTES: usize = 512;

const MAGIC: &[u8; 8] = b"SIGNJRNL";
const VERSION: u32 = 1;
const COVERED_FROM: usize = 16;

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The chain.
    pub chain: ChainId,
    /// The record before the segment's first.
    pub before: Head,
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
    #[error("its header says what can not be")]
    Content,
}

impl Header {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut covered = Vec::with_capacity(HEADER_BYTES - COVERED_FROM);
        covered.extend_from_slice(self.chain.as_bytes());
        covered.extend_from_slice(&(self.before.seq + 1).to_le_bytes());
        covered.extend_from_slice(self.before.hash.as_bytes());
        covered.extend_from_slice(&self.segment_bytes.to_le_bytes());
        covered.resize(HEADER_BYTES - COVERED_FROM, 0);
        let start = [*MAGIC, pair(VERSION, crc32fast::hash(&covered))].concat();
        let mut bytes = [0; HEADER_BYTES];
        for (to, from) in bytes.iter_mut().zip(start.into_iter().chain(covered)) {
            *to = from;
        }
        bytes
    }

    /// Reads the header at the start of a segment.
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
        Self::content(covered).ok_or(HeaderError::Content)
    }

    fn content(covered: &[u8]) -> Option<Self> {
        let (chain, rest) = covered.split_first_chunk::<16>()?;
        let (first, rest) = rest.split_first_chunk::<8>()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        let (segment_bytes, padding) = rest.split_first_chunk::<8>()?;
        let before =
            Head { seq: u64::from_le_bytes(*first).checked_sub(1)?, hash: RecordHash::new(*hash) };
        let starts_well = before.seq > 0 || before.hash == RecordHash::NONE;
        let padded = padding.iter().all(|byte| *byte == 0);
        (starts_well && padded).then_some(Self {
            chain: ChainId::new(*chain),
            before,
            segment_bytes: u64::from_le_bytes(*segment_bytes),
        })
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

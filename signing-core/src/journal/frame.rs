//! One record as it lies in a segment.
//!
//! ```text
//! 0      4  length of the body, L           (integers are little endian)
//! 4      4  CRC-32 of bytes 8 .. 128 + L
//! 8      8  seq
//! 16     8  newest seq known to be on disk when this was written
//! 24     8  id of the audit key
//! 32     L  body
//! 32+L  32  hash                            of chain, hash before, bytes 8 .. 32 + L
//! 64+L  64  signature                       over the hash
//! 128+L     zeros up to a multiple of 8
//! ```

use super::hash::RecordHash;
use super::key_id::KeyId;

/// Longest body.
pub const BODY_MAX_BYTES: usize = 32 * 1024;
/// Longest frame.
pub const FRAME_MAX_BYTES: usize = frame_bytes(BODY_MAX_BYTES);

/// Where the CRC's bytes begin; the hash's too.
const COVERED_FROM: usize = 8;
const BODY_FROM: usize = 32;
const HASH_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;
const ALIGNMENT: usize = 8;

/// Bytes of the frame of a body of that length.
#[must_use]
pub const fn frame_bytes(body: usize) -> usize {
    (BODY_FROM + body + HASH_BYTES + SIGNATURE_BYTES).next_multiple_of(ALIGNMENT)
}

/// A frame whose bytes are whole: its length and checksum fit. Whether it
/// belongs to its chain is for [`super::Head::then`] to say, and who signed it for
/// [`super::AuditKeys::verify`].
#[derive(Clone, Copy, Debug)]
pub struct Frame<'b> {
    /// Its number in the chain.
    pub seq: u64,
    /// The newest record known to be on disk when this one was written.
    pub durable: u64,
    /// The audit key that signed it.
    pub key: KeyId,
    /// Canonical JSON.
    pub body: &'b [u8],
    /// Its hash.
    pub hash: RecordHash,
    /// Ed25519 over the hash.
    pub signature: &'b [u8],
    /// How many bytes it takes.
    pub bytes: usize,
    pub(super) signed: &'b [u8],
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is out of range.
    #[error("its length says {0} bytes, and a body has 1 to {BODY_MAX_BYTES}")]
    Length(u32),
    /// The segment ends inside it.
    #[error("the segment ends inside it")]
    CutShort,
    /// The checksum does not fit.
    #[error("its checksum does not fit its bytes")]
    Checksum,
    /// Bytes that have to be zero are not.
    #[error("its padding is not zeros")]
    Padding,
    /// It is not the next one.
    #[error("its number is {found}, not {expected}")]
    Seq {
        /// What it says.
        found: u64,
        /// What it should say.
        expected: u64,
    },
    /// It does not follow on the record before, or its bytes were changed.
    #[error("its hash does not follow from its bytes and the record before it")]
    Hash,
    /// The audit key that it names is not known.
    #[error("it names the audit key {0}, which the registry does not have for that purpose")]
    UnknownKey(KeyId),
    /// The audit key did not sign it.
    #[error("its signature is not the audit key's")]
    Signature,
    /// The body is no canonical JSON, or no record.
    #[error("its body is not the canonical JSON of a record")]
    Body,
}

impl<'b> Frame<'b> {
    /// Reads the frame at the start of `bytes`, which go on to the segment's end.
    /// None: the length is zero, so the records end here.
    ///
    /// # Errors
    /// [`FrameError`] if there is no whole frame.
    pub fn parse(bytes: &'b [u8]) -> Result<Option<Self>, FrameError> {
        let Some((length, _)) = bytes.split_first_chunk() else { return Ok(None) };
        let length = u32::from_le_bytes(*length);
        let body = usize::try_from(length).unwrap_or(usize::MAX);
        if body == 0 {
            return Ok(None);
        }
        if body > BODY_MAX_BYTES {
            return Err(FrameError::Length(length));
        }
        let frame = bytes.get(..frame_bytes(body)).ok_or(FrameError::CutShort)?;
        let parts = Self::split(frame, body).ok_or(FrameError::CutShort)?;
        let Parts { checksum, covered, padding, frame } = parts;
        if crc32fast::hash(covered) != checksum {
            return Err(FrameError::Checksum);
        }
        if padding.iter().any(|byte| *byte != 0) {
            return Err(FrameError::Padding);
        }
        Ok(Some(frame))
    }

    /// Takes a frame apart; None if it is shorter than it has to be.
    fn split(bytes: &'b [u8], body: usize) -> Option<Parts<'b>> {
        let (_length, rest) = bytes.split_first_chunk::<4>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let covered = rest.get(..BODY_FROM - COVERED_FROM + body + HASH_BYTES + SIGNATURE_BYTES)?;
        let padding = rest.get(covered.len()..)?;
        let signed = covered.get(..BODY_FROM - COVERED_FROM + body)?;
        let (seq, rest) = covered.split_first_chunk::<8>()?;
        let (durable, rest) = rest.split_first_chunk::<8>()?;
        let (key, rest) = rest.split_first_chunk::<8>()?;
        let (body, rest) = rest.split_at_checked(body)?;
        let (hash, signature) = rest.split_first_chunk::<HASH_BYTES>()?;
        let frame = Self {
            seq: u64::from_le_bytes(*seq),
            durable: u64::from_le_bytes(*durable),
            key: KeyId::new(*key),
            body,
            hash: RecordHash::new(*hash),
            signature,
            bytes: bytes.len(),
            signed,
        };
        Some(Parts { checksum: u32::from_le_bytes(*checksum), covered, padding, frame })
    }
}

/// A frame taken apart, not checked yet.
struct Parts<'b> {
    checksum: u32,
    covered: &'b [u8],
    padding: &'b [u8],
    frame: Frame<'b>,
}

/// A frame at the end of a buffer, up to its body.
pub(super) struct Unsigned<'o> {
    out: &'o mut Vec<u8>,
    at: usize,
}

impl<'o> Unsigned<'o> {
    /// Begins a frame.
    ///
    /// # Panics
    /// If the body is empty or too long: our own records are neither.
    pub(super) fn begin(
        out: &'o mut Vec<u8>,
        body: &[u8],
        seq: u64,
        durable: u64,
        key: KeyId,
    ) -> Self {
        assert!((1..=BODY_MAX_BYTES).contains(&body.len()), "a body of {} bytes", body.len());
        let at = out.len();
        out.reserve(frame_bytes(body.len()));
        // Cannot be cut: it is below 2^15.
        out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&seq.to_le_bytes());
        out.extend_from_slice(&durable.to_le_bytes());
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(body);
        Self { out, at }
    }

    /// The bytes that the hash covers.
    pub(super) fn signed(&self) -> &[u8] {
        self.out.get(self.at + COVERED_FROM..).unwrap_or_default()
    }

    /// Ends the frame.
    pub(super) fn finish(&mut self, hash: &RecordHash, signature: &[u8; SIGNATURE_BYTES]) {
        self.out.extend_from_slice(hash.as_bytes());
        self.out.extend_from_slice(signature);
        let checksum = crc32fast::hash(self.signed()).to_le_bytes();
        if let Some(place) = self.out.get_mut(self.at + 4..self.at + COVERED_FROM) {
            place.copy_from_slice(&checksum);
        }
        let end = self.at + (self.out.len() - self.at).next_multiple_of(ALIGNMENT);
        self.out.resize(end, 0);
    }
}

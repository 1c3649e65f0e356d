//! What lies in a segment behind its header, one after the other: records, and behind the records
//! of each write a checkpoint that covers them.
//!
//! ```text
//! a record
//! 0      4  length of the body, L           (integers are little endian)
//! 4      4  CRC-32 of bytes 8 .. 16 + L
//! 8      8  seq
//! 16     L  body
//! 16+L      zeros up to a multiple of 8
//!
//! a checkpoint
//! 0      4  2^31 + length of the note, L
//! 4      4  CRC-32 of bytes 8 .. 24 + L
//! 8      8  size: the number of the newest record
//! 16     8  durable: the newest record known to be on disk when this was written
//! 24     L  note
//! 24+L      zeros up to a multiple of 8
//! ```

use super::key_id::KeyId;
use crate::tree::{NOTE_MAX_BYTES, SignedCheckpoint, TreeHash};

/// Longest body.
pub const BODY_MAX_BYTES: usize = 32 * 1024;
/// Longest frame.
pub const FRAME_MAX_BYTES: usize = frame_bytes(BODY_MAX_BYTES);
/// Longest frame of a checkpoint.
pub const CHECKPOINT_MAX_BYTES: usize =
    (NOTE_FROM + NOTE_MAX_BYTES).next_multiple_of(FRAME_ALIGNMENT);
/// Frames begin at multiples of this.
pub const FRAME_ALIGNMENT: usize = 8;

/// In the length: it is a checkpoint.
const IS_CHECKPOINT: u32 = 1 << 31;
/// Where the CRC's bytes begin.
const COVERED_FROM: usize = 8;
const BODY_FROM: usize = 16;
const NOTE_FROM: usize = 24;

/// Bytes of the frame of a body of that length.
#[must_use]
pub const fn frame_bytes(body: usize) -> usize {
    (BODY_FROM + body).next_multiple_of(FRAME_ALIGNMENT)
}

/// A frame whose bytes are whole: its length and checksum fit.
#[derive(Clone, Debug)]
pub enum Frame<'b> {
    /// A record. What covers it is the checkpoint behind it.
    Entry(Entry<'b>),
    /// A checkpoint. Whether it fits what is before it, and who signed it, is for
    /// [`super::Growing`] and [`super::AuditKeys::verify`] to say.
    Checkpoint(Sealing),
}

/// A record.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'b> {
    /// Its number.
    pub seq: u64,
    /// Canonical JSON.
    pub body: &'b [u8],
    /// How many bytes it takes in the file.
    pub bytes: usize,
}

/// A checkpoint in its place.
#[derive(Clone, Debug)]
pub struct Sealing {
    /// What it states, and its signatures.
    pub checkpoint: SignedCheckpoint,
    /// The newest record known to be on disk when it was written.
    pub durable: u64,
    /// How many bytes it takes in the file.
    pub bytes: usize,
}

/// What the first bytes of a frame say, before anything of it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Whether it is a checkpoint.
    pub is_checkpoint: bool,
    /// How long its body or note is.
    pub inner: usize,
    /// How many bytes it takes in the file.
    pub bytes: usize,
}

/// What is wrong with a record or a checkpoint.
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
    /// It is not a checkpoint, or not one of this log.
    #[error("the checkpoint behind it is not one of this journal")]
    Note,
    /// The checkpoint covers other records.
    #[error("the checkpoint behind it covers {found} records, and there are {expected}")]
    Size {
        /// What it says.
        found: u64,
        /// What it should say.
        expected: u64,
    },
    /// The records before the checkpoint are not those that it covers.
    #[error("the records up to here do not hash to the root of the checkpoint behind them")]
    Root,
    /// It says that more was on disk than there was.
    #[error("the checkpoint behind it says that record {0} was on disk, which is not before it")]
    Durable(u64),
    /// It says that less was on disk than the checkpoint before it does.
    #[error(
        "the checkpoint behind it says that record {found} was on disk, and the one before said {before}"
    )]
    DurableBack {
        /// What it says.
        found: u64,
        /// What the one before says.
        before: u64,
    },
    /// The audit key is not known.
    #[error(
        "the checkpoint behind it is signed with a key that the registry does not have for audit records"
    )]
    UnknownKey,
    /// The audit key did not sign it.
    #[error("the signature of the checkpoint behind it is not the audit key's")]
    Signature,
    /// Its audit key was replaced.
    #[error(
        "the checkpoint behind it is signed with the audit key {0}, which is not the journal's at this place; a new one signs its first checkpoint together with the one before it"
    )]
    OtherKey(KeyId),
    /// The body is no canonical JSON, or no record.
    #[error("its body is not the canonical JSON of a record")]
    Body,
}

impl Shape {
    /// Reads the length. None: it is zero, so the frames end here.
    ///
    /// # Errors
    /// [`FrameError::Length`].
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some((length, _)) = bytes.split_first_chunk() else { return Ok(None) };
        let length = u32::from_le_bytes(*length);
        if length == 0 {
            return Ok(None);
        }
        let is_checkpoint = length & IS_CHECKPOINT != 0;
        let inner = usize::try_from(length & !IS_CHECKPOINT).unwrap_or(usize::MAX);
        let most = if is_checkpoint { NOTE_MAX_BYTES } else { BODY_MAX_BYTES };
        if !(1..=most).contains(&inner) {
            return Err(FrameError::Length(length));
        }
        Ok(Some(Self::new(is_checkpoint, inner)))
    }

    /// Whether the first bytes say that they are a checkpoint's, whatever else they say.
    #[must_use]
    pub fn is_checkpoint(bytes: &[u8]) -> bool {
        let length = bytes.first_chunk().copied().map_or(0, u32::from_le_bytes);
        length & IS_CHECKPOINT != 0
    }

    /// Of a body or note of that length.
    #[must_use]
    pub const fn new(is_checkpoint: bool, inner: usize) -> Self {
        let from = if is_checkpoint { NOTE_FROM } else { BODY_FROM };
        let bytes = (from + inner).next_multiple_of(FRAME_ALIGNMENT);
        Self { is_checkpoint, inner, bytes }
    }

    /// Where its body or note begins in the frame.
    #[must_use]
    pub const fn inner_from(&self) -> usize {
        if self.is_checkpoint { NOTE_FROM } else { BODY_FROM }
    }

    /// How many bytes it takes without the zeros at its end.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.inner_from() + self.inner
    }
}

impl<'b> Frame<'b> {
    /// Reads the frame at the start of `bytes`, which go on to the segment's end.
    /// None: the length is zero, so the frames end here.
    ///
    /// # Errors
    /// [`FrameError`] if there is no whole frame.
    pub fn parse(bytes: &'b [u8]) -> Result<Option<Self>, FrameError> {
        let Some(shape) = Shape::parse(bytes)? else { return Ok(None) };
        let frame = bytes.get(..shape.bytes).ok_or(FrameError::CutShort)?;
        Self::shaped(frame, shape).map(Some)
    }

    fn shaped(frame: &'b [u8], shape: Shape) -> Result<Self, FrameError> {
        let cut = FrameError::CutShort;
        let (used, padding) = frame.split_at_checked(shape.used()).ok_or(cut)?;
        let (_length, rest) = used.split_first_chunk::<4>().ok_or(cut)?;
        let (checksum, covered) = rest.split_first_chunk::<4>().ok_or(cut)?;
        if crc32fast::hash(covered) != u32::from_le_bytes(*checksum) {
            return Err(FrameError::Checksum);
        }
        if padding.iter().any(|byte| *byte != 0) {
            return Err(FrameError::Padding);
        }
        let (number, rest) = covered.split_first_chunk::<8>().ok_or(cut)?;
        let (number, bytes) = (u64::from_le_bytes(*number), frame.len());
        if !shape.is_checkpoint {
            return Ok(Self::Entry(Entry { seq: number, body: rest, bytes }));
        }
        let (durable, note) = rest.split_first_chunk::<8>().ok_or(cut)?;
        let note = std::str::from_utf8(note).map_err(|_| FrameError::Note)?;
        let checkpoint = SignedCheckpoint::parse(note).map_err(|_| FrameError::Note)?;
        if checkpoint.checkpoint().size != number {
            return Err(FrameError::Note);
        }
        let durable = u64::from_le_bytes(*durable);
        Ok(Self::Checkpoint(Sealing { checkpoint, durable, bytes }))
    }

    /// How many bytes it takes in the file.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Entry(entry) => entry.bytes,
            Self::Checkpoint(sealing) => sealing.bytes,
        }
    }
}

impl Entry<'_> {
    /// The hash of its leaf in the tree.
    #[must_use]
    pub fn leaf(&self) -> TreeHash {
        TreeHash::leaf(self.body)
    }
}

/// Appends the frame of a record.
///
/// # Panics
/// If the body is empty or too long: our own records are neither.
pub(super) fn write_entry(out: &mut Vec<u8>, seq: u64, body: &[u8]) {
    assert!((1..=BODY_MAX_BYTES).contains(&body.len()), "a body of {} bytes", body.len());
    write(out, 0, body, |out| out.extend_from_slice(&seq.to_le_bytes()));
}

/// Appends the frame of a checkpoint.
pub(super) fn write_checkpoint(out: &mut Vec<u8>, checkpoint: &SignedCheckpoint, durable: u64) {
    let note = checkpoint.note().as_bytes();
    write(out, IS_CHECKPOINT, note, |out| {
        out.extend_from_slice(&checkpoint.checkpoint().size.to_le_bytes());
        out.extend_from_slice(&durable.to_le_bytes());
    });
}

fn write(out: &mut Vec<u8>, flag: u32, inner: &[u8], numbers: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    // Cannot be cut: both kinds are below 2^16.
    let length = u32::try_from(inner.len()).unwrap_or(0) | flag;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    numbers(out);
    out.extend_from_slice(inner);
    let covered = out.get(at + COVERED_FROM..).unwrap_or_default();
    let checksum = crc32fast::hash(covered).to_le_bytes();
    if let Some(place) = out.get_mut(at + 4..at + COVERED_FROM) {
        place.copy_from_slice(&checksum);
    }
    let end = at + (out.len() - at).next_multiple_of(FRAME_ALIGNMENT);
    out.resize(end, 0);
}

//! What came of a write behind the first gap in it: rows of sectors that read as the rest of
//! frames, or as something that no write leaves there.

use signing_core::journal::{FRAME_ALIGNMENT, Shape};

/// Each body and each note begins so.
const BODY_BEGINS: &[u8] = b"{\"at\":\"";
const NOTE_BEGINS: &[u8] = b"signing-journal/";
/// Where a frame has its number.
const NUMBER_AT: usize = 8;
/// The longest header of a frame: a row may begin with a part of one.
const HEADER_MAX: usize = 24;

/// Numbers that records of this write can have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// The newest record before it.
    pub(crate) after: u64,
    /// So many at most.
    pub(crate) most: u64,
}

impl Numbers {
    fn hold(self, number: u64) -> bool {
        number > self.after && number - self.after <= self.most
    }
}

/// Whether `inner`, as far as it is there, is how a body or a note begins.
pub(crate) fn begins(is_checkpoint: bool, inner: &[u8]) -> bool {
    let begins = if is_checkpoint { NOTE_BEGINS } else { BODY_BEGINS };
    begins.iter().zip(inner).all(|(expected, found)| expected == found)
}

/// Checks a row of sectors that came, one behind the other, up to its last byte that is not zero.
///
/// # Errors
/// Where in the row, and why, it is not the rest of a write.
pub(crate) fn check(row: &[u8], numbers: Numbers) -> Result<(), (usize, &'static str)> {
    let places = (0..row.len()).step_by(FRAME_ALIGNMENT);
    let first = places.map(|at| (at, row.get(at..).and_then(|rest| frame(rest, numbers))));
    let first = first.filter_map(|(at, shape)| Some((at, shape?))).next();
    let (mut at, mut shape) = match first {
        Some((at, shape)) => (at, shape),
        None => return rest_of_frame(row),
    };
    rest_of_frame(row.get(..at).unwrap_or_default())?;
    loop {
        let to = (at + shape.used()).min(row.len());
        let inner = row.get(at + shape.inner_from()..to).unwrap_or_default();
        if !inner.iter().all(is_text) {
            return Err((at, "there is no text in the record there"));
        }
        at += shape.bytes;
        let rest = match row.get(at..) {
            None | Some([]) => return Ok(()),
            Some(rest) => rest,
        };
        shape = frame(rest, numbers).ok_or((at, "there is no record behind the one before"))?;
    }
}

/// The frame that begins here, if one can.
fn frame(bytes: &[u8], numbers: Numbers) -> Option<Shape> {
    // The end of a row may cut off all but its length.
    let shape = Shape::parse(bytes).ok().flatten()?;
    let number = bytes.get(NUMBER_AT..).and_then(<[u8]>::first_chunk);
    let fits = number.is_none_or(|number| numbers.hold(u64::from_le_bytes(*number)));
    let inner = bytes.get(shape.inner_from()..).unwrap_or_default();
    (fits && begins(shape.is_checkpoint, inner)).then_some(shape)
}

/// Checks what stands before the first frame of a row.
fn rest_of_frame(bytes: &[u8]) -> Result<(), (usize, &'static str)> {
    let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
    let text = bytes.get(HEADER_MAX..bytes.len().saturating_sub(zeros)).unwrap_or_default();
    if zeros < FRAME_ALIGNMENT.max(HEADER_MAX.saturating_sub(bytes.len()))
        && text.iter().all(is_text)
    {
        Ok(())
    } else {
        Err((0, "there is no text as in the rest of a record"))
    }
}

fn is_text(byte: &u8) -> bool {
    *byte >= b' ' || *byte == b'\n'
}

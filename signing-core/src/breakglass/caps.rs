//! The bounds of every session, whatever was approved.

use std::time::Duration;

/// What a journal needs in any case: two segments of the usual size.
const SEGMENTS_BYTES: u64 = 2 * (64 << 20);
/// More than the record of an emergency signature has.
const RECORD_MAX_BYTES: u64 = 2 << 10;

/// How many bytes a disk needs free for a journal that records a session of so many signatures.
#[must_use]
pub const fn room_bytes(signatures_max: u64) -> u64 {
    SEGMENTS_BYTES.saturating_add(signatures_max.saturating_mul(RECORD_MAX_BYTES))
}

/// What the signer's own configuration allows, whatever was approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// From `not_before` to `expires_at`.
    pub session_max: Duration,
    /// Signatures of a session.
    pub signatures_max: u64,
    /// Signatures in any second, wherever it begins.
    pub signatures_per_second_max: u32,
}

//! The bounds of every session, whatever was approved.

use std::time::Duration;

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

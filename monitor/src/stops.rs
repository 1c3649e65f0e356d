//! What has stopped: for whoever has to end what was released before, and for whoever keeps sessions.

use signing_core::Moment;

/// How many stops there were: freezes, seals, ends of sessions. Told once they are in force, so
/// that what is released before one of them was released before it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stops {
    /// Stops after which nothing that was under way may arrive.
    pub at_once: u64,
    /// When the last signatures of a session whose quota was used up have to have left.
    pub last_leave_by: Option<Moment>,
}

/// A session that a new freeze ended here. The emergency signer does not know of it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenAnew {
    /// Its name.
    pub session: String,
    /// Why it ended, as it is recorded.
    pub why: String,
}

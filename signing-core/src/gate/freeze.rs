//! The freeze.

use time::OffsetDateTime;

use crate::freeze_id::FreezeId;
use crate::moment::Moment;

/// An operator's stop. Beats everything but a session whose approvers named this very freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Its name. None: nothing could name it, and so no session signs under it.
    pub id: Option<FreezeId>,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who: `uid 1000 (alice)`, or the environment variable.
    pub by: String,
    /// When, by the calendar.
    pub at: OffsetDateTime,
    /// When, by the boot-time clock.
    pub since: Moment,
}

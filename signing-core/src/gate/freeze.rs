//! The freeze.

use time::OffsetDateTime;

use crate::moment::Moment;

/// An operator's stop. Beats everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Why, in the operator's words.
    pub reason: String,
    /// Who: `uid 1000 (alice)`, or the environment variable.
    pub by: String,
    /// When, by the calendar.
    pub at: OffsetDateTime,
    /// When, by the boot-time clock.
    pub since: Moment,
}

//! The fleet, the pure part: what one member of many proxies makes of what the others share.
//!
//! Each member decides alone. A freeze is obeyed from anybody who can say it. A freeze ends only by a
//! [`Statement`] that a person of the configured role signed and that [`judge()`] found to count. So
//! whoever writes the database between the members can stop signing, and never start it.
//!
//! ```text
//! bytes -> Statement -> judge(evidence) -> Verified -> Member::ending -> Ending -> Member::end
//! ```

mod errands;
mod judge;
mod member;
mod statement;

pub use crate::freeze_id::FreezeId;
pub use errands::{Errands, errands};
pub use judge::{CLOCK_SKEW, Clause, Evidence, LIFETIME_MAX, NotVerified, Verified, judge};
pub use member::{
    ENDED_MAX, Ending, HELD_MAX, Joining, Member, Memory, Obeyed, OnLoss, Rules, Stop,
};
pub use statement::{
    Draft, FLEET_MAX_BYTES, NAMESPACE, STATEMENT_MAX_BYTES, Statement, StatementError, TYPE,
};

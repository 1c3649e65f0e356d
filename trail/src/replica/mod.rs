//! The replica that this trail belongs to, as its sink knows it: asked before a journal may begin without
//! a person (`register`), and noted while one is shipped (`watch`). A name outlives a volume, so a volume
//! that was emptied is found out.

mod gauges;
mod register;
mod table;
mod watch;

pub use gauges::Gauges;
pub use register::{RegisterError, register};
pub(crate) use watch::Watch;

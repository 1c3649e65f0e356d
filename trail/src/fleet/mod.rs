//! The agent of a fleet: it carries the words of a fleet between the database and the proxy on this
//! machine. It decides nothing: the proxy obeys a freeze, and verifies what ends one.

mod agent;
mod gauges;
mod members;
mod proxy;
mod statements;

pub(crate) use agent::Agent;
pub(crate) use gauges::Gauges;
pub use members::{MemberRow, part};
pub use statements::{FleetRows, FreezeRow, StatementRow};

//! What the proxy and whoever looks after it say to each other: the requests and answers of the admin
//! socket, and the bodies of `/health` and `/readyz`. Both sides use these types, so that a mistyped name
//! does not compile.
//!
//! Requests refuse unknown keys. Readers of answers skip them: a newer proxy says more. All of it is read by
//! [`crate::json`], which takes no list in the place of an object.

mod activity;
pub mod breakglass;
mod commands;
mod condition;
pub mod doctor;
mod drill;
mod events;
mod fleet;
mod health;
pub mod incident;
pub mod path;
mod problem;
mod role;
mod status;

pub use activity::{Activity, RefusedFor, UpstreamCalls};
pub use commands::{Freeze, Frozen, Nothing, Reloaded, Unfreeze, Unseal, Unsealed};
pub use condition::{Condition, Level};
pub use drill::{Drill, DrillReport, Rehearsal, RehearsalRecorded};
pub use events::{Event, Events};
pub use fleet::{FleetEnded, FleetFreeze, FleetHeartbeat, FleetMember, FleetStatement, HeldFreeze};
pub use health::{
    FreezeInForce, Health, OpenIncident, Readiness, SessionHealth, SignerHealth, UpstreamHealth,
};
pub use problem::Problem;
pub use role::{Role, who_may};
pub use status::{EmergencyKey, JournalStatus, OlderSegments, ProxyStatus, Status, Worker};

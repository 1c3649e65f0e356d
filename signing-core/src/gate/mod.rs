//! The gate of each signer: starts shut, opens on positive evidence only, and
//! open is a lease (I2).
//!
//! A signer may have several upstreams, each with a state machine of its own; its gate is
//! open while one of them is.
//!
//! [`Gates`] is owned by one writer, which feeds it observations and time;
//! everyone else sees an immutable [`Snapshot`], which admits requests and
//! lets finished ones go.

mod armed;
mod audit_stop;
mod epoch;
mod freeze;
mod gates;
mod machine;
mod outage;
mod permit;
mod session_permit;
mod signer;
mod slots;
mod snapshot;
mod upstream;
mod upstream_permit;
mod window;

pub use armed::Armed;
pub use audit_stop::AuditStop;
pub use epoch::Epoch;
pub use freeze::Freeze;
pub use gates::{Gates, Transition, UpstreamChange};
pub use machine::{Cause, State, Thresholds};
pub use outage::OutageClock;
pub use permit::{Admits, Admitted, At, Permit, StillOpen};
pub use session_permit::{EmergencyPermit, Session};
pub use signer::{Extent, Watched};
pub use slots::{Slot, Slots};
pub use snapshot::{GateView, Snapshot};
pub use upstream::{Place, UpstreamView};
pub use upstream_permit::Upstream;
pub use window::{Tally, WindowLimits};

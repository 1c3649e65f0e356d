//! The gate of each signer: starts shut, opens on positive evidence only, and
//! open is a lease (I2).
//!
//! [`Gates`] is owned by one writer, which feeds it observations and time;
//! everyone else sees an immutable [`Snapshot`], which admits requests and
//! lets finished ones go.

mod audit_stop;
mod epoch;
mod evidence;
mod freeze;
mod gates;
mod machine;
mod slots;
mod snapshot;

pub use audit_stop::AuditStop;
pub use epoch::Epoch;
pub use evidence::{Evidence, Fault, Observation, Source};
pub use freeze::Freeze;
pub use gates::{Gates, Transition};
pub use machine::{Cause, State, Thresholds};
pub use slots::{Slot, Slots};
pub use snapshot::{GateView, Permit, Snapshot, StillOpen};

//! What the monitor decides: when a prober asks an upstream for what, what its writer makes of
//! canaries and traffic, and what is told at once.
//!
//! The proxy's monitor does what these say, on its clock; the simulation of
//! `signing-core/tests/simulation.rs` has the same ones decide, in virtual time.

mod news;
mod probe;
mod probing;
mod traffic;

pub use news::{FOLD_EVERY, News, fold, hear};
pub use probe::Probe;
pub use probing::{ProbeStep, Probing};
pub use traffic::{Folded, Traffic, Urgency};

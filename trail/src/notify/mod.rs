//! Notifications and annotations: what the journals say is told to people and services, one by one, in
//! order, each until its receiver accepts it. A receiver that is away delays nobody: this reads files
//! that are written anyway, in a process for which no signature waits.

mod back_off;
pub(crate) mod check;
mod client;
mod conditions;
mod deliver;
mod feed;
mod form;
mod journals;
mod metrics;
pub mod notice;
pub mod policy;
mod run;
mod standing;
mod state;
mod target;

pub(crate) use metrics::Deliveries;
pub(crate) use run::Notifying;

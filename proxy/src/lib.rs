//! The signing proxy: fails closed, proves every signature before it leaves.
//!
//! Read [`app`] for how it is put together, the crate [`release`] for what is proven, and
//! [`sign`] for the order in which.

pub mod admin;
pub mod app;
pub mod caller_rates;
pub mod check;
pub mod conditions;
pub mod dev;
pub mod doctor;
pub mod drill;
pub mod handles;
pub mod init;
pub mod log;
pub mod materials;
pub mod observe;
mod peer_address;
pub mod reload;
pub mod server;
pub mod signers;
pub mod tls_watch;

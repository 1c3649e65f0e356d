//! The process `signing-proxy`: what it is put together of, and how it starts, is commanded, reloads and
//! stops. It fails closed, and proves every signature before it leaves.
//!
//! It knows every other crate of the proxy, and none of them knows it. Read [`app`] for how they are put
//! together, the crate [`release`] for what is proven, [`sign`] for the order in which, [`server`] for the
//! doors and [`monitor`] for the gates.

pub mod admin;
pub mod app;
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
pub mod reload;
pub mod signers;
pub mod tls_watch;

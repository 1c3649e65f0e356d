//! The emergency signer: a process of its own that holds the emergency key. It signs only
//! within a session that two people approved (I5), that ends by itself (I12), and nothing
//! leaves before its record is on disk (I6).
//!
//! Read [`serve`] for how it is put together, `service/activate.rs` for how a session
//! begins, and [`connection`] for how signatures are made together.

pub mod arming;
pub mod check;
pub mod config;
pub mod connection;
pub mod history;
pub mod init;
pub mod key;
pub mod keyfile;
pub mod keygen;
pub mod lifeline;
mod listening;
pub mod log;
pub mod materials;
pub mod memory;
pub mod operator;
pub mod rebuild;
pub mod sandbox;
pub mod saver;
pub mod seal;
pub mod serve;
pub mod service;
pub mod signals;
pub mod store;
pub mod unlock;
mod worker;

//! The development provider's keys and the material of `signing-proxy dev`.
//!
//! This crate is the one place of the product besides the break-glass signer
//! that holds private keys (I4), so that the proxy itself can ban their types.

mod approvers;
mod emergency;
mod key;
mod material;

pub use approvers::Approver;
pub use emergency::EmergencyKey;
pub use key::{DevelopmentKey, KeyError};
pub use material::{Material, MaterialError};

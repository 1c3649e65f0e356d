//! The road of a signature: every proof of I1, in I1's order. Each step consumes the one before,
//! and only this crate makes them, so that skipping a step does not compile.
//!
//! ```text
//! Permit --announce--> SigningOrder --prove--> Proven --record--> Recorded --release--> Release
//! ```
//!
//! Whoever signs, an upstream or the emergency signer, sees an [`Order`] and answers bytes that
//! nobody believes yet.

mod intent;
mod order;
mod record;
mod release;

pub use intent::Context;
pub use order::{CanaryOrder, Failed, Order, Proven, SigningOrder, announce};
pub use record::{Provenance, Recorded};
pub use release::{Release, Withheld};

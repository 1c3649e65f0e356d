//! The pure domain of the signing proxy.
//!
//! No async, no IO, no clock, no environment, no randomness (I9): everything
//! here takes evidence and time as arguments and returns a decision. What may
//! say no returns a *proof*, a value whose constructor is private to this
//! crate, and the next step consumes it (I1).

#![warn(clippy::wildcard_enum_match_arm)]

pub mod admin;
pub mod attempt;
pub mod batch;
pub mod breakglass;
pub mod caller;
pub mod canary;
mod document;
pub mod door;
pub mod evidence;
pub mod fleet;
mod freeze_id;
pub mod gate;
mod hex_text;
pub mod incident;
mod instant;
pub mod journal;
pub mod json;
pub mod key;
pub mod mode;
pub mod moment;
pub mod monitor;
pub mod policy;
pub mod refusal;
pub mod registry;
pub mod replica;
pub mod request;
pub mod required;
mod reserved;
pub mod rulebook;
pub mod tree;
pub mod worker;

pub use attempt::{AttemptId, AttemptsId, UpstreamRequestId};
pub use caller::Caller;
pub use canary::Canary;
pub use door::Door;
pub use freeze_id::{FreezeId, NoFreezeId};
pub use key::{
    Algorithm, Digest, Hash, Kid, SignatureFormat, Signer, ToBeSigned, VerifiedSignature,
};
pub use mode::Mode;
pub use moment::Moment;
pub use policy::{Grant, Policy};
pub use refusal::{Reason, Refusal};
pub use registry::Registry;
pub use request::{Input, SignRequest};
pub use rulebook::Rulebook;

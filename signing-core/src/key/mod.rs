//! Registered keys: names, algorithms, what they sign, and the proof that a
//! signature is theirs.

mod algorithm;
mod input;
mod public;
mod signer;

pub use algorithm::{Algorithm, SIGNATURE_MAX_BYTES};
pub use input::{ED25519_MESSAGE_MAX_BYTES, ToBeSigned};
pub use public::{KeyError, PublicKey};
pub use signer::{BadSignature, Kid, KidError, Purpose, Signer, VerifiedSignature};

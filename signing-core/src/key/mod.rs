//! Registered keys: names, algorithms, what they sign, and the proof that a
//! signature is theirs.

mod algorithm;
mod format;
mod hash;
mod input;
mod kind;
mod ml_dsa;
mod parts;
mod public;
mod rsa;
mod signer;
mod verified;
mod verifier;

pub use algorithm::{Algorithm, SIGNATURE_MAX_BYTES, names_of};
pub use format::SignatureFormat;
pub use hash::{Digest, Hash, Hasher};
pub use input::{RAW_MESSAGE_MAX_BYTES, ToBeSigned};
pub use kind::KeyKind;
pub use parts::{spki_of_point, spki_of_rsa};
pub use public::{KeyError, PublicKey};
pub use signer::{Batching, Kid, KidError, Purpose, Signer};
pub use verified::{BadSignature, VerifiedSignature};

//! A request to sign, in the native form that every dialect is turned into.

use crate::key::{Algorithm, Digest, Hash, KeyKind, SignatureFormat};
use crate::refusal::Refusal;
use crate::reserved;

/// What the caller wants signed: exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A digest that the caller computed.
    Digest(Digest),
    /// A message.
    Message(Vec<u8>),
}

impl Input {
    /// The digest of a text that a caller shows whole.
    ///
    /// # Errors
    /// `invalid_request` if the text is a canary's.
    pub fn digest_of(hash: Hash, text: &[u8]) -> Result<Self, Refusal> {
        reserved::refuse(text)?;
        Ok(Self::Digest(hash.of(text)))
    }
}

/// A request to sign, whatever dialect it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignRequest {
    /// What to sign.
    pub input: Input,
    /// The signer the caller names: a kid or an alias. None: its default.
    pub signer: Option<String>,
    /// The algorithm the caller names. None: the signer's own.
    pub algorithm: Option<Algorithm>,
    /// The kind of key that the algorithm's name is about, if it is about one.
    pub key_kind: Option<KeyKind>,
    /// How the signature is to be written. None: in the signer's own form, which of a batch signer
    /// is a proof.
    pub format: Option<SignatureFormat>,
    /// Why the caller wants it, for the record.
    pub justification: Option<String>,
}

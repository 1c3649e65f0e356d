//! Canaries: fresh messages that the proxy signs to learn whether a signer works.

use crate::batch::LeafInput;
use crate::key::{Algorithm, Kid, Signer, ToBeSigned};

/// Every canary begins so, and nothing that a caller may have signed does: only
/// the digest of one, given as a digest, cannot be told from any other.
pub(crate) const PREFIX: &[u8] = b"signing-proxy canary v1\0";

/// Bytes of a canary's nonce: enough that the whole is longer than 64 bytes,
/// so that it is never mistaken for a raw digest under Ed25519.
pub const NONCE_BYTES: usize = 48;

/// `PREFIX || kid || nonce`: a message that no consumer of signatures accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    message: Vec<u8>,
}

impl Canary {
    /// The canary of `kid` with a fresh random `nonce`.
    #[must_use]
    pub fn new(kid: &Kid, nonce: [u8; NONCE_BYTES]) -> Self {
        Self { message: [PREFIX, kid.as_str().as_bytes(), &nonce].concat() }
    }

    /// What `signer` is given to sign; of a batch signer what a leaf has of it.
    #[must_use]
    pub fn to_be_signed(&self, signer: &Signer) -> ToBeSigned {
        if signer.batch.is_batch() {
            let leaf = LeafInput::of_message(&self.message);
            return ToBeSigned::from_leaf(leaf, signer.algorithm());
        }
        self.to_be_signed_with(signer.algorithm())
    }

    /// What a key is given to sign with `algorithm`: an RSA key has several.
    #[must_use]
    pub fn to_be_signed_with(&self, algorithm: Algorithm) -> ToBeSigned {
        Self::fits(ToBeSigned::from_message(&self.message, algorithm))
    }

    /// A canary has at most `PREFIX + 128 + 48` bytes, which every algorithm takes.
    #[expect(clippy::expect_used, reason = "an invariant of this file's own constants")]
    fn fits<E: std::fmt::Debug>(prepared: Result<ToBeSigned, E>) -> ToBeSigned {
        prepared.expect("a canary is shorter than every algorithm's limit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Digest, Hash};
    use crate::refusal::Reason;
    use crate::request::Input;

    #[test]
    fn a_canary_is_longer_than_any_digest() {
        let canary = Canary::new(&Kid::parse("k").unwrap(), [7; NONCE_BYTES]);
        assert!(canary.message.len() > 64);
    }

    #[test]
    fn no_caller_may_sign_a_canary() {
        let canary = Canary::new(&Kid::parse("k").unwrap(), [7; NONCE_BYTES]);
        for algorithm in Algorithm::ALL {
            for message in [canary.message.clone(), PREFIX.to_vec()] {
                let refusal = ToBeSigned::prepare(&Input::Message(message), *algorithm);
                assert_eq!(refusal.unwrap_err().reason, Reason::InvalidRequest);
            }
            // Nor its beginning as a digest, which Ed25519 would sign as it is.
            let digest = Digest::new(Hash::Sha256, &canary.message[..32]).unwrap();
            let refusal = ToBeSigned::prepare(&Input::Digest(digest), *algorithm);
            assert_eq!(refusal.unwrap_err().reason, Reason::InvalidRequest);
        }
    }
}

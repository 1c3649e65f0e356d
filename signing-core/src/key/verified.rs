//! The proof that a signature is a registered signer's.

use super::signer::Signer;
use super::{Algorithm, Kid, SignatureFormat, ToBeSigned};
use crate::batch::{self, Proved};

/// A signature that verified under its registered public key. There is no
/// other way to make one than [`Signer::verify`]:
///
/// ```
/// fn bytes(verified: signing_core::VerifiedSignature) -> Vec<u8> {
///     verified.bytes().to_vec()
/// }
/// ```
///
/// ```compile_fail
/// fn forge(kid: signing_core::Kid, signature: Vec<u8>) -> signing_core::VerifiedSignature {
///     let algorithm = signing_core::Algorithm::Ed25519Sha512;
///     signing_core::VerifiedSignature { kid, algorithm, signature }
/// }
/// ```
#[derive(Debug)]
pub struct VerifiedSignature {
    kid: Kid,
    algorithm: Algorithm,
    signature: Vec<u8>,
    /// Of a batch signer: which leaf it is.
    proved: Option<Box<Proved>>,
}

impl Signer {
    /// Proves that `signature` over `input` is this signer's; of a batch signer, that it is a proof
    /// with its signed note, and never a signature by itself.
    ///
    /// # Errors
    /// [`BadSignature`] if it is not: doubt about an upstream, which seals.
    pub fn verify(
        &self,
        input: &ToBeSigned,
        signature: Vec<u8>,
    ) -> Result<VerifiedSignature, BadSignature> {
        let bad = BadSignature { signature_bytes: signature.len() };
        if self.batch.is_batch() {
            let name = self.batch.key_name();
            let verified = name.and_then(|name| batch::verify(self, name, input, &signature));
            return verified.ok_or(bad);
        }
        if self.public_key.verifies(input, &signature) {
            let (kid, algorithm) = (self.kid.clone(), input.algorithm());
            Ok(VerifiedSignature { kid, algorithm, signature, proved: None })
        } else {
            Err(bad)
        }
    }
}

impl VerifiedSignature {
    /// Of a leaf, whose path and note were verified.
    pub(crate) fn of_leaf(signer: &Signer, text: Vec<u8>, proved: Proved) -> Self {
        let (kid, algorithm) = (signer.kid.clone(), signer.algorithm());
        Self { kid, algorithm, signature: text, proved: Some(Box::new(proved)) }
    }

    /// Of a batch signer: what a record has of the proof.
    #[must_use]
    pub fn proved(&self) -> Option<&Proved> {
        self.proved.as_deref()
    }

    /// The form in which it is written unless another one is asked for.
    #[must_use]
    pub fn own_format(&self) -> SignatureFormat {
        match self.proved {
            Some(_) => SignatureFormat::TlogProof,
            None => SignatureFormat::Der,
        }
    }

    /// The signer whose key it verified under.
    #[must_use]
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The algorithm it verified with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The signature in its algorithm's own form: 64 bytes (Ed25519), ASN.1 DER
    /// (ECDSA), as many bytes as the modulus (RSA), as many as the parameter set says (ML-DSA); of a batch signer the text of a proof.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.signature
    }

    /// The signature in that format. None if its algorithm has no such form.
    #[must_use]
    pub fn bytes_in(&self, format: SignatureFormat) -> Option<Vec<u8>> {
        match (&self.proved, format) {
            (Some(_), SignatureFormat::TlogProof) => Some(self.signature.clone()),
            (Some(_), SignatureFormat::Der | SignatureFormat::P1363) => None,
            (None, format) => format.write(self.algorithm, &self.signature),
        }
    }
}

/// An upstream answered a signature that does not verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signature of {signature_bytes} bytes does not verify under the registered public key")]
pub struct BadSignature {
    /// Length of what was answered.
    pub signature_bytes: usize,
}

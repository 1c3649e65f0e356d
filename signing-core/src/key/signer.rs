//! A registered signer, and the proof that a signature is its own.

use std::fmt;

use time::OffsetDateTime;

use super::{Algorithm, PublicKey, SignatureFormat, ToBeSigned, names_of};
use crate::refusal::{Reason, Refusal};

/// The name of a registered key. Short and printable, since it stands in
/// metrics, logs and file names' contents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid(String);

const KID_MAX_BYTES: usize = 128;

/// Why text is not a kid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a kid has 1 to {KID_MAX_BYTES} characters out of A-Z a-z 0-9 . _ - : / @ +")]
pub struct KidError;

impl Kid {
    /// Reads a kid.
    ///
    /// # Errors
    /// [`KidError`] if it is empty, too long, or has other characters.
    pub fn parse(text: &str) -> Result<Self, KidError> {
        let well_formed = (1..=KID_MAX_BYTES).contains(&text.len())
            && text.bytes().all(|b| {
                b.is_ascii_alphanumeric()
                    || matches!(b, b'.' | b'_' | b'-' | b':' | b'/' | b'@' | b'+')
            });
        if well_formed { Ok(Self(text.to_owned())) } else { Err(KidError) }
    }

    /// The kid as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a registered key is for. Keys of different purposes are disjoint (I4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Signs for callers through an upstream.
    Signing,
    /// Signs for callers inside a break-glass session only.
    Breakglass,
    /// Signs audit records only.
    Audit,
}

impl Purpose {
    /// Its word in a registry.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Signing => "signing",
            Self::Breakglass => "breakglass",
            Self::Audit => "audit",
        }
    }
}

/// A registered signer: its name, its public key, what it is for, and until
/// when it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Its name, unique in the registry.
    pub kid: Kid,
    /// Its public key, unique in the registry.
    pub public_key: PublicKey,
    /// What it is for.
    pub purpose: Purpose,
    /// It signs nothing from this instant on.
    pub not_after: Option<OffsetDateTime>,
    /// It was revoked at this instant.
    pub revoked_at: Option<OffsetDateTime>,
}

impl Signer {
    /// The algorithm it is registered for: what it signs with unless another one of
    /// its key's is named.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.public_key.algorithm()
    }

    /// Whether its key can sign with `algorithm`.
    ///
    /// # Errors
    /// `algorithm_not_supported` if it cannot.
    pub fn signs_with(&self, algorithm: Algorithm) -> Result<(), Refusal> {
        let known: Vec<_> = self.public_key.algorithms().collect();
        if known.contains(&algorithm) {
            return Ok(());
        }
        let detail = format!("{} signs with {}, not {algorithm}", self.kid, names_of(&known));
        Err(Refusal::new(Reason::AlgorithmNotSupported, detail).about(&self.kid))
    }

    /// Whether the registry lets it sign at `now`.
    ///
    /// # Errors
    /// `key_unavailable` if it is revoked or past its `notAfter`.
    pub fn usable_at(&self, now: OffsetDateTime) -> Result<(), Refusal> {
        let unavailable =
            |detail: String| Err(Refusal::new(Reason::KeyUnavailable, detail).about(&self.kid));
        match (self.revoked_at, self.not_after) {
            (Some(at), _) => {
                unavailable(format!("the registry says that this signer was revoked at {at}"))
            }
            (None, Some(at)) if now >= at => {
                unavailable(format!("the registry says that this signer ends at {at} (notAfter)"))
            }
            (None, _) => Ok(()),
        }
    }

    /// Proves that `signature` over `input` is this signer's.
    ///
    /// # Errors
    /// [`BadSignature`] if it is not: doubt about an upstream, which seals.
    pub fn verify(
        &self,
        input: &ToBeSigned,
        signature: Vec<u8>,
    ) -> Result<VerifiedSignature, BadSignature> {
        if self.public_key.verifies(input, &signature) {
            let (kid, algorithm) = (self.kid.clone(), input.algorithm());
            Ok(VerifiedSignature { kid, algorithm, signature })
        } else {
            Err(BadSignature { signature_bytes: signature.len() })
        }
    }
}

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
}

impl VerifiedSignature {
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
    /// (ECDSA), as many bytes as the modulus (RSA).
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.signature
    }

    /// The signature in that format. None if its algorithm has no such form.
    #[must_use]
    pub fn bytes_in(&self, format: SignatureFormat) -> Option<Vec<u8>> {
        format.write(self.algorithm, &self.signature)
    }
}

/// An upstream answered a signature that does not verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signature of {signature_bytes} bytes does not verify under the registered public key")]
pub struct BadSignature {
    /// Length of what was answered.
    pub signature_bytes: usize,
}

//! A registered signer: its key, what it is for, and what its signatures are like.

use std::fmt;

use time::OffsetDateTime;

use super::{Algorithm, KeyKind, PublicKey, SignatureFormat, ToBeSigned, names_of};
use crate::batch::{KeyName, KeyNameError, LeafInput, Salt};
use crate::instant::shown;
use crate::refusal::{Reason, Refusal};
use crate::request::Input;
use crate::tree::TreeHash;

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

/// Whether a signer signs batches (`"mode": "batch"`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Batching {
    /// It signs each input by itself.
    #[default]
    No,
    /// It signs batches and nothing else. In which deployment is not known here, so that nothing is
    /// its signature: see [`crate::Registry::of_deployment`].
    Unnamed,
    /// It signs batches and nothing else, and its notes name it so.
    Named(KeyName),
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
    /// Whether it signs batches.
    pub batch: Batching,
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
        if self.public_key.algorithms().any(|known| known == algorithm) {
            return Ok(());
        }
        let known: Vec<_> = self.public_key.algorithms().collect();
        let detail = format!("{} signs with {}, not {algorithm}", self.kid, names_of(&known));
        Err(Refusal::new(Reason::AlgorithmNotSupported, detail).about(&self.kid))
    }

    /// Whether its key is of the kind that a name such as `ecdsa-secp256k1-sha256` is about. None: the
    /// name was about no kind.
    ///
    /// # Errors
    /// `algorithm_not_supported` if it is of another kind.
    pub fn is_of(&self, named: Option<KeyKind>) -> Result<(), Refusal> {
        let (kid, kind) = (&self.kid, self.public_key.kind());
        match named {
            Some(named) if named != kind => {
                let (kind, named) = (kind.name(), named.name());
                let detail = format!(
                    "{kid} has a key of kind {kind}, and the algorithm that was named is one of {named} keys: \
                     name {:?}, or leave it out",
                    self.public_key.registry_name()
                );
                Err(Refusal::new(Reason::AlgorithmNotSupported, detail).about(kid))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The same signer, as a deployment knows it.
    ///
    /// # Errors
    /// [`KeyNameError`], of a batch signer that cannot have a name there.
    pub fn in_deployment(&self, deployment: &str) -> Result<Self, KeyNameError> {
        let batch = match self.batch {
            Batching::No => Batching::No,
            Batching::Unnamed | Batching::Named(_) => {
                Batching::Named(KeyName::new(deployment, &self.kid)?)
            }
        };
        Ok(Self { batch, ..self.clone() })
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
                let at = shown(at);
                unavailable(format!(
                    "the registry says that this signer was revoked at {at} (revokedAt)"
                ))
            }
            (None, Some(at)) if now >= at => {
                let at = shown(at);
                unavailable(format!("the registry says that this signer ended at {at} (notAfter)"))
            }
            (None, _) => Ok(()),
        }
    }

    /// Prepares a caller's input for this signer: what its key is given to sign, or, for a batch
    /// signer, what a leaf has of it.
    ///
    /// # Errors
    /// As [`ToBeSigned::prepare`] and [`LeafInput::prepare`].
    pub fn prepare(&self, input: &Input, algorithm: Algorithm) -> Result<ToBeSigned, Refusal> {
        if self.batch.is_batch() {
            let leaf = LeafInput::prepare(input)?;
            return Ok(ToBeSigned::from_leaf(leaf, algorithm));
        }
        ToBeSigned::prepare(input, algorithm)
    }

    /// Whether `input` was prepared for such a signer: a batch signer signs nothing but leaves, and
    /// leaves nobody else.
    ///
    /// # Errors
    /// `invalid_request`.
    pub fn takes(&self, input: &ToBeSigned) -> Result<(), Refusal> {
        if input.leaf().is_some() == self.batch.is_batch() {
            return Ok(());
        }
        let is = if self.batch.is_batch() { "is a batch signer" } else { "is no batch signer" };
        let detail = format!(
            "{} {is}, and the input was prepared otherwise; both sides have to read the same \
             registry",
            self.kid
        );
        Err(Refusal::new(Reason::InvalidRequest, detail).about(&self.kid))
    }

    /// The hash of the leaf of `input`. None: that was not prepared for a batch signer.
    #[must_use]
    pub fn leaf(&self, input: &ToBeSigned, salt: &Salt) -> Option<TreeHash> {
        Some(input.leaf()?.hash(&self.kid, self.algorithm(), salt))
    }

    /// How a signature of it with `algorithm` is written if `asked` is: none: in its own form.
    ///
    /// # Errors
    /// `invalid_request` if there is no such form of it.
    pub fn format(
        &self,
        asked: Option<SignatureFormat>,
        algorithm: Algorithm,
    ) -> Result<SignatureFormat, Refusal> {
        match (self.batch.is_batch(), asked) {
            (true, None | Some(SignatureFormat::TlogProof)) => Ok(SignatureFormat::TlogProof),
            (true, Some(SignatureFormat::Der | SignatureFormat::P1363)) => {
                let detail = format!(
                    "{} is a batch signer: its signature is a proof (c2sp.org/tlog-proof@v1), which is no \
                     signature to clients of this form; ask POST /v1/sign, without \"signature_format\"",
                    self.kid
                );
                Err(Refusal::new(Reason::InvalidRequest, detail).about(&self.kid))
            }
            (false, asked) => {
                let format = asked.unwrap_or_default();
                format.fits(algorithm).map_err(|refusal| refusal.about(&self.kid))?;
                Ok(format)
            }
        }
    }
}

impl Batching {
    /// Whether it signs batches and nothing else.
    #[must_use]
    pub const fn is_batch(&self) -> bool {
        !matches!(self, Self::No)
    }

    /// What its notes name its key by.
    #[must_use]
    pub const fn key_name(&self) -> Option<&KeyName> {
        match self {
            Self::Named(name) => Some(name),
            Self::No | Self::Unnamed => None,
        }
    }
}

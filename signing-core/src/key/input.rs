//! What exactly is put before the key, for each algorithm and kind of input.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self, RsaEncoding};

use super::{Algorithm, Digest, Hash};
use crate::batch::LeafInput;
use crate::refusal::{Reason, Refusal};
use crate::request::Input;
use crate::reserved;

/// The longest message AWS KMS takes as `RAW`. Ed25519 has no other form of a message.
/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html>
pub const RAW_MESSAGE_MAX_BYTES: usize = 4096;

/// The bytes a key signs, in the form its algorithm takes. Made only by
/// [`ToBeSigned::prepare`], so that lengths are right and no caller's input is
/// a canary or an approval, and by [`crate::Canary`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToBeSigned {
    algorithm: Algorithm,
    form: Form,
}

/// How the bytes stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A digest of the algorithm's own hash (KMS `DIGEST`).
    Digest(Digest),
    /// The message itself (KMS `RAW`).
    Raw(Vec<u8>),
    /// The input of one leaf of a batch. No key signs that, and no signature of one verifies over it.
    Leaf(LeafInput),
}

impl ToBeSigned {
    /// Prepares a caller's input for `algorithm`:
    ///
    /// | algorithm | given a digest | given a message |
    /// | --- | --- | --- |
    /// | ECDSA, RSA | that digest | its digest, computed here |
    /// | Ed25519 | the SHA-256 digest's bytes as the message | the message |
    /// | ML-DSA | the SHA-256 digest's bytes as the message | the message, of any length |
    ///
    /// # Errors
    /// `invalid_digest` if another hash made it, `message_too_large` if
    /// Ed25519's message is over 4096 bytes, `invalid_request` for what begins
    /// like a canary or an approval and for an empty message of Ed25519 or ML-DSA, which KMS does
    /// not take.
    pub fn prepare(input: &Input, algorithm: Algorithm) -> Result<Self, Refusal> {
        match input {
            Input::Digest(digest) => {
                // Ed25519 and ML-DSA sign the digest's own bytes.
                reserved::refuse(digest.bytes())?;
                Self::from_digest(digest, algorithm)
            }
            Input::Message(message) => {
                reserved::refuse(message)?;
                Self::from_message(message, algorithm)
            }
        }
    }

    fn from_digest(digest: &Digest, algorithm: Algorithm) -> Result<Self, Refusal> {
        let wanted = algorithm.digest_hash();
        if digest.hash() != wanted {
            return Err(Refusal::new(
                Reason::InvalidDigest,
                format!(
                    "the digest is a {} of {} bytes; {algorithm} takes a {} of {}",
                    digest.hash().name(),
                    digest.bytes().len(),
                    wanted.name(),
                    wanted.digest_bytes()
                ),
            ));
        }
        let form = if algorithm.signs_messages() {
            // A digest's bytes are the message here.
            reserved::refuse(digest.bytes())?;
            Form::Raw(digest.bytes().to_vec())
        } else {
            Form::Digest(digest.clone())
        };
        Ok(Self { algorithm, form })
    }

    /// What a leaf of a batch has of an input.
    pub(crate) fn from_leaf(leaf: LeafInput, algorithm: Algorithm) -> Self {
        Self { algorithm, form: Form::Leaf(leaf) }
    }

    /// The input as a leaf of a batch has it, if it goes into one.
    #[must_use]
    pub fn leaf(&self) -> Option<&LeafInput> {
        match &self.form {
            Form::Leaf(leaf) => Some(leaf),
            Form::Digest(_) | Form::Raw(_) => None,
        }
    }

    /// Prepares a message whoever wrote it: canaries come this way too.
    pub(crate) fn from_message(message: &[u8], algorithm: Algorithm) -> Result<Self, Refusal> {
        if !algorithm.signs_messages() {
            let form = Form::Digest(algorithm.digest_hash().of(message));
            return Ok(Self { algorithm, form });
        }
        if message.is_empty() {
            let detail = format!("the message is empty; {algorithm} signs 1 byte at least");
            return Err(Refusal::new(Reason::InvalidRequest, detail));
        }
        // KMS signs a longer one of ML-DSA by what stands for it (see `PublicKey::external_mu`).
        let is_limited = algorithm == Algorithm::Ed25519Sha512;
        if is_limited && message.len() > RAW_MESSAGE_MAX_BYTES {
            return Err(Refusal::new(
                Reason::MessageTooLarge,
                format!(
                    "the message has {} bytes; {algorithm} signs at most \
                     {RAW_MESSAGE_MAX_BYTES}: send its digest, or use an ECDSA, RSA or ML-DSA signer",
                    message.len()
                ),
            ));
        }
        let form = Form::Raw(message.to_vec());
        Ok(Self { algorithm, form })
    }

    /// The algorithm it was prepared for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digest, if the key is given one (KMS `DIGEST`).
    #[must_use]
    pub fn digest(&self) -> Option<&[u8]> {
        match &self.form {
            Form::Digest(digest) => Some(digest.bytes()),
            Form::Raw(_) | Form::Leaf(_) => None,
        }
    }

    /// What aws-lc-rs needs beside an RSA private key: the padding and the digest. None: it was
    /// prepared for a key of another kind. PSS has a salt as long as its digest, as AWS KMS has it.
    #[must_use]
    pub fn for_rsa(&self) -> Option<(&'static dyn RsaEncoding, &digest::Digest)> {
        let padding: &'static dyn RsaEncoding = match self.algorithm {
            Algorithm::RsaPkcs1(Hash::Sha256) => &signature::RSA_PKCS1_SHA256,
            Algorithm::RsaPkcs1(Hash::Sha384) => &signature::RSA_PKCS1_SHA384,
            Algorithm::RsaPkcs1(Hash::Sha512) => &signature::RSA_PKCS1_SHA512,
            Algorithm::RsaPss(Hash::Sha256) => &signature::RSA_PSS_SHA256,
            Algorithm::RsaPss(Hash::Sha384) => &signature::RSA_PSS_SHA384,
            Algorithm::RsaPss(Hash::Sha512) => &signature::RSA_PSS_SHA512,
            Algorithm::Ed25519Sha512
            | Algorithm::EcdsaSha256
            | Algorithm::EcdsaSha384
            | Algorithm::EcdsaSha512
            | Algorithm::MlDsaShake256 => return None,
        };
        match &self.form {
            Form::Digest(digest) => Some((padding, digest.imported())),
            Form::Raw(_) | Form::Leaf(_) => None,
        }
    }

    /// The bytes given to the key: a digest or a message; of a leaf none.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.form {
            Form::Digest(digest) => digest.bytes(),
            Form::Raw(bytes) => bytes,
            Form::Leaf(_) => &[],
        }
    }

    /// What tells this input from every other one of its algorithm: a word for its form, and its bytes.
    #[must_use]
    pub fn identity(&self) -> (&'static str, &[u8]) {
        match &self.form {
            Form::Digest(digest) => ("digest", digest.bytes()),
            Form::Raw(bytes) => ("raw", bytes),
            Form::Leaf(leaf) => (leaf.given().word_of_leaf(), leaf.digest().bytes()),
        }
    }

    /// The digest that names this input in logs and records, whatever its form:
    /// the digest itself where there is one, else the message's SHA-256.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        match &self.form {
            Form::Digest(digest) => digest.clone(),
            Form::Raw(bytes) => Hash::Sha256.of(bytes),
            Form::Leaf(leaf) => leaf.digest().clone(),
        }
    }

    pub(super) fn form(&self) -> &Form {
        &self.form
    }
}

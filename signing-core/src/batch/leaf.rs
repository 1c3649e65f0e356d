//! The leaf that stands for one input.

use std::fmt;

use crate::key::{Algorithm, Digest, Hash, Kid};
use crate::refusal::{Reason, Refusal};
use crate::request::Input;
use crate::reserved;
use crate::tree::TreeHash;

/// Every leaf begins so.
const PREFIX: &[u8] = b"signing-proxy batch v1\0";

/// Random bytes of a leaf.
pub const SALT_BYTES: usize = 32;

/// The random bytes of one leaf. They leave only in the answer that the leaf is for.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt([u8; SALT_BYTES]);

/// In which form a caller gave its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Given {
    /// A message.
    Message,
    /// A digest.
    Digest,
}

/// An input as a leaf has it. No key signs it by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafInput {
    given: Given,
    /// The message's SHA-256, or the digest that was given.
    digest: Digest,
}

impl Salt {
    /// Takes random bytes.
    #[must_use]
    pub const fn new(random: [u8; SALT_BYTES]) -> Self {
        Self(random)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SALT_BYTES] {
        &self.0
    }
}

impl fmt::Debug for Salt {
    /// Never the bytes: neighbours in a batch could guess inputs with them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(..)")
    }
}

impl Given {
    /// Its word in a leaf.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Digest => "digest",
        }
    }

    /// Its word where inputs of every form are told apart.
    pub(crate) const fn word_of_leaf(self) -> &'static str {
        match self {
            Self::Message => "leaf of a message",
            Self::Digest => "leaf of a digest",
        }
    }
}

impl LeafInput {
    /// What a leaf has of a caller's input.
    ///
    /// # Errors
    /// `invalid_request` for what no caller may have signed, `invalid_digest` for a digest that is
    /// not a SHA-256.
    pub fn prepare(input: &Input) -> Result<Self, Refusal> {
        match input {
            Input::Message(message) => {
                reserved::refuse(message)?;
                Ok(Self::of_message(message))
            }
            Input::Digest(digest) => {
                reserved::refuse(digest.bytes())?;
                Self::of_digest(digest)
            }
        }
    }

    /// Of a message whoever wrote it: canaries come this way too.
    pub(crate) fn of_message(message: &[u8]) -> Self {
        Self { given: Given::Message, digest: Hash::Sha256.of(message) }
    }

    /// As another process stated it.
    ///
    /// # Errors
    /// `invalid_digest`.
    pub fn stated(given: Given, digest: &Digest) -> Result<Self, Refusal> {
        Self::of_digest(digest).map(|leaf| Self { given, ..leaf })
    }

    fn of_digest(digest: &Digest) -> Result<Self, Refusal> {
        if digest.hash() == Hash::Sha256 {
            return Ok(Self { given: Given::Digest, digest: digest.clone() });
        }
        let detail = format!(
            "the digest is a {} of {} bytes; a batch signer takes a sha256 of 32, or the message",
            digest.hash().name(),
            digest.bytes().len()
        );
        Err(Refusal::new(Reason::InvalidDigest, detail))
    }

    /// In which form it was given.
    #[must_use]
    pub const fn given(&self) -> Given {
        self.given
    }

    /// The message's SHA-256, or the digest that was given.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The hash of the leaf.
    pub(crate) fn hash(&self, kid: &Kid, algorithm: Algorithm, salt: &Salt) -> TreeHash {
        let input = match self.given {
            Given::Message => self.digest.clone(),
            Given::Digest => Hash::Sha256.of(self.digest.bytes()),
        };
        let mut leaf = Vec::with_capacity(256);
        leaf.extend_from_slice(PREFIX);
        leaf.extend_from_slice(&salt.0);
        for text in [kid.as_str(), algorithm.name(), self.given.word()] {
            // A kid has at most 128 bytes, and the others are words of this program.
            let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
            leaf.extend_from_slice(&length.to_be_bytes());
            leaf.extend_from_slice(text.as_bytes());
        }
        leaf.extend_from_slice(input.bytes());
        TreeHash::leaf(&leaf)
    }
}

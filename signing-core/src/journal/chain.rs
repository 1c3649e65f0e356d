//! The hash chain: every record's hash covers the one before it.

use std::fmt;

use aws_lc_rs::digest;

use super::frame::{self, Frame, FrameError};
use super::keys::KeyId;

/// Separates these hashes from all others, in this version of the format.
const DOMAIN: &[u8] = b"signing-proxy journal v1\0";

/// Which journal a record belongs to: 16 random bytes, drawn by `init`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId([u8; 16]);

/// SHA-256 of a record and all before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordHash([u8; 32]);

/// The newest record of a chain, or the place before its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number; the first record is 1.
    pub seq: u64,
    /// Its hash.
    pub hash: RecordHash,
}

/// A chain that grows.
#[derive(Clone, Debug)]
pub struct Chain {
    id: ChainId,
    head: Head,
    key: KeyId,
}

impl ChainId {
    /// A chain of these random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads 32 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl RecordHash {
    /// What stands before the first record.
    pub const NONE: Self = Self([0; 32]);

    /// A hash of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes: what the audit key signs.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The hash of the record whose signed bytes are `signed`.
    pub(super) fn of(chain: &ChainId, before: &Self, signed: &[u8]) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(DOMAIN);
        hash.update(&chain.0);
        hash.update(&before.0);
        hash.update(signed);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.finish().as_ref());
        Self(bytes)
    }
}

impl Head {
    /// The place before the first record.
    pub const START: Self = Self { seq: 0, hash: RecordHash::NONE };

    /// Where `frame` leads to, if it is the record after this one.
    ///
    /// # Errors
    /// [`FrameError::Seq`] or [`FrameError::Hash`] if it is not.
    pub fn then(&self, chain: &ChainId, frame: &Frame<'_>) -> Result<Self, FrameError> {
        let expected = self.seq.saturating_add(1);
        if frame.seq != expected {
            return Err(FrameError::Seq { found: frame.seq, expected });
        }
        if RecordHash::of(chain, &self.hash, frame.signed) != frame.hash {
            return Err(FrameError::Hash);
        }
        Ok(Self { seq: frame.seq, hash: frame.hash })
    }
}

impl Chain {
    /// A chain that goes on after `head`, signed with the audit key `key`.
    #[must_use]
    pub const fn new(id: ChainId, head: Head, key: KeyId) -> Self {
        Self { id, head, key }
    }

    /// Which chain it is.
    #[must_use]
    pub const fn id(&self) -> ChainId {
        self.id
    }

    /// Its newest record.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Appends the record with `body` to `out`, signed by `sign` over the 32 bytes of
    /// its hash (Ed25519, RFC 8032). `durable` is the newest record known to be on disk.
    pub fn append(
        &mut self,
        body: &[u8],
        durable: u64,
        sign: impl FnOnce(&[u8; 32]) -> [u8; 64],
        out: &mut Vec<u8>,
    ) -> Head {
        let seq = self.head.seq + 1;
        let mut frame = frame::Unsigned::begin(out, body, seq, durable, self.key);
        let hash = RecordHash::of(&self.id, &self.head.hash, frame.signed());
        frame.finish(&hash, &sign(hash.as_bytes()));
        self.head = Head { seq, hash };
        self.head
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainId({self})")
    }
}

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordHash({self})")
    }
}

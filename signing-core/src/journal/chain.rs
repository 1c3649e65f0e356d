//! The hash chain: every record's hash covers the one before it.

use super::frame::{self, Frame, FrameError};
use super::hash::{ChainId, RecordHash};
use super::key_id::KeyId;

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

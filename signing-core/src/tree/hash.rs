//! The hashes of a tree's leaves and nodes (RFC 6962, section 2.1).

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::hex_text::write_hex;

/// Before the bytes of a leaf, so that no leaf can pass for a node.
const LEAF: u8 = 0;
/// Before the two hashes of a node.
const NODE: u8 = 1;
const HASH_BYTES: usize = 32;

/// SHA-256 of a leaf, a node, or a whole tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeHash([u8; HASH_BYTES]);

impl TreeHash {
    /// A hash of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash of the leaf `entry`.
    #[must_use]
    pub fn leaf(entry: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(1 + entry.len());
        bytes.push(LEAF);
        bytes.extend_from_slice(entry);
        Self::of(&bytes)
    }

    /// The hash of the node above these two.
    #[must_use]
    pub fn node(left: &Self, right: &Self) -> Self {
        let mut bytes = [NODE; 1 + 2 * HASH_BYTES];
        let (_, hashes) = bytes.split_at_mut(1);
        let (first, second) = hashes.split_at_mut(HASH_BYTES);
        first.copy_from_slice(&left.0);
        second.copy_from_slice(&right.0);
        Self::of(&bytes)
    }

    /// The root of the tree without leaves.
    #[must_use]
    pub fn empty() -> Self {
        Self::of(&[])
    }

    /// Reads 64 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        // Capitals would be a second spelling.
        Some(Self(bytes)).filter(|parsed| parsed.to_string() == text)
    }

    /// In base64, as notes and proofs have it.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Reads base64.
    #[must_use]
    pub fn parse_base64(text: &str) -> Option<Self> {
        Some(Self(STANDARD.decode(text).ok()?.try_into().ok()?))
    }

    /// In one call: a hash that is fed in pieces is set up on the heap, which costs as much as a short hash.
    fn of(bytes: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, bytes);
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(digest.as_ref());
        Self(hash)
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeHash({self})")
    }
}

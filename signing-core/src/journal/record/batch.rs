//! Which leaf of which batch a signature is of.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;

use crate::batch::Proved;
use crate::key::{PublicKey, ToBeSigned};

/// The leaf. With these, the record's `signature` can be verified: the note that it is over is the
/// origin, the size and the root. What it takes to prove the leaf by itself, its random bytes and its
/// path, only the caller has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BatchLeaf {
    /// The leaf's index.
    pub index: u64,
    /// The leaf's hash, 64 hex digits.
    pub leaf: String,
    /// The origin of the batch's note: the key's name and the batch's id.
    pub origin: String,
    /// The root of the batch's tree, 64 hex digits.
    pub root: String,
    /// How many leaves the batch has.
    pub size: u64,
}

impl BatchLeaf {
    /// What a record has of it.
    #[must_use]
    pub fn of(proved: &Proved) -> Self {
        Self {
            index: proved.index,
            leaf: proved.leaf.to_string(),
            origin: proved.origin.to_string(),
            root: proved.root.to_string(),
            size: proved.size,
        }
    }

    /// Reads it out of a record. None: the record has no such leaf.
    #[must_use]
    pub fn parse(value: &Value) -> Option<Self> {
        let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        let number = |name: &str| value.get(name)?.as_u64();
        let leaf = Self {
            index: number("index")?,
            leaf: text("leaf")?,
            origin: text("origin")?,
            root: text("root")?,
            size: number("size")?,
        };
        (leaf.index < leaf.size).then_some(leaf)
    }

    /// What the batch's key was given to sign. None: the root has another form.
    #[must_use]
    pub fn note_to_be_signed(&self, key: &PublicKey) -> Option<ToBeSigned> {
        let root = STANDARD.encode(hex::decode(&self.root).ok()?);
        let text = format!("{}\n{}\n{root}\n", self.origin, self.size);
        ToBeSigned::from_message(text.as_bytes(), key.algorithm()).ok()
    }
}

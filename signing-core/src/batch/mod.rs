//! Batches: one signature of a key proves many inputs, each by itself.
//!
//! The inputs of a batch are the leaves of a tree of its own. The key signs a note that states the tree's
//! size and root (c2sp.org/tlog-checkpoint, c2sp.org/signed-note), and nothing else, ever. What a caller
//! gets for its input is a proof (c2sp.org/tlog-proof) with the random bytes of its own leaf.
//!
//! ```text
//! leaf = "signing-proxy batch v1\0" || 32 random bytes || kid || algorithm || form || SHA-256 of the input
//! ```
//!
//! A leaf holds random bytes so that the hashes in a path tell nothing of the neighbours' inputs.

mod gathered;
mod leaf;
mod name;
mod note;
mod proof;

pub(crate) use gathered::verify;
pub use gathered::{Batch, Proved, SignedBatch};
pub use leaf::{Given, LeafInput, SALT_BYTES, Salt};
pub use name::{BatchId, DEPLOYMENT_MAX_BYTES, KeyName, KeyNameError};
pub(crate) use note::begins_like_a_note;
pub use note::verifier_key;
pub use proof::{BatchProof, is_proof, stated_deployment};

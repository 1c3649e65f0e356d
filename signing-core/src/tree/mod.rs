//! The Merkle tree of a log, as RFC 6962 hashes it, and what is signed of it.
//!
//! Each record of a journal is a leaf: record `seq` is the leaf with index `seq - 1`. A
//! *checkpoint* states a log's size and root, and the audit key signs it (c2sp.org/tlog-checkpoint). One
//! checkpoint covers everything before it, so order, content and length are proved by one
//! structure. An inclusion proof shows without the journal that a record is in it, an extension proof that
//! a newer tree begins with an older one.

mod checkpoint;
mod extension;
mod frontier;
mod hash;
mod log_id;
mod nodes;
mod proof;
mod recent;
mod tiles;
mod whole;

pub use checkpoint::{
    Checkpoint, NOTE_MAX_BYTES, NoCheckpoint, SignedCheckpoint, Signs, note_key_id, verifier_key,
};
pub use extension::{EXTENSION_MAX, ExtensionError, prove_extension, verify_extension};
pub use frontier::{FRONTIER_MAX, Frontier};
pub use hash::TreeHash;
pub use log_id::LogId;
pub use nodes::{node_place, nodes_of, size_with};
pub(crate) use proof::root;
pub use proof::{Inclusion, InclusionError};
pub use recent::Recent;
pub use tiles::{ENTRY_MAX_BYTES, EntryTooLong, Tile, Tiles};
pub use whole::WholeTree;

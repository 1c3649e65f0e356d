//! The journal: the only durable IO of records. What a record is and how a write is covered by a
//! checkpoint stands in `signing_core::journal`; this room brings it to the disk and back.

mod claims;
pub mod compare;
mod directory;
mod error;
mod journal;
mod key;
mod linkage;
mod opened;
mod presence;
mod queue;
mod reader;
mod readers;
mod receipt;
mod recovery;
mod remains;
pub mod replica;
pub mod scan;
mod segment;
mod segment_check;
mod stated;
mod tail;
mod teller;
pub mod tenure;
mod torn_write;
mod tree_file;
pub mod verify;
pub mod walk;
mod writer;

pub use claims::{Claims, Known, NoKnownHead};
pub use directory::init;
pub use error::{JournalError, OpenError};
pub use journal::{Appending, Clock, IntentSeq, Journal, Newest, Observer, file_system_free};
pub use key::AuditKey;
pub use opened::{Identity, Opened, WriterKeys};
pub use presence::Presence;
pub use queue::Space;
pub use readers::{NotLetIn, let_in};
pub use receipt::{Durable, Proof};
pub use recovery::{in_force, in_force_unchecked};
pub use segment_check::SegmentCheck;
pub use stated::stated;
pub use torn_write::Cut;
pub use tree_file::{FillError, TreeFile};

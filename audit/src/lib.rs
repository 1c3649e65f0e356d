//! The journal: the only durable IO of records. What a record is and how it is
//! chained stands in `signing_core::journal`; this room brings it to the disk and back.

pub mod key;
pub mod scan;

pub use key::{AuditKey, AuditKeyError};

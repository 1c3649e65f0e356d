//! The trail: what leaves the machine. A process of its own reads both journals' files, changes
//! nothing in them, and carries what they hold to a database that auditors read.
//!
//! The core decides and does no IO: [`event`] makes an event of a record, [`row`] links it to the
//! chain of a table, [`plan`] says what is due, [`shape`] what a table takes. [`source`] reads
//! files, [`postgres`] writes rows, and `ship` brings one to the other. [`archive`] brings the records
//! themselves to a bucket under S3 Object Lock, by itself: neither sink waits for the other. [`notify`] tells
//! people and services of what the same files say.

pub mod archive;
mod back_off;
pub mod canonical;
pub mod check;
pub mod config;
pub mod event;
pub mod fleet;
pub mod key;
pub mod lines;
mod metrics;
pub mod notify;
pub mod plan;
pub mod postgres;
pub mod reconcile;
pub mod replica;
mod required;
pub mod row;
pub mod serve;
pub mod shape;
mod ship;
pub mod source;
pub mod status;
mod tls;
pub mod uuid;
pub mod verify;

//! The archive: the journals' records as objects in a bucket under S3 Object Lock, in COMPLIANCE mode. Nobody,
//! also not who runs the bucket, can change or delete them before their time.
//!
//! The bucket itself says how far each journal is, so that nothing else has to be kept. [`cut`] decides where an object
//! ends, [`name`] what it is called; [`bucket`] makes the calls. [`read`] and [`verify`] are for whoever checks it.

mod bounded;
pub mod bucket;
pub mod cut;
pub mod error;
pub(crate) mod events;
mod files;
mod listing;
pub mod name;
mod objects;
pub mod place;
pub mod position;
mod put;
pub mod read;
pub(crate) mod ship;
pub mod verify;

//! The archive: the journals' records as objects in a bucket under S3 Object Lock, in COMPLIANCE mode. Nobody,
//! also not who runs the bucket, can change or delete them before their time.
//!
//! The bucket itself says how far each journal is, so that nothing else has to be kept. [`cut`] decides where an object
//! ends, [`name`] what it is called; [`bucket`] makes the calls.

pub mod bucket;
pub mod cut;
pub mod error;
pub(crate) mod events;
pub mod name;
mod objects;
pub mod place;
pub mod position;
mod put;
pub(crate) mod ship;

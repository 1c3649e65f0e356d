//! What `signctl` reads of bytes that others send and decides on, without IO but for files of its own, so that it can
//! be fuzzed and measured: a URL, the answer of a proxy that says how it is, and KMS's own log.

pub mod cloudtrail;
pub mod endpoint;
pub mod failure;
pub mod judge;
pub mod target;

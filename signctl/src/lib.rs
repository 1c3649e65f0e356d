//! What `signctl` reads of bytes that others send and decides on, without IO, so that it can be
//! fuzzed: a URL, and the answer of a proxy that says how it is.

pub mod endpoint;
pub mod failure;
pub mod judge;
pub mod target;

//! What is fuzzed: every parser of bytes that come from outside.

pub mod bodies;

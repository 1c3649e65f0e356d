//! Break-glass, the pure part: what is activated, and how long and for whom it signs.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod activation;
#[path = "../support/request.rs"]
mod request;
mod session;
#[path = "../support/mod.rs"]
mod support;
mod world;

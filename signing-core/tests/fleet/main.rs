//! The fleet, the pure part: what a member obeys, what ends it, and a hundred members with a database
//! that lies.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod decisions;
mod people;
mod simulation;
mod simulation_database;
mod simulation_node;
#[path = "../support/mod.rs"]
mod support;

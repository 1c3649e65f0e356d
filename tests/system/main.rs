//! The system tests: real processes, real sockets. One idea a file.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod admin_socket;
mod algorithms;
mod api_docs;
mod audit_tools;
mod bad_requests;
mod certificates;
mod config_files;
mod config_notes;
mod configuration_docs;
mod container;
mod dev;
mod dialects;
mod drain;
mod drill;
mod freeze;
mod gate;
mod guards;
mod idempotency;
mod journal;
mod journal_faults;
mod journal_tools;
mod limits;
mod metrics;
mod ministack;
mod packaging;
mod regions;
mod reload;
mod seals;
mod sign;
mod signctl_gate;
mod tidy;

/// The one caller of most tests.
const ALICE: &str = "spiffe://test/alice";

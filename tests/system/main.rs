//! The system tests: real processes, real sockets. One idea a file.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]
#![expect(clippy::print_stdout, reason = "a test says what it tries")]

mod added_dialects;
mod admin_socket;
mod alerts;
mod algorithms;
mod answers;
mod api_docs;
mod attempts;
mod audit_key_renewal;
mod audit_tiles;
mod audit_tools;
mod audit_used;
mod authorities;
mod bad_requests;
mod breakglass;
mod breakglass_signer;
mod caller_names;
mod caller_tool;
mod certificates;
mod client_examples;
mod clocks;
mod config_files;
mod config_notes;
mod configuration_docs;
mod container;
mod container_signer;
mod corpus;
mod credentials;
mod dev;
mod dev_breakglass;
mod dialects;
mod doctor;
mod drain;
mod drill;
mod early_signals;
mod events;
mod expectations;
mod fences;
mod fleet;
mod found_by_check;
mod freeze;
mod gate;
mod guards;
mod handshakes;
mod hidden;
mod hsm;
mod hsm_act;
mod hsm_credential;
mod hsm_faults;
mod hsm_helpers;
mod hsm_logins;
mod hsm_opening;
mod hsm_others;
mod hsm_pin;
mod hsm_slow;
mod hsm_workers;
mod idempotency;
mod identifiers;
mod images;
mod import_cycles;
mod incident;
mod journal;
mod journal_faults;
mod journal_tools;
mod key_forms;
mod kms_door;
mod kms_log;
mod later;
mod limits;
mod links;
mod local_door;
mod log_levels;
mod matrix;
mod metrics;
mod ministack;
mod misspelt;
mod modes;
mod notifications;
mod openapi;
mod output;
mod overload;
mod own_side;
mod packaging;
mod passphrases;
mod pipeline_examples;
mod positional;
mod proxies;
mod rates;
mod read_only_webhook;
mod readers;
mod receipts;
mod recover;
mod regions;
mod registry_edits;
mod reload;
mod replicas;
mod revocation;
mod roles;
mod seals;
mod secret_files;
mod security_page;
mod shares;
mod sign;
mod signctl_gate;
mod socket_access;
mod sockets;
mod start_pages;
mod state_file;
mod systemd;
mod tidy;
mod tls_watch;
mod traces;
mod trail;
mod unread;
mod usage;
mod verify_any;
mod watch;

/// The one caller of most tests.
const ALICE: &str = "spiffe://test/alice";

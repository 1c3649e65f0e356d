//! The side-by-side load harness (`benches/run.sh`), and what the
//! micro-benchmarks (`cargo bench -p benches`) measure with.
//!
//! ```text
//! side-by-side (load, parts measured alone)
//!    |-- mTLS --> side-by-side ceiling     the least that a server over mTLS can do
//!    |-- mTLS --> signing-proxy            what is measured
//!    |                 `-- HTTP --> side-by-side kms
//!    `-- runs --> side-by-side kms-loop    the least that a call of KMS can cost
//! ```
//!
//! Every server is a process of its own, so that its CPU time can be told from
//! that of the load. Nothing here is a test: no figure fails anything.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a harness says how far it is")]

pub mod alone;
pub mod batch;
pub mod breakglass;
pub mod ceiling;
pub mod child;
pub mod cpu;
pub mod doors;
pub mod doorway;
pub mod hop_loop;
pub mod hsm;
pub mod http2;
pub mod journal_loop;
pub mod kms_loop;
pub mod kms_process;
pub mod load;
pub mod parts;
pub mod peers;
pub mod report;
pub mod rounds;
pub mod scene;
pub mod stage;
pub mod statistics;
pub mod trail;

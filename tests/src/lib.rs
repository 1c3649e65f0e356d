//! The harness of the system tests: real processes, real sockets, and a KMS of
//! our own.
//!
//! ```text
//! let world = World::new();                        // scratch directory, certificates, KMS
//! let key = world.kms.key(Kind::P256);
//! let proxy = world.proxy().signer("s", &key).caller("spiffe://t/alice", &["s"]).start().await;
//! let alice = proxy.client("spiffe://t/alice").await;
//! let answer = alice.sign_message("s", b"hello").await;
//! ```
//!
//! Nothing here sleeps for a fixed time: [`eventually`] waits on a condition
//! with a deadline. Everything is removed and every process stopped on drop.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a harness that cannot go on says why and fails the test"
)]

pub mod audit_key;
pub mod breakglass;
pub mod bucket;
pub mod chance;
pub mod client;
pub mod connect_proxy;
pub mod containers;
pub mod crowd;
pub mod deaf;
pub mod fault_proxy;
pub mod faulty;
pub mod fleet;
pub mod game_day;
pub mod imds;
pub mod journal;
pub mod kms;
pub mod leak;
pub mod memory;
pub mod ministack;
pub mod moto;
pub mod network;
pub mod openssl;
pub mod pki;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod prometheus;
pub mod proxy;
pub mod receiver;
pub mod scratch;
pub mod softhsm;
pub mod strace;
pub mod tls_front;
pub mod tmux;
pub mod tokens;
pub mod trace;
pub mod trail;
pub mod wait;
pub mod world;

pub use bucket::Bucket;
pub use chance::{Chance, is_campaign};
pub use client::{Answer, Client, Protocol};
pub use connect_proxy::ConnectProxy;
pub use containers::Engine;
pub use crowd::{LocalUser, Strangers};
pub use deaf::{Deaf, Deafness};
pub use fault_proxy::{FaultProxy, NetworkFault};
pub use imds::Imds;
pub use journal::{Exchange, Tail};
pub use kms::{Fault, Key, Kind, Kms, Logged, Operation, Received};
pub use ministack::Ministack;
pub use moto::Moto;
pub use pki::{Certificate, List, Pki, Point, Profile};
pub use process::Process;
pub use prometheus::Prometheus;
pub use proxy::{Proxy, ProxyBuilder};
pub use receiver::{Manner, Receiver, Sent};
pub use scratch::Scratch;
pub use softhsm::SoftHsm;
pub use strace::{Hang, Happens, Strace, When};
pub use tokens::OtherToken;
pub use trace::{Place, Trace};
pub use wait::eventually;
pub use world::{ALICE, World};

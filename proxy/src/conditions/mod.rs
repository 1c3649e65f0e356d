//! How each component of the proxy is: who looks, and how what was seen is judged. What it comes to is
//! [`telemetry::conditions`].

mod judge;
mod watch;

pub use watch::{Sources, watch, watch_socket};

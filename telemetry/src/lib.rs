//! What the proxy says of itself, to Prometheus, orchestrators and operators: its metrics, its health, the
//! conditions of its parts, its newest events, and the workers of tokens. For every room that counts or
//! shows something.
//!
//! It knows no room: what is shown is handed in. Nothing here decides anything, and nothing reads it back
//! to decide.

pub mod conditions;
pub mod events;
pub mod health;
pub mod metrics;
pub mod workers;

//! What `/metrics` says of the replicas of the database: nothing until they were counted once.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use super::table::Counted;

/// Shared between the loop that counts and the listener.
#[derive(Clone, Debug, Default)]
pub struct Gauges(Arc<Mutex<Option<Counted>>>);

impl Gauges {
    pub(super) fn set(&self, counted: Counted) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(counted);
    }

    /// The text that Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        let Some(counted) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) else {
            return String::new();
        };
        let mut out = String::new();
        let mut gauge = |name: &str, help: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        };
        gauge(
            "audit_trail_replicas_refused",
            "Replicas of this database whose volume was found empty, and that are still refused a new journal.",
            counted.refused.to_string(),
        );
        if let Some(newest) = counted.newest {
            gauge(
                "audit_trail_newest_replica_timestamp_seconds",
                "When the newest replica of this database was registered.",
                format!("{newest:.0}"),
            );
        }
        out
    }
}

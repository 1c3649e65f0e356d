//! What `/metrics` says of the agent: when it last heard the fleet, when the proxy last heard it, and what
//! the proxy refused. Nothing where there is no agent.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host::clock::wall_now;

/// What somebody presented to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presented {
    /// A freeze of the fleet.
    Freeze,
    /// A statement that ends some.
    Statement,
}

/// Shared between the agent and the listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges(Option<Arc<Mutex<Seen>>>);

/// What is known. Times are seconds since 1970; 0: not since the start.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    read: i64,
    told: i64,
    freezes_refused: u64,
    statements_refused: u64,
    is_blocked: bool,
}

impl Gauges {
    /// Of an agent that begins.
    pub(crate) fn of_agent() -> Self {
        Self(Some(Arc::default()))
    }

    /// The words of the fleet were read from the database.
    pub(super) fn read(&self) {
        self.change(|seen| seen.read = wall_now().unix_timestamp());
    }

    /// The proxy took that all of them were presented.
    pub(super) fn presented(&self) {
        self.change(|seen| seen.told = wall_now().unix_timestamp());
    }

    /// The proxy did not take a word.
    pub(super) fn refused(&self, word: Presented) {
        self.change(|seen| match word {
            Presented::Freeze => seen.freezes_refused += 1,
            Presented::Statement => seen.statements_refused += 1,
        });
    }

    /// Whether something keeps it from carrying words.
    pub(super) fn blocked(&self, is_blocked: bool) {
        self.change(|seen| seen.is_blocked = is_blocked);
    }

    /// The text that Prometheus reads.
    pub(crate) fn render(&self) -> String {
        let Some(seen) = self.0.as_deref().map(|seen| *lock(seen)) else { return String::new() };
        let mut out = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, values: &[(&str, String)]| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        metric(
            "audit_trail_fleet_read_timestamp_seconds",
            "gauge",
            "When the agent last read the fleet from the database; 0: not since the start.",
            &[("", seen.read.to_string())],
        );
        metric(
            "audit_trail_fleet_told_timestamp_seconds",
            "gauge",
            "When the proxy last took what the agent brought; 0: not since the start.",
            &[("", seen.told.to_string())],
        );
        metric(
            "audit_trail_fleet_refused_total",
            "counter",
            "Freezes and statements of the fleet that the proxy did not take.",
            &[
                ("{word=\"freeze\"}", seen.freezes_refused.to_string()),
                ("{word=\"statement\"}", seen.statements_refused.to_string()),
            ],
        );
        metric(
            "audit_trail_fleet_blocked",
            "gauge",
            "1 while something keeps the agent from carrying the words of the fleet.",
            &[("", u8::from(seen.is_blocked).to_string())],
        );
        out
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.0.as_deref() {
            change(&mut lock(seen));
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_says_what_it_carried_and_where_there_is_none_nothing_is_said() {
        assert_eq!(Gauges::default().render(), "");
        let gauges = Gauges::of_agent();
        let says = |line: &str| {
            let said = gauges.clone().render();
            assert!(said.lines().any(|one| one.ends_with(line)), "{line}: {said}");
        };
        says("fleet_read_timestamp_seconds 0");
        says("fleet_told_timestamp_seconds 0");
        gauges.refused(Presented::Statement);
        gauges.blocked(true);
        says("fleet_refused_total{word=\"freeze\"} 0");
        says("fleet_refused_total{word=\"statement\"} 1");
        says("fleet_blocked 1");
        gauges.read();
        assert!(!gauges.render().contains("fleet_read_timestamp_seconds 0\n"));
    }
}

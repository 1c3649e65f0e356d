//! What the trail says of itself, by sink and journal: as Prometheus text, and as JSON. No label has a
//! value that a caller chose.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::event::Owner;

/// Where records are shipped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sink {
    /// Rows.
    Postgres,
    /// Objects under S3 Object Lock.
    Archive,
    /// Rows as objects of their own.
    ArchiveEvents,
}

impl Sink {
    /// The label of metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Archive => "archive",
            Self::ArchiveEvents => "archive_events",
        }
    }
}

/// What is known of a journal in a sink.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lag {
    /// Records that are in the journal and not in the sink.
    pub(crate) records: u64,
    /// How old the oldest of them is.
    pub(crate) seconds: f64,
    /// The newest record in the sink.
    pub(crate) shipped: u64,
    /// Records that were gone before they were shipped.
    pub(crate) missing: u64,
    /// Failures since the start.
    pub(crate) errors: u64,
    /// What keeps it back now.
    pub(crate) trouble: Option<String>,
}

/// Shared between the loops that ship and the listener.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Mutex<Lags>>);

type Lags = BTreeMap<(Sink, Owner), Lag>;

impl Metrics {
    /// Each journal in each sink.
    pub(crate) fn new(sinks: &[Sink], owners: impl Iterator<Item = Owner> + Clone) -> Self {
        let of = |sink: &Sink| {
            let sink = *sink;
            owners.clone().map(move |owner| ((sink, owner), Lag::default()))
        };
        Self(Arc::new(Mutex::new(sinks.iter().flat_map(of).collect())))
    }

    /// Changes what is known of a journal in a sink.
    pub(crate) fn update(&self, sink: Sink, owner: Owner, change: impl FnOnce(&mut Lag)) {
        change(self.lock().entry((sink, owner)).or_default());
    }

    /// The text that Prometheus reads.
    pub(crate) fn render(&self) -> String {
        let lags = self.lock().clone();
        let mut out = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Lag) -> String| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for ((sink, owner), lag) in &lags {
                let (sink, journal, value) = (sink.word(), owner.word(), value(lag));
                let _ = writeln!(out, "{name}{{sink=\"{sink}\",journal=\"{journal}\"}} {value}");
            }
        };
        metric(
            "audit_trail_lag_records",
            "gauge",
            "Records of the journal that the sink does not hold yet.",
            &|lag| lag.records.to_string(),
        );
        metric(
            "audit_trail_lag_seconds",
            "gauge",
            "Age of the oldest record that the sink does not hold yet.",
            &|lag| format!("{:.3}", lag.seconds),
        );
        metric(
            "audit_trail_errors_total",
            "counter",
            "Failures to read the journal or to write to the sink.",
            &|lag| lag.errors.to_string(),
        );
        metric(
            "audit_trail_missing_records",
            "gauge",
            "Records that were removed from the journal before they were shipped; never goes down.",
            &|lag| lag.missing.to_string(),
        );
        metric(
            "audit_trail_blocked",
            "gauge",
            "1 while the journal is not shipped to the sink, whatever the cause.",
            &|lag| u8::from(lag.trouble.is_some()).to_string(),
        );
        out
    }

    /// The same for programs, and whether all is well.
    pub(crate) fn status(&self) -> Value {
        let lags = self.lock().clone();
        let is_well = lags.values().all(|lag| lag.trouble.is_none() && lag.missing == 0);
        let journals: Vec<_> = lags
            .iter()
            .map(|((sink, owner), lag)| {
                json!({
                    "sink": sink.word(),
                    "journal": owner.word(),
                    "shipped": lag.shipped,
                    "lag_records": lag.records,
                    "lag_seconds": lag.seconds,
                    "missing_records": lag.missing,
                    "errors": lag.errors,
                    "trouble": lag.trouble,
                })
            })
            .collect();
        json!({"ok": is_well, "journals": journals})
    }

    fn lock(&self) -> MutexGuard<'_, Lags> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

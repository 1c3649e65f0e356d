//! What is known of deliveries, by the name that the configuration gives the receiver: as Prometheus
//! text, and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

/// What is known of one receiver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivery {
    /// Requests that it accepted, and that it did not, since the start.
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    /// How old the oldest event is that waits for it.
    pub(crate) lag_seconds: f64,
    /// What keeps it back now.
    pub(crate) trouble: Option<String>,
    /// Of the policy service: verdicts that allow, and that do not.
    pub(crate) verdicts: Option<(u64, u64)>,
}

/// Shared between those who deliver and the listener.
#[derive(Clone, Debug)]
pub(crate) struct Deliveries(Arc<Mutex<BTreeMap<String, Delivery>>>);

impl Deliveries {
    pub(crate) fn new(names: impl Iterator<Item = String>) -> Self {
        Self(Arc::new(Mutex::new(names.map(|name| (name, Delivery::default())).collect())))
    }

    /// Changes what is known of a receiver.
    pub(crate) fn update(&self, name: &str, change: impl FnOnce(&mut Delivery)) {
        change(self.lock().entry(name.to_owned()).or_default());
    }

    /// The text that Prometheus reads; empty without receivers.
    pub(crate) fn render(&self) -> String {
        let all = self.lock().clone();
        let mut out = String::new();
        if all.is_empty() {
            return out;
        }
        let mut metric =
            |name: &str,
             kind: &str,
             help: &str,
             samples: &dyn Fn(&str, &Delivery) -> Vec<String>| {
                // Writing to a string cannot fail.
                let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
                for (destination, delivery) in &all {
                    for sample in samples(destination, delivery) {
                        let _ = writeln!(out, "{name}{sample}");
                    }
                }
            };
        metric(
            "audit_trail_notifications_total",
            "counter",
            "Requests to receivers of notifications, by their outcome.",
            &|name, of| {
                let sample = |outcome: &str, count| {
                    format!("{{destination=\"{name}\",outcome=\"{outcome}\"}} {count}")
                };
                vec![sample("delivered", of.delivered), sample("failed", of.failed)]
            },
        );
        metric(
            "audit_trail_notification_lag_seconds",
            "gauge",
            "Age of the oldest event that the receiver has not accepted.",
            &|name, of| vec![format!("{{destination=\"{name}\"}} {:.3}", of.lag_seconds)],
        );
        metric(
            "audit_trail_notification_blocked",
            "gauge",
            "1 while the receiver does not accept what is sent, whatever the cause.",
            &|name, of| {
                vec![format!("{{destination=\"{name}\"}} {}", u8::from(of.trouble.is_some()))]
            },
        );
        metric(
            "audit_trail_verdicts_total",
            "counter",
            "Verdicts of the policy service, by whether they allow what was done.",
            &|_, of| {
                let samples = of.verdicts.map(|(allowed, denied)| {
                    [("true", allowed), ("false", denied)]
                        .map(|(word, count)| format!("{{allowed=\"{word}\"}} {count}"))
                });
                samples.into_iter().flatten().collect()
            },
        );
        out
    }

    /// The same beside what `status` says of the sinks.
    pub(crate) fn added_to(&self, mut status: Value) -> Value {
        let all = self.lock().clone();
        let is_well = all.values().all(|delivery| delivery.trouble.is_none());
        let one = |(name, of): (&String, &Delivery)| {
            json!({
                "destination": name,
                "delivered": of.delivered,
                "failed": of.failed,
                "lag_seconds": of.lag_seconds,
                "trouble": of.trouble,
            })
        };
        if let Some(status) = status.as_object_mut() {
            let was_well = status.get("ok") == Some(&Value::Bool(true));
            status.insert("ok".to_owned(), json!(was_well && is_well));
            status.insert("notifications".to_owned(), all.iter().map(one).collect());
        }
        status
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Delivery>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! What the rooms hold of each other: handles, cheap to clone. Each room takes those that it needs; what stands
//! below them is given its own by name.

use std::sync::Arc;

use audit::Journal;
use breakglass::emergency::Emergency;
use monitor::Monitor;
use server::Connections;
use server::traces::Traces;
use sign::required::Required;
use signing_core::gate::Slots;
use telemetry::conditions::Conditions;
use telemetry::events::Events;
use telemetry::metrics::Metrics;
use tokio::sync::watch;

/// One of each.
#[derive(Clone, Debug)]
pub struct Handles {
    /// The gates, their evidence, and the rulebook in force.
    pub monitor: Monitor,
    /// Where everything is recorded.
    pub journal: Journal,
    /// Its newest events.
    pub events: Events,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The emergency signer.
    pub emergency: Emergency,
    /// The sink of the trail without which nothing is released.
    pub required: Required,
    /// Requests in flight.
    pub slots: Slots,
    /// Open connections of the data plane.
    pub connections: Connections,
    /// The proxy's own side.
    pub conditions: Arc<Conditions>,
    /// Where the spans of requests go.
    pub traces: Traces,
    /// True once the proxy shuts down.
    pub draining: watch::Receiver<bool>,
}

impl Handles {
    /// What the pipeline takes.
    #[must_use]
    pub fn for_pipeline(&self) -> sign::Parts {
        sign::Parts {
            monitor: self.monitor.clone(),
            slots: self.slots.clone(),
            emergency: self.emergency.clone(),
            journal: self.journal.clone(),
            required: self.required.clone(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// What the data plane takes.
    #[must_use]
    pub fn for_data_plane(&self) -> server::Parts {
        server::Parts {
            monitor: self.monitor.clone(),
            metrics: Arc::clone(&self.metrics),
            connections: self.connections.clone(),
            conditions: Arc::clone(&self.conditions),
            traces: self.traces.clone(),
            draining: self.draining.clone(),
        }
    }
}

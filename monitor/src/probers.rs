//! The probers of all upstreams, which a reload may end and begin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use release::Probes;
use signing_core::Kid;
use signing_core::monitor::Probe;
use telemetry::metrics::Metrics;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::prober::Prober;
use super::{Monitor, Probed};

#[derive(Debug)]
pub(super) struct Probers {
    tasks: JoinSet<()>,
    running: BTreeMap<Kid, Vec<AbortHandle>>,
    monitor: Monitor,
    pace: watch::Receiver<Probe>,
    metrics: Arc<Metrics>,
    /// Where canaries are counted.
    probes: Probes,
}

impl Probers {
    /// None yet.
    pub(super) fn new(
        monitor: Monitor,
        pace: watch::Receiver<Probe>,
        metrics: Arc<Metrics>,
        probes: Probes,
    ) -> Self {
        Self { tasks: JoinSet::new(), running: BTreeMap::new(), monitor, pace, metrics, probes }
    }

    /// Ends those of signers that are `gone`, also in the middle of a canary, and begins `new` ones. To be called on
    /// the runtime of the monitor.
    pub(super) fn replace(&mut self, gone: &BTreeSet<Kid>, new: Vec<Probed>) {
        let ended = gone.iter().filter_map(|kid| self.running.remove(kid)).flatten();
        ended.for_each(|task| task.abort());
        for Probed { kid, at, made_in, upstream, quota, latency } in new {
            let prober = Prober {
                kid: kid.clone(),
                made_in,
                at,
                upstream: Arc::new(upstream),
                quota,
                latency,
                monitor: self.monitor.clone(),
                pace: self.pace.clone(),
                metrics: Arc::clone(&self.metrics),
                probes: self.probes.clone(),
            };
            let task = self.tasks.spawn(prober.run());
            self.running.entry(kid).or_default().push(task);
        }
    }

    /// Ends all of them, and waits until each has let go of its calls.
    pub(super) async fn end(&mut self) {
        self.running.clear();
        self.tasks.shutdown().await;
        // What they had started for themselves is dropped on this runtime, too, in its turn.
        tokio::task::yield_now().await;
    }

    /// Waits until one ends that was not told to: by a panic, or since nobody wants to know any more.
    pub(super) async fn ended(&mut self) {
        loop {
            match self.tasks.join_next().await {
                Some(Err(error)) if error.is_cancelled() => {}
                Some(_) => return,
                // No prober runs at this moment.
                None => std::future::pending().await,
            }
        }
    }
}

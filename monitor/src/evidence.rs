//! What callers' requests tell about the upstreams, and the writer that is woken at once when a
//! call failed.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use signing_core::evidence::Evidence;
use signing_core::gate::Watched;
use signing_core::monitor::{Traffic, Urgency};
use signing_core::{Kid, Moment};
use tokio::sync::Notify;

/// Evidence of traffic that the writer has not folded into the gates yet.
#[derive(Debug)]
pub struct TrafficEvidence {
    traffic: ArcSwap<Traffic>,
    urgent: Notify,
}

impl TrafficEvidence {
    pub(super) fn new(signers: impl Iterator<Item = Watched>, slow_call: Duration) -> Self {
        let traffic = ArcSwap::from_pointee(Traffic::new(signers, slow_call));
        Self { traffic, urgent: Notify::new() }
    }

    pub(super) fn traffic(&self) -> Arc<Traffic> {
        self.traffic.load_full()
    }

    /// Takes evidence of these signers from now on.
    pub(super) fn watch(&self, signers: impl Iterator<Item = Watched>) {
        self.traffic.store(Arc::new(self.traffic.load().succeeded_by(signers)));
    }

    /// Reports what a request saw of an upstream, whose call began at `started` and took
    /// `took`.
    pub fn report(
        &self,
        kid: &Kid,
        upstream: usize,
        (started, took): (Moment, Duration),
        at: Moment,
        evidence: Evidence,
    ) {
        match self.traffic.load().report(kid, upstream, (started, took), at, evidence) {
            Urgency::AtOnce => self.urgent.notify_one(),
            Urgency::NextFold => {}
        }
    }

    /// Waits until something was reported that is to be folded in at once.
    pub(super) async fn urgent(&self) {
        self.urgent.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use signing_core::evidence::Fault;

    use super::*;

    #[tokio::test]
    async fn a_failure_is_announced_at_once_even_if_nobody_waited_yet() {
        let kid = Kid::parse("ledger").unwrap();
        let evidence =
            TrafficEvidence::new([Watched::from(kid.clone())].into_iter(), Duration::from_secs(1));
        let failed = Evidence::Failed { fault: Fault::Unavailable, detail: "detail".into() };
        let took = (Moment::from_nanos(1), Duration::from_nanos(1));
        evidence.report(&kid, 0, took, Moment::from_nanos(2), failed);
        let announced = tokio::time::timeout(Duration::from_secs(10), evidence.urgent()).await;
        assert!(announced.is_ok());
    }
}

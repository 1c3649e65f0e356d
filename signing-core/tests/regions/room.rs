//! One signer with several upstreams, and a clock that the test turns.

use std::sync::Arc;
use std::time::Duration;

use signing_core::evidence::{Evidence, Fault, Observation, Source};
use signing_core::gate::{
    Epoch, Extent, Freeze, Gates, OutageClock, Place, State, Tally, Thresholds, Watched,
    WindowLimits,
};
use signing_core::{Kid, Moment, Policy, Reason, Registry, Rulebook};
use time::OffsetDateTime;

pub(crate) const KID: &str = "ledger";

/// Quick to open, slow to end, without a window: what a test is not about stays out of it.
pub(crate) fn plain() -> Thresholds {
    Thresholds {
        lease: Duration::from_secs(8),
        failures_to_shut: 3,
        successes_to_open: 1,
        recovery_min: Duration::ZERO,
        recovery_max: Duration::ZERO,
        flap_window: Duration::ZERO,
        window: WindowLimits { calls_min: u32::MAX, ..WindowLimits::default() },
    }
}

pub(crate) fn kid() -> Kid {
    Kid::parse(KID).unwrap()
}

pub(crate) fn nothing() -> Arc<Rulebook> {
    Arc::new(Rulebook::new(Registry::default(), Policy::default()))
}

pub(crate) fn watched(upstreams: usize) -> Watched {
    let place = |at| Arc::new(Place { provider: "aws-kms", region: format!("region-{at}") });
    Watched { kid: kid(), upstreams: (0..upstreams).map(place).collect(), made_in: 1 }
}

pub(crate) fn failed(fault: Fault) -> Evidence {
    Evidence::Failed { fault, detail: "detail".into() }
}

/// The gates, and what time it is.
pub(crate) struct Room {
    pub(crate) gates: Gates,
    pub(crate) now: Moment,
    pub(crate) thresholds: Thresholds,
}

impl Room {
    pub(crate) fn new(upstreams: usize, thresholds: Thresholds) -> Self {
        let now = Moment::default().after(Duration::from_secs(1_000));
        let gates = Gates::new(thresholds.clone(), [watched(upstreams)], nothing(), now);
        Self { gates, now, thresholds }
    }

    /// All upstreams have opened.
    pub(crate) fn open(upstreams: usize, thresholds: Thresholds) -> Self {
        let mut room = Self::new(upstreams, thresholds);
        for upstream in 0..upstreams {
            room.prove(upstream);
        }
        assert_eq!(room.extent(), Extent::None);
        room
    }

    /// Canaries that succeed until the upstream is open, one millisecond apart; returns how
    /// long that took.
    pub(crate) fn prove(&mut self, upstream: usize) -> Duration {
        let began = self.now;
        for _ in 0..1_000_000 {
            self.wait(1);
            self.canary(upstream, Evidence::Signed);
            if matches!(self.upstream(upstream), State::Open { .. }) {
                return self.now.since(began);
            }
        }
        panic!("upstream {upstream} does not open: {:?}", self.upstream(upstream));
    }

    pub(crate) fn wait(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
    }

    pub(crate) fn canary(&mut self, upstream: usize, evidence: Evidence) {
        self.canary_that_took(upstream, 0, evidence);
    }

    pub(crate) fn canary_that_took(&mut self, upstream: usize, ms: u64, evidence: Evidence) {
        let took = u64::try_from(Duration::from_millis(ms).as_nanos()).unwrap();
        let started = Moment::from_nanos(self.now.as_nanos() - took);
        let (source, at) = (Source::Canary, self.now);
        let observation = Observation { upstream, source, started, at, count: 1, evidence };
        self.gates.observe(&kid(), &observation);
    }

    /// Canaries that fail until the upstream has shut for that.
    pub(crate) fn fail(&mut self, upstream: usize, fault: Fault) {
        for _ in 0..self.thresholds.failures_to_shut {
            self.canary(upstream, failed(fault));
        }
        assert!(!matches!(self.upstream(upstream), State::Open { .. }));
    }

    pub(crate) fn calls(&mut self, upstream: usize, tally: Tally) {
        self.gates.tally(&kid(), upstream, tally, self.now);
    }

    pub(crate) fn tick(&mut self) {
        self.gates.tick(self.now);
    }

    pub(crate) fn upstream(&self, at: usize) -> State {
        self.gates.snapshot().gate(&kid()).unwrap().upstreams[at].state.clone()
    }

    pub(crate) fn check(&self) -> Result<Epoch, Reason> {
        self.gates.snapshot().check(&kid(), self.now).map_err(|refusal| refusal.reason)
    }

    pub(crate) fn extent(&self) -> Extent {
        self.gates.snapshot().gate(&kid()).unwrap().extent(self.now)
    }

    pub(crate) fn clock(&self) -> OutageClock {
        self.gates.snapshot().gate(&kid()).unwrap().outage
    }

    pub(crate) fn outage(&self) -> Duration {
        self.clock().elapsed(self.now)
    }

    pub(crate) fn freeze(&mut self) {
        let (reason, by) = ("stop".to_owned(), "uid 1000".to_owned());
        let at = OffsetDateTime::UNIX_EPOCH;
        self.gates.freeze(Freeze { id: None, reason, by, at, since: self.now });
    }
}

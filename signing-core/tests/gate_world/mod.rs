//! Random histories of two gates, and the little that is written down about
//! them to judge the answers by: what was heard, and when it was shut.
//!
//! The test's clock counts single nanoseconds, so that edges often meet.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use signing_core::evidence::{Evidence, Fault, Observation, Source};
use signing_core::gate::{Freeze, Gates, Snapshot, Thresholds, WindowLimits};
use signing_core::{Kid, Moment, Policy, Registry, Rulebook};
use time::OffsetDateTime;

/// When the gates are made. Calls may have begun before.
const START: u64 = 1_000;

/// Every fault but the one that is terminal.
pub(crate) const PASSING_FAULTS: [Fault; 4] =
    [Fault::Rejected, Fault::Unavailable, Fault::Indeterminate, Fault::Throttled];

/// What may happen.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A call that took `took` told something about the signer `of`.
    Heard {
        of: usize,
        source: Source,
        took: u64,
        count: u32,
        evidence: Evidence,
    },
    Tick,
    Freeze,
    Unfreeze,
    Unseal {
        of: usize,
    },
}

/// An event after `wait`; then everyone's answers are looked at `later` than that.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) wait: u64,
    pub(crate) event: Event,
    pub(crate) later: u64,
}

/// A whole random history.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) thresholds: Thresholds,
    pub(crate) steps: Vec<Step>,
}

/// What is written down about one signer.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) kid: Kid,
    /// This signer alone in the world, with every event but freezes.
    pub(crate) alone: Gates,
    pub(crate) heard: Vec<Observation>,
    /// Whether it was open, freezes aside, when the newest step was over.
    pub(crate) open: bool,
    /// Whether the newest step opened it.
    pub(crate) opened: bool,
    /// When it was last opened.
    pub(crate) opened_at: u64,
    /// When it was last shut or unsealed.
    pub(crate) shut_at: u64,
    /// Whether a doubt was heard that nobody has looked into.
    pub(crate) doubted: bool,
}

/// The gates under test, and what is known of them.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) thresholds: Thresholds,
    pub(crate) gates: Gates,
    pub(crate) frozen: bool,
    pub(crate) clock: u64,
    /// What everyone saw between the step before and this one, and since when.
    pub(crate) before: (Snapshot, u64),
    pub(crate) signers: Vec<History>,
}

/// Plays a history; `judge` is asked after every step.
pub(crate) fn play(
    case: &Case,
    mut judge: impl FnMut(&World, &Step) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut world = World::new(&case.thresholds);
    case.steps.iter().try_for_each(|step| {
        world.take(step);
        judge(&world, step)
    })
}

/// The first moment from `from` to `until` at which `snapshot` refuses `kid`: at
/// `until` itself someone may still look at it, too.
pub(crate) fn first_refusal(snapshot: &Snapshot, kid: &Kid, from: u64, until: u64) -> Option<u64> {
    (from..=until).find(|nanos| snapshot.check(kid, Moment::from_nanos(*nanos)).is_err())
}

/// A rulebook that grants nothing.
fn nothing() -> Arc<Rulebook> {
    Arc::new(Rulebook::new(Registry::default(), Policy::default()))
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

impl World {
    pub(crate) fn new(thresholds: &Thresholds) -> Self {
        let kids = ["alpha", "beta"].map(|kid| Kid::parse(kid).unwrap());
        let start = Moment::from_nanos(START);
        let gates = |kids: &[Kid]| Gates::new(thresholds.clone(), kids.to_vec(), nothing(), start);
        let signers = kids.iter().map(|kid| History {
            kid: kid.clone(),
            alone: gates(std::slice::from_ref(kid)),
            heard: Vec::new(),
            open: false,
            opened: false,
            opened_at: START,
            shut_at: START,
            doubted: false,
        });
        Self {
            thresholds: thresholds.clone(),
            gates: gates(&kids),
            frozen: false,
            clock: START,
            before: (gates(&kids).snapshot(), START),
            signers: signers.collect(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::from_nanos(self.clock)
    }

    fn take(&mut self, step: &Step) {
        self.before = (self.gates.snapshot(), self.clock);
        let alone_before: Vec<_> = self.signers.iter().map(|s| s.alone.snapshot()).collect();
        self.clock += step.wait;
        self.happen(&step.event);
        let (now, since) = (self.now(), self.before.1);
        for (signer, before) in self.signers.iter_mut().zip(alone_before) {
            let refused_at = first_refusal(&before, &signer.kid, since, self.clock);
            let was_open = signer.open && refused_at.is_none();
            if let (true, Some(at)) = (signer.open, refused_at) {
                signer.shut_at = at;
            }
            signer.open = signer.alone.snapshot().check(&signer.kid, now).is_ok();
            signer.opened = signer.open && !was_open;
            if signer.opened {
                signer.opened_at = self.clock;
            }
            if was_open && !signer.open {
                signer.shut_at = self.clock;
            }
        }
    }

    fn happen(&mut self, event: &Event) {
        let now = self.now();
        match event {
            Event::Heard { of, source, took, count, evidence } => {
                let signer = self.signers.get_mut(*of).unwrap();
                let observation = Observation {
                    upstream: 0,
                    source: *source,
                    started: Moment::from_nanos(self.clock.saturating_sub(*took)),
                    at: now,
                    count: *count,
                    evidence: evidence.clone(),
                };
                self.gates.observe(&signer.kid, &observation);
                signer.alone.observe(&signer.kid, &observation);
                signer.doubted |= matches!(evidence, Evidence::Doubt { .. });
                signer.heard.push(observation);
            }
            Event::Tick => {
                self.gates.tick(now);
                for signer in &mut self.signers {
                    signer.alone.tick(now);
                }
            }
            Event::Freeze => {
                self.gates.freeze(freeze(now));
                self.frozen = true;
            }
            Event::Unfreeze => {
                assert_eq!(self.gates.unfreeze().is_some(), self.frozen);
                self.frozen = false;
            }
            Event::Unseal { of } => {
                let signer = self.signers.get_mut(*of).unwrap();
                let unsealed = self.gates.unseal(&signer.kid, now).is_some();
                signer.alone.unseal(&signer.kid, now);
                assert_eq!(unsealed, signer.doubted);
                if unsealed {
                    signer.shut_at = self.clock;
                }
                signer.doubted = false;
            }
        }
    }
}

impl History {
    /// The signatures heard of that verified.
    pub(crate) fn signed(&self) -> impl Iterator<Item = &Observation> {
        self.heard.iter().filter(|observation| observation.evidence == Evidence::Signed)
    }
}

pub(crate) fn freeze(now: Moment) -> Freeze {
    let at = OffsetDateTime::UNIX_EPOCH;
    Freeze { id: None, reason: "stop".into(), by: "uid 1000".into(), at, since: now }
}

/// Thresholds over the whole range that matters, small against the clock.
pub(crate) fn thresholds() -> impl Strategy<Value = Thresholds> {
    let duration = |range: std::ops::Range<u64>| range.prop_map(Duration::from_nanos);
    (duration(20..50), 1..5_u32, 1..5_u32, duration(0..15)).prop_map(
        |(lease, failures_to_shut, successes_to_open, recovery_min)| Thresholds {
            lease,
            failures_to_shut,
            successes_to_open,
            recovery_min,
            recovery_max: Duration::ZERO,
            flap_window: Duration::ZERO,
            window: WindowLimits { calls_min: u32::MAX, ..WindowLimits::default() },
        },
    )
}

/// Histories in which gates open, shut, seal and freeze many times.
pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let steps = (waits(), events(), 0..100_u64).prop_map(|(wait, event, later)| Step {
        wait,
        event,
        later,
    });
    (thresholds(), proptest::collection::vec(steps, 1..120))
        .prop_map(|(thresholds, steps)| Case { thresholds, steps })
}

/// From no time at all to beyond every lease.
fn waits() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0_u64), 12 => 1..6_u64, 4 => 6..20_u64, 1 => 20..100_u64]
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        40 => heard(),
        4 => Just(Event::Tick),
        1 => Just(Event::Freeze),
        2 => Just(Event::Unfreeze),
        2 => (0..2_usize).prop_map(|of| Event::Unseal { of }),
    ]
}

fn heard() -> impl Strategy<Value = Event> {
    let evidence = prop_oneof![
        30 => Just(Evidence::Signed),
        5 => (faults(), Just("detail".to_owned()))
            .prop_map(|(fault, detail)| Evidence::Failed { fault, detail }),
        1 => Just(Evidence::Doubt { detail: "detail".into() }),
    ];
    let took = prop_oneof![8 => 0..8_u64, 1 => 8..100_u64];
    (0..2_usize, sources(), took, 1..3_u32, evidence).prop_map(
        |(of, source, took, count, evidence)| Event::Heard { of, source, took, count, evidence },
    )
}

fn faults() -> impl Strategy<Value = Fault> {
    prop_oneof![5 => proptest::sample::select(&PASSING_FAULTS[..]), 1 => Just(Fault::KeyUnavailable)]
}

fn sources() -> impl Strategy<Value = Source> {
    prop_oneof![3 => Just(Source::Canary), 1 => Just(Source::Traffic)]
}

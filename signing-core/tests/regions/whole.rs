//! The whole out of its upstreams, played against one gate for each upstream alone.

use std::time::Duration;

use proptest::prelude::*;
use signing_core::evidence::{Evidence, Fault, Observation, Source};
use signing_core::gate::{Epoch, Extent, Gates, State, Tally, Thresholds, WindowLimits};
use signing_core::{Moment, Reason};

use crate::room::{Room, failed, kid, nothing, plain, watched};

/// The test's clock counts single nanoseconds, so that edges often meet.
const START: u64 = 1_000;

#[derive(Clone, Debug)]
enum Event {
    Heard {
        upstream: usize,
        source: Source,
        took: u64,
        count: u32,
        evidence: Evidence,
    },
    Calls {
        upstream: usize,
        tally: Tally,
    },
    Tick,
    Unseal,
    /// The longest lease from now on.
    Reload {
        lease: u64,
    },
}

#[derive(Clone, Debug)]
struct Step {
    wait: u64,
    event: Event,
    later: u64,
}

/// Several upstreams as one signer's, and each as the only one of a signer.
struct Both {
    together: Gates,
    alone: Vec<Gates>,
    thresholds: Thresholds,
    clock: u64,
    doubted: bool,
    /// Whether the newest event ended a seal.
    unsealed: bool,
}

impl Both {
    fn new(upstreams: usize, thresholds: Thresholds) -> Self {
        let start = Moment::from_nanos(START);
        let gates =
            |upstreams| Gates::new(thresholds.clone(), [watched(upstreams)], nothing(), start);
        Self {
            together: gates(upstreams),
            alone: (0..upstreams).map(|_| gates(1)).collect(),
            thresholds: thresholds.clone(),
            clock: START,
            doubted: false,
            unsealed: false,
        }
    }

    fn take(&mut self, event: &Event) {
        let (kid, now) = (kid(), Moment::from_nanos(self.clock));
        // Time passes for all of them, whichever the event is about.
        self.alone.iter_mut().for_each(|gates| drop(gates.tick(now)));
        self.unsealed = false;
        match event {
            Event::Heard { upstream, source, took, count, evidence } => {
                let upstream = upstream % self.alone.len();
                let started = Moment::from_nanos(self.clock.saturating_sub(*took));
                let (source, count, evidence) = (*source, *count, evidence.clone());
                let heard = Observation { upstream, source, started, at: now, count, evidence };
                self.together.observe(&kid, &heard);
                if matches!(heard.evidence, Evidence::Doubt { .. }) {
                    self.alone.iter_mut().for_each(|gates| drop(gates.seal(&kid, "", now)));
                    self.doubted = true;
                } else {
                    let heard = Observation { upstream: 0, ..heard };
                    self.alone[upstream].observe(&kid, &heard);
                }
            }
            Event::Calls { upstream, tally } => {
                let upstream = upstream % self.alone.len();
                self.together.tally(&kid, upstream, *tally, now);
                self.alone[upstream].tally(&kid, 0, *tally, now);
            }
            Event::Tick => {
                self.together.tick(now);
            }
            Event::Unseal => {
                assert_eq!(self.together.unseal(&kid, now).is_some(), self.doubted);
                self.alone.iter_mut().for_each(|gates| drop(gates.unseal(&kid, now)));
                self.unsealed = std::mem::take(&mut self.doubted);
            }
            Event::Reload { lease } => {
                let lease = Duration::from_nanos(*lease);
                self.together.tick(now);
                let thresholds = Thresholds { lease, ..self.thresholds.clone() };
                for gates in self.alone.iter_mut().chain([&mut self.together]) {
                    gates.reload(nothing(), thresholds.clone());
                }
            }
        }
    }

    fn open_alone_at(&self, nanos: u64) -> usize {
        open_at(&self.alone, nanos)
    }

    fn check_at(&self, nanos: u64) -> Result<Epoch, Reason> {
        let checked = self.together.snapshot().check(&kid(), Moment::from_nanos(nanos));
        checked.map_err(|refusal| refusal.reason)
    }
}

fn open_at(alone: &[Gates], nanos: u64) -> usize {
    let at = Moment::from_nanos(nanos);
    let is_open = |gates: &&Gates| matches!(gates.state(&kid()), Some(state) if state.is_open(at));
    alone.iter().filter(is_open).count()
}

fn play(
    (upstreams, thresholds, steps): &(usize, Thresholds, Vec<Step>),
    mut judge: impl FnMut(&Both, &Step, u64, &[Gates]) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut both = Both::new(*upstreams, thresholds.clone());
    for step in steps {
        let (since, before) = (both.clock, both.alone.clone());
        both.clock += step.wait;
        both.take(&step.event);
        judge(&both, step, since, &before)?;
    }
    Ok(())
}

fn cases() -> impl Strategy<Value = (usize, Thresholds, Vec<Step>)> {
    let waits = prop_oneof![3 => Just(0_u64), 12 => 1..6_u64, 4 => 6..20_u64, 1 => 20..100_u64];
    let steps = (waits, events(), 0..60_u64);
    let steps = steps.prop_map(|(wait, event, later)| Step { wait, event, later });
    (1..4_usize, thresholds(), proptest::collection::vec(steps, 1..120))
}

fn thresholds() -> impl Strategy<Value = Thresholds> {
    let nanos = |range: std::ops::Range<u64>| range.prop_map(Duration::from_nanos);
    let window = (nanos(10..200), 2..12_u32, 30..100_u32, nanos(4..60), 30..100_u32).prop_map(
        |(length, calls_min, error_percent_max, slow_call, slow_percent_max)| WindowLimits {
            length,
            calls_min,
            error_percent_max,
            slow_call,
            slow_percent_max,
        },
    );
    let counts = (1..5_u32, 1..4_u32);
    (nanos(20..50), counts, nanos(0..10), nanos(0..40), nanos(0..60), window).prop_map(
        |(lease, counts, recovery_min, recovery_max, flap_window, window)| Thresholds {
            lease,
            failures_to_shut: counts.0,
            successes_to_open: counts.1,
            recovery_min,
            recovery_max,
            flap_window,
            window,
        },
    )
}

fn events() -> impl Strategy<Value = Event> {
    let upstream = 0..3_usize;
    let fault = proptest::sample::select(vec![
        Fault::Rejected,
        Fault::Unavailable,
        Fault::Indeterminate,
        Fault::Throttled,
        Fault::KeyUnavailable,
    ]);
    let evidence = prop_oneof![
        40 => Just(Evidence::Signed),
        4 => fault.prop_map(failed),
        1 => Just(Evidence::Doubt { detail: "doubt".into() }),
    ];
    let source = prop_oneof![4 => Just(Source::Canary), 1 => Just(Source::Traffic)];
    let heard = (upstream.clone(), source, 0..8_u64, 1..3_u32, evidence).prop_map(
        |(upstream, source, took, count, evidence)| Event::Heard {
            upstream,
            source,
            took,
            count,
            evidence,
        },
    );
    let tally = (0..4_u32, 0..2_u32, 0..3_u32).prop_map(|(signed, slow, failed)| Tally {
        signed,
        slow: slow.min(signed),
        failed,
        newest_fault: (failed > 0).then_some(Fault::Unavailable),
    });
    prop_oneof![
        40 => heard,
        6 => (upstream, tally).prop_map(|(upstream, tally)| Event::Calls { upstream, tally }),
        4 => Just(Event::Tick),
        3 => Just(Event::Unseal),
        1 => (20..50_u64).prop_map(|lease| Event::Reload { lease }),
    ]
}

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(512), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn i2_it_is_open_exactly_while_one_of_its_upstreams_alone_would_be(case in cases()) {
        play(&case, |both, step, _, _| {
            for nanos in both.clock..=both.clock + step.later {
                let open = both.open_alone_at(nanos);
                prop_assert_eq!(both.check_at(nanos).is_ok(), open > 0, "at {}", nanos);
                let gate = both.together.snapshot().gate(&kid()).unwrap().clone();
                let at = Moment::from_nanos(nanos);
                prop_assert_eq!(gate.serving(at).count(), open);
                let extent = match open {
                    0 => Extent::Full,
                    some if some == both.alone.len() => Extent::None,
                    _ => Extent::Partial,
                };
                prop_assert_eq!(gate.extent(at), extent);
            }
            Ok(())
        })?;
    }

    #[test]
    fn i1_the_epoch_stays_exactly_while_upstreams_carry_it_without_a_gap(case in cases()) {
        let (mut seen, mut gap) = (None, false);
        play(&case, |both, _, since, before| {
            gap |= (since..=both.clock).any(|nanos| open_at(before, nanos) == 0);
            match both.check_at(both.clock) {
                Ok(epoch) => {
                    if let Some(earlier) = seen.replace(epoch) {
                        prop_assert_eq!(earlier != epoch, gap);
                    }
                    gap = false;
                }
                Err(_) => gap = true,
            }
            Ok(())
        })?;
    }

    #[test]
    fn i10_doubt_about_one_seals_the_whole_and_an_unseal_shuts_all_of_it(case in cases()) {
        play(&case, |both, _, _, _| {
            let sealed = both.check_at(both.clock) == Err(Reason::Sealed);
            prop_assert_eq!(sealed, both.doubted);
            let gate = both.together.snapshot().gate(&kid()).unwrap().clone();
            for upstream in &gate.upstreams {
                let sealed = matches!(upstream.state, State::Sealed { .. });
                prop_assert_eq!(sealed, both.doubted);
                let is_shut = matches!(upstream.state, State::Shut { .. });
                prop_assert!(!both.unsealed || is_shut);
            }
            prop_assert!(!both.unsealed || gate.trusted_from == both.together_now());
            Ok(())
        })?;
    }

    #[test]
    fn i11_the_outage_clock_is_zero_while_it_is_open_and_never_goes_back_while_it_is_not(
        case in cases()
    ) {
        let (mut shown, mut open_until) = (Duration::ZERO, START);
        play(&case, |both, step, since, before| {
            let gate = both.together.snapshot().gate(&kid()).unwrap().clone();
            let at = |nanos| gate.outage.elapsed(Moment::from_nanos(nanos));
            let was_open = (since..both.clock).rev().find(|nanos| open_at(before, *nanos) > 0);
            let was_open = was_open.filter(|_| step.wait > 0);
            open_until = was_open.map_or(open_until, |nanos| nanos + 1);
            if both.open_alone_at(both.clock) > 0 {
                prop_assert!(at(both.clock + step.later).is_zero());
                open_until = both.clock;
            } else {
                prop_assert!(at(both.clock) <= Duration::from_nanos(both.clock - open_until));
                prop_assert!(at(both.clock) >= shown || open_until > since);
                prop_assert!(at(both.clock + step.later) >= at(both.clock));
            }
            shown = at(both.clock);
            Ok(())
        })?;
    }
}

impl Both {
    fn together_now(&self) -> Moment {
        Moment::from_nanos(self.clock)
    }
}

#[test]
fn the_random_histories_of_upstreams_overlap_hand_over_and_seal() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let (mut partial, mut handed_over, mut sealed, mut shut) = (0, 0, 0, 0);
    let mut runner = TestRunner::deterministic();
    for _ in 0..512 {
        let case = cases().new_tree(&mut runner).unwrap().current();
        let mut carrying: Option<(usize, Epoch)> = None;
        play(&case, |both, _, _, _| {
            let gate = both.together.snapshot().gate(&kid()).unwrap().clone();
            let now = both.together_now();
            let first = gate.serving(now).next();
            partial += u32::from(gate.extent(now) == Extent::Partial);
            sealed += u32::from(both.doubted);
            shut += u32::from(first.is_none() && carrying.is_some());
            let next = first.zip(both.check_at(both.clock).ok());
            handed_over += u32::from(matches!((carrying, next),
                (Some((from, before)), Some((to, after))) if from != to && before == after));
            carrying = next;
            Ok(())
        })
        .unwrap();
    }
    let enough = [partial, handed_over, sealed, shut].map(|times| times > 100);
    assert_eq!(enough, [true; 4], "{:?}", [partial, handed_over, sealed, shut]);
}

#[test]
fn i1_one_upstream_after_the_other_carries_it_in_one_epoch() {
    let mut room = Room::new(3, plain());
    room.prove(0);
    let epoch = room.check().unwrap();
    for next in [1, 2, 0, 2] {
        room.wait(1_000);
        room.prove(next);
        for other in (0..3).filter(|other| *other != next) {
            room.fail(other, Fault::Unavailable);
        }
        assert_eq!((room.check(), room.extent()), (Ok(epoch), Extent::Partial));
    }
    // The smallest gap is one.
    room.fail(2, Fault::Unavailable);
    room.prove(1);
    assert_ne!(room.check().unwrap(), epoch);
}

#[test]
fn i2_an_upstream_whose_lease_ended_before_another_opened_did_not_carry_it_until_then() {
    let mut room = Room::new(2, plain());
    room.prove(0);
    let epoch = room.check().unwrap();
    // Nobody looked between the end of the lease and the canary.
    room.wait(8_000);
    room.prove(1);
    assert_ne!(room.check().unwrap(), epoch);
}

#[test]
fn i10_doubt_about_one_of_three_seals_and_all_prove_themselves_anew() {
    let mut room = Room::open(3, plain());
    room.canary(1, Evidence::Doubt { detail: "another key".into() });
    assert_eq!((room.check(), room.extent()), (Err(Reason::Sealed), Extent::Full));
    room.wait(1);
    room.canary(0, Evidence::Signed);
    assert_eq!(room.check(), Err(Reason::Sealed));
    room.gates.unseal(&kid(), room.now).unwrap();
    assert!((0..3).all(|at| matches!(room.upstream(at), State::Shut { .. })));
    room.prove(2);
    assert_eq!(room.extent(), Extent::Partial);
    assert!(room.check().is_ok());
}

#[test]
fn what_changed_about_one_of_several_is_told_apart_and_of_an_only_one_it_is_not() {
    let mut room = Room::open(2, plain());
    let told: Vec<_> = room.gates.take_changes().into_iter().map(|change| change.place).collect();
    assert_eq!(told.iter().filter(|place| place.region == "region-1").count(), 1, "{told:?}");
    room.fail(1, Fault::Throttled);
    let change = room.gates.take_changes().pop().unwrap();
    assert_eq!((change.place.region.as_str(), change.to.word()), ("region-1", "shut"));
    assert!(room.gates.take_changes().is_empty());
    let mut only = Room::open(1, plain());
    assert!(only.gates.take_changes().is_empty());
}

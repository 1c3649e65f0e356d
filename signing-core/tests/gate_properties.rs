//! What holds of every gate after every history of evidence, time and
//! operators (I2, I9), found out by playing many random ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use signing_core::evidence::{Evidence, Fault, Observation, Source};
use signing_core::gate::{Gates, State, Thresholds, WindowLimits};
use signing_core::{Kid, Moment, Reason};

use gate_world::{
    Case, Event, History, PASSING_FAULTS, World, cases, first_refusal, nanos, play, thresholds,
};

mod gate_world;

const CASES: u32 = 512;

fn config() -> ProptestConfig {
    // PROPTEST_CASES asks for more.
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(CASES), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn i2_an_open_gate_has_evidence_within_the_lease_that_began_after_it_was_last_shut(
        case in cases()
    ) {
        play(&case, |world, step| {
            let later = world.clock + step.later;
            for signer in &world.signers {
                if world.gates.snapshot().check(&signer.kid, Moment::from_nanos(later)).is_ok() {
                    let proven = signer.signed().any(|signed| {
                        signed.started.after(world.thresholds.lease) > Moment::from_nanos(later)
                            && signed.started.as_nanos() >= signer.shut_at
                    });
                    prop_assert!(proven, "open at {later}: {signer:?}");
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn i2_a_gate_opens_only_after_enough_canaries_in_a_row_over_enough_time(case in cases()) {
        play(&case, |world, _| {
            for signer in world.signers.iter().filter(|signer| signer.opened) {
                let row = canaries_in_a_row(signer, world.thresholds.lease);
                let over = row.first().zip(row.last());
                let over = over.map(|(oldest, newest)| newest.at.since(oldest.at));
                prop_assert!(row.len() >= world.thresholds.successes_to_open as usize);
                prop_assert!(over >= Some(world.thresholds.recovery_min));
            }
            Ok(())
        })?;
    }

    #[test]
    fn i2_evidence_that_is_too_old_when_it_is_heard_opens_nothing(case in cases()) {
        play(&case, |world, step| {
            if let Event::Heard { of, .. } = &step.event {
                let signer = &world.signers[*of];
                let says_open = matches!(signer.alone.state(&signer.kid), Some(State::Open { .. }));
                prop_assert_eq!(says_open, signer.open);
            }
            Ok(())
        })?;
    }

    #[test]
    fn i2_traffic_alone_never_opens_a_gate(case in cases()) {
        play(&without_canaries(case), |world, _| {
            for signer in &world.signers {
                prop_assert!(world.gates.snapshot().check(&signer.kid, world.now()).is_err());
            }
            Ok(())
        })?;
    }

    #[test]
    fn i2_a_snapshot_that_nobody_replaces_refuses_once_its_lease_is_over_and_ever_after(
        case in cases()
    ) {
        play(&case, |world, _| {
            let snapshot = world.gates.snapshot();
            let lease = nanos(world.thresholds.lease);
            for signer in &world.signers {
                let over = signer.signed().map(|signed| signed.started.as_nanos() + lease).max();
                let over = over.unwrap_or(world.clock).max(world.clock);
                let refused_at = first_refusal(&snapshot, &signer.kid, world.clock, over + 1);
                prop_assert!(refused_at.is_some());
                for late in refused_at.into_iter().flat_map(|at| at..over + 2 * lease) {
                    prop_assert!(snapshot.check(&signer.kid, Moment::from_nanos(late)).is_err());
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_freeze_beats_everything(case in cases()) {
        play(&case, |world, step| {
            let later = Moment::from_nanos(world.clock + step.later);
            for signer in &world.signers {
                let reason = reason_at(&world.gates, &signer.kid, later);
                prop_assert_eq!(reason == Some(Reason::Frozen), world.frozen);
            }
            Ok(())
        })?;
    }

    #[test]
    fn i10_doubt_seals_until_an_operator_unseals(case in cases()) {
        play(&case, |world, step| {
            let later = Moment::from_nanos(world.clock + step.later);
            for signer in world.signers.iter().filter(|_| !world.frozen) {
                let reason = reason_at(&world.gates, &signer.kid, later);
                prop_assert_eq!(reason == Some(Reason::Sealed), signer.doubted);
            }
            Ok(())
        })?;
    }

    #[test]
    fn i1_the_epoch_changes_if_and_only_if_the_gate_was_not_open_in_between(case in cases()) {
        // By signer: the epoch when it was last seen open, and whether it has been shut since.
        let mut seen = vec![(None, false); 2];
        play(&case, |world, _| {
            let (before, since) = &world.before;
            for (signer, (epoch, shut_since)) in world.signers.iter().zip(&mut seen) {
                *shut_since |= first_refusal(before, &signer.kid, *since, world.clock).is_some();
                match world.gates.snapshot().check(&signer.kid, world.now()) {
                    Ok(current) => {
                        if let Some(earlier) = epoch.replace(current) {
                            prop_assert_eq!(earlier != current, *shut_since, "{:?}", signer);
                        }
                        *shut_since = false;
                    }
                    Err(_) => *shut_since = true,
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn i10_an_unavailable_key_shuts_at_once_unless_it_was_met_before_the_gate_opened(
        case in cases()
    ) {
        play(&case, |world, step| {
            if let Event::Heard { of, evidence: Evidence::Failed { fault, .. }, took, .. } = &step.event {
                let signer = &world.signers[*of];
                let is_old = world.clock - took < signer.opened_at;
                prop_assert!(*fault != Fault::KeyUnavailable || is_old || !signer.open);
            }
            Ok(())
        })?;
    }

    #[test]
    fn two_signers_share_nothing_but_the_freeze(case in cases()) {
        play(&case, |world, step| {
            let later = Moment::from_nanos(world.clock + step.later);
            for signer in world.signers.iter().filter(|_| !world.frozen) {
                let together = reason_at(&world.gates, &signer.kid, later);
                let alone = reason_at(&signer.alone, &signer.kid, later);
                prop_assert_eq!(together, alone);
            }
            Ok(())
        })?;
    }

    #[test]
    fn that_many_failures_in_a_row_shut_and_fewer_do_not(
        thresholds in thresholds(),
        failures in proptest::collection::vec(failure(), 1..8),
    ) {
        let mut opened = opened(thresholds.clone());
        let mut in_a_row = 0;
        for (count, source, fault) in failures {
            in_a_row += count;
            opened.hear(source, 0, count, failed(fault));
            let expected = (in_a_row >= thresholds.failures_to_shut).then(|| fault.gate_reason());
            prop_assert_eq!(opened.reason(), expected);
            if expected.is_some() {
                break;
            }
        }
    }

    #[test]
    fn failures_of_calls_that_began_before_the_gate_opened_shut_nothing(
        thresholds in thresholds(),
        fault in prop_oneof![proptest::sample::select(&PASSING_FAULTS[..]), Just(Fault::KeyUnavailable)],
        source in proptest::sample::select(vec![Source::Canary, Source::Traffic]),
    ) {
        let mut opened = opened(thresholds);
        let since = opened.gates.state(&opened.kid).unwrap().since().as_nanos();
        opened.hear(source, opened.clock - since + 1, u32::MAX, failed(fault));
        prop_assert_eq!(opened.reason(), None);
    }

    #[test]
    fn what_an_upstream_rejects_of_callers_shuts_nothing_but_of_canaries_it_does(
        thresholds in thresholds(),
    ) {
        let mut opened = opened(thresholds);
        opened.hear(Source::Traffic, 0, u32::MAX, failed(Fault::Rejected));
        prop_assert_eq!(opened.reason(), None);
        opened.hear(Source::Canary, 0, u32::MAX, failed(Fault::Rejected));
        prop_assert_eq!(opened.reason(), Some(Reason::UpstreamUnhealthy));
    }

    #[test]
    fn a_success_ends_the_row_of_failures_unless_it_began_before_the_newest(
        thresholds in thresholds(),
        began_before in any::<bool>(),
        (_, source, fault) in failure(),
    ) {
        // One failure is no row.
        if thresholds.failures_to_shut == 1 {
            return Ok(());
        }
        let mut opened = opened(thresholds.clone());
        opened.hear(source, 0, thresholds.failures_to_shut - 1, failed(fault));
        opened.clock += 1;
        opened.hear(source, if began_before { 2 } else { 1 }, 1, Evidence::Signed);
        opened.hear(source, 0, 1, failed(fault));
        prop_assert_eq!(opened.reason(), began_before.then(|| fault.gate_reason()));
    }
}

#[test]
fn i2_a_call_that_began_after_it_was_known_proves_nothing() {
    let thresholds = Thresholds {
        lease: Duration::from_nanos(20),
        failures_to_shut: 1,
        successes_to_open: 1,
        recovery_min: Duration::ZERO,
        recovery_max: Duration::ZERO,
        flap_window: Duration::ZERO,
        window: WindowLimits { calls_min: u32::MAX, ..WindowLimits::default() },
    };
    let world = World::new(&thresholds);
    let (mut gates, kid) = (world.gates, world.signers.first().unwrap().kid.clone());
    let at = Moment::from_nanos(world.clock);
    let canary = |started| Observation {
        upstream: 0,
        source: Source::Canary,
        started,
        at,
        count: 1,
        evidence: Evidence::Signed,
    };
    let far = [at.after(Duration::from_nanos(1)), at.after(Duration::MAX)];
    for started in far {
        gates.observe(&kid, &canary(started));
        assert_eq!(reason_at(&gates, &kid, at), Some(Reason::Starting));
    }
    gates.observe(&kid, &canary(at));
    for started in far {
        gates.observe(&kid, &canary(started));
    }
    let lease_over = at.after(thresholds.lease);
    assert_eq!(reason_at(&gates, &kid, at), None);
    assert_eq!(reason_at(&gates, &kid, lease_over), Some(Reason::UpstreamUnhealthy));
}

/// The properties say little of gates that hardly ever open.
#[test]
fn the_random_histories_open_shut_seal_and_freeze_gates() {
    let (mut opened, mut reopened, mut renewed) = (0, 0, 0);
    let (mut sealed, mut frozen) = (0, 0);
    let mut runner = TestRunner::deterministic();
    for _ in 0..CASES {
        let case = cases().new_tree(&mut runner).unwrap().current();
        let mut openings = [0, 0];
        play(&case, |world, _| {
            frozen += u32::from(world.frozen);
            for (signer, openings) in world.signers.iter().zip(&mut openings) {
                *openings += u32::from(signer.opened);
                renewed += u32::from(signer.open && !signer.opened);
                sealed += u32::from(signer.doubted);
            }
            Ok(())
        })
        .unwrap();
        opened += u32::from(openings.iter().any(|times| *times > 0));
        reopened += u32::from(openings.iter().any(|times| *times > 1));
    }
    let enough = [opened, reopened, renewed, sealed, frozen].map(|times| times > CASES / 3);
    assert_eq!(enough, [true; 5], "{:?}", [opened, reopened, renewed, sealed, frozen]);
}

/// The newest canaries that succeeded one after the other, oldest first: since the
/// gate was shut, with no failure and no lease's length of silence between them.
fn canaries_in_a_row(signer: &History, lease: Duration) -> Vec<&Observation> {
    let failed_at = signer.heard.iter().rposition(|heard| match heard.evidence {
        Evidence::Signed => false,
        Evidence::Failed { fault, .. } => counts(heard.source, fault),
        Evidence::Doubt { .. } => true,
    });
    let after_failures = signer.heard.iter().skip(failed_at.map_or(0, |at| at + 1));
    let of_now = |heard: &&Observation| {
        heard.source == Source::Canary && heard.started.as_nanos() >= signer.shut_at
    };
    let mut row: Vec<&Observation> = Vec::new();
    for canary in after_failures.filter(of_now) {
        if row.last().is_some_and(|newest| canary.at >= newest.started.after(lease)) {
            row.clear();
        }
        if row.last().is_none_or(|newest| canary.started > newest.started) {
            row.push(canary);
        }
    }
    row
}

/// One gate that canaries have just opened.
struct Opened {
    gates: Gates,
    kid: Kid,
    clock: u64,
}

impl Opened {
    fn hear(&mut self, source: Source, took: u64, count: u32, evidence: Evidence) {
        let (started, at) = (Moment::from_nanos(self.clock - took), Moment::from_nanos(self.clock));
        self.gates
            .observe(&self.kid, &Observation { upstream: 0, source, started, at, count, evidence });
    }

    fn reason(&self) -> Option<Reason> {
        reason_at(&self.gates, &self.kid, Moment::from_nanos(self.clock))
    }
}

fn opened(thresholds: Thresholds) -> Opened {
    let world = World::new(&thresholds);
    let kid = world.signers.first().unwrap().kid.clone();
    let mut opened = Opened { gates: world.gates, kid, clock: world.clock };
    let apart = thresholds.recovery_min.max(Duration::from_nanos(1));
    for _ in 0..=thresholds.successes_to_open {
        opened.clock += nanos(apart);
        opened.hear(Source::Canary, 0, 1, Evidence::Signed);
    }
    assert_eq!(opened.reason(), None);
    opened
}

fn failed(fault: Fault) -> Evidence {
    Evidence::Failed { fault, detail: "detail".into() }
}

/// Whether a failure says anything: what an upstream rejects of callers does not.
fn counts(source: Source, fault: Fault) -> bool {
    (source, fault) != (Source::Traffic, Fault::Rejected)
}

fn failure() -> impl Strategy<Value = (u32, Source, Fault)> {
    let source = proptest::sample::select(vec![Source::Canary, Source::Traffic]);
    (1..3_u32, source, proptest::sample::select(&PASSING_FAULTS[..]))
        .prop_filter("says nothing", |(_, source, fault)| counts(*source, *fault))
}

fn reason_at(gates: &Gates, kid: &Kid, now: Moment) -> Option<Reason> {
    gates.snapshot().check(kid, now).err().map(|refusal| refusal.reason)
}

fn without_canaries(mut case: Case) -> Case {
    for step in &mut case.steps {
        if let Event::Heard { source, .. } = &mut step.event {
            *source = Source::Traffic;
        }
    }
    case
}

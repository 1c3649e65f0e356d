//! What opens a gate again, and what does not.

use std::sync::Arc;
use std::time::Duration;

use signing_core::evidence::{Evidence, Fault, Observation, Source};
use signing_core::gate::{Gates, Thresholds, WindowLimits};
use signing_core::{Kid, Moment, Policy, Registry, Rulebook};

fn ms(n: u64) -> Moment {
    Moment::default().after(Duration::from_millis(n))
}

fn gates(kid: &Kid) -> Gates {
    let thresholds = Thresholds {
        lease: Duration::from_millis(100),
        failures_to_shut: 1,
        successes_to_open: 2,
        recovery_min: Duration::ZERO,
        recovery_max: Duration::ZERO,
        flap_window: Duration::ZERO,
        window: WindowLimits { calls_min: u32::MAX, ..WindowLimits::default() },
    };
    let nothing = Rulebook::new(Registry::default(), Policy::default());
    Gates::new(thresholds, [kid.clone()], Arc::new(nothing), ms(0))
}

fn seen(source: Source, started: u64, at: u64, evidence: Evidence) -> Observation {
    Observation { upstream: 0, source, started: ms(started), at: ms(at), count: 1, evidence }
}

fn failed(fault: Fault) -> Evidence {
    Evidence::Failed { fault, detail: "d".into() }
}

#[test]
fn i2_a_canary_that_began_before_a_failure_was_known_opens_nothing() {
    let kid = Kid::parse("k").unwrap();
    let mut gates = gates(&kid);
    gates.observe(&kid, &seen(Source::Canary, 10, 20, failed(Fault::KeyUnavailable)));
    gates.observe(&kid, &seen(Source::Canary, 11, 21, Evidence::Signed));
    gates.observe(&kid, &seen(Source::Canary, 12, 22, Evidence::Signed));
    assert!(gates.snapshot().check(&kid, ms(22)).is_err());
    gates.observe(&kid, &seen(Source::Canary, 23, 24, Evidence::Signed));
    gates.observe(&kid, &seen(Source::Canary, 25, 26, Evidence::Signed));
    assert!(gates.snapshot().check(&kid, ms(26)).is_ok());
}

#[test]
fn a_call_from_before_the_recovery_that_fails_late_shuts_nothing() {
    let kid = Kid::parse("k").unwrap();
    let mut gates = gates(&kid);
    gates.observe(&kid, &seen(Source::Canary, 10, 11, Evidence::Signed));
    gates.observe(&kid, &seen(Source::Canary, 12, 13, Evidence::Signed));
    gates.observe(&kid, &seen(Source::Traffic, 5, 20, failed(Fault::Indeterminate)));
    assert!(gates.snapshot().check(&kid, ms(20)).is_ok());
    gates.observe(&kid, &seen(Source::Traffic, 14, 21, failed(Fault::Indeterminate)));
    assert!(gates.snapshot().check(&kid, ms(21)).is_err());
}

#[test]
fn what_the_upstream_rejects_of_a_caller_shuts_nothing_and_of_a_canary_does() {
    let kid = Kid::parse("k").unwrap();
    let mut gates = gates(&kid);
    gates.observe(&kid, &seen(Source::Canary, 10, 11, Evidence::Signed));
    gates.observe(&kid, &seen(Source::Canary, 12, 13, Evidence::Signed));
    gates.observe(&kid, &seen(Source::Traffic, 14, 15, failed(Fault::Rejected)));
    assert!(gates.snapshot().check(&kid, ms(15)).is_ok());
    gates.observe(&kid, &seen(Source::Canary, 16, 17, failed(Fault::Rejected)));
    assert!(gates.snapshot().check(&kid, ms(17)).is_err());
}

#[test]
fn what_our_own_queue_sheds_is_no_evidence_of_traffic_or_of_a_canary() {
    let kid = Kid::parse("k").unwrap();
    let mut gates = gates(&kid);
    gates.observe(&kid, &seen(Source::Canary, 10, 11, Evidence::Signed));
    // Neither does it break the row of canaries that opens a gate.
    gates.observe(&kid, &seen(Source::Canary, 11, 12, failed(Fault::Overloaded)));
    gates.observe(&kid, &seen(Source::Canary, 12, 13, Evidence::Signed));
    for source in [Source::Traffic, Source::Canary] {
        gates.observe(&kid, &seen(source, 14, 15, failed(Fault::Overloaded)));
    }
    assert!(gates.snapshot().check(&kid, ms(15)).is_ok());
    // It proves nothing either: the lease ends.
    gates.observe(&kid, &seen(Source::Canary, 100, 111, failed(Fault::Overloaded)));
    assert!(gates.snapshot().check(&kid, ms(112)).is_err());
}

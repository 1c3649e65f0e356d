//! I11: what runs the outage clock, what pauses it, and what sets it back.

use std::time::Duration;

use signing_core::Moment;
use signing_core::evidence::{Evidence, Fault};
use signing_core::gate::{Tally, Thresholds, WindowLimits};

use crate::room::{Room, failed, kid, plain};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A signer of one upstream that shut because of `fault`.
fn out_for(fault: Fault) -> Room {
    let mut room = Room::open(1, plain());
    room.fail(0, fault);
    room
}

#[test]
fn i11_only_that_nothing_answers_is_an_outage() {
    for (fault, counts) in [
        (Fault::Unavailable, true),
        (Fault::Indeterminate, true),
        (Fault::Rejected, false),
        (Fault::Throttled, false),
        (Fault::KeyUnavailable, false),
    ] {
        let mut room = out_for(fault);
        assert_eq!(room.clock().is_running(), counts, "{fault:?}");
        room.wait(60_000);
        assert_eq!(room.outage(), seconds(if counts { 60 } else { 0 }), "{fault:?}");
    }
}

#[test]
fn i11_silence_is_an_outage_from_when_it_is_noticed() {
    let mut room = Room::open(1, plain());
    room.wait(9_000);
    assert!(room.outage().is_zero(), "nobody has looked yet");
    room.tick();
    room.wait(5_000);
    assert_eq!(room.outage(), seconds(5));
}

#[test]
fn i11_slowness_and_a_start_without_an_answer_are_no_outage() {
    let window = WindowLimits { calls_min: 1, slow_percent_max: 1, ..WindowLimits::default() };
    let mut room = Room::open(1, Thresholds { window, ..plain() });
    room.calls(0, Tally { signed: 9, slow: 9, ..Tally::default() });
    assert!(room.check().is_err());
    room.wait(60_000);
    assert!(room.outage().is_zero());

    let mut starting = Room::new(1, plain());
    starting.wait(60_000);
    starting.tick();
    assert!(starting.outage().is_zero());
    // Once it is known that nothing answers, it counts, and from then on.
    starting.canary(0, failed(Fault::Unavailable));
    starting.wait(3_000);
    assert_eq!(starting.outage(), seconds(3));
}

#[test]
fn i11_something_else_in_the_way_pauses_it_and_the_outage_goes_on_after() {
    for pause in [Fault::Throttled, Fault::KeyUnavailable, Fault::Rejected] {
        let mut room = out_for(Fault::Unavailable);
        room.wait(10_000);
        room.canary(0, failed(pause));
        room.wait(100_000);
        assert_eq!(room.outage(), seconds(10), "{pause:?}");
        room.canary(0, failed(Fault::Indeterminate));
        room.wait(5_000);
        assert_eq!(room.outage(), seconds(15), "{pause:?}");
    }
}

#[test]
fn i11_a_slow_answer_pauses_it() {
    let mut room = out_for(Fault::Unavailable);
    room.wait(10_000);
    room.canary_that_took(0, 2_000, Evidence::Signed);
    room.wait(10_000);
    assert_eq!(room.outage(), seconds(10));
}

#[test]
fn i11_exactly_the_minimum_is_reached_and_a_nanosecond_before_it_is_not() {
    let mut room = out_for(Fault::Unavailable);
    let (began, minimum) = (room.now, seconds(30 * 60));
    room.now = Moment::from_nanos(began.after(minimum).as_nanos() - 1);
    assert!(room.outage() < minimum);
    room.now = began.after(minimum);
    assert_eq!(room.outage(), minimum);
}

#[test]
fn i11_single_successes_do_not_set_it_back_and_an_open_gate_does() {
    let thresholds = Thresholds { successes_to_open: 2, ..plain() };
    let mut room = Room::open(1, thresholds);
    room.fail(0, Fault::Unavailable);
    room.wait(10_000);
    room.canary(0, Evidence::Signed);
    assert_eq!(room.outage(), seconds(10));
    room.wait(1_000);
    room.canary(0, failed(Fault::Unavailable));
    assert_eq!(room.outage(), seconds(11));
    room.prove(0);
    assert!(room.outage().is_zero() && !room.clock().is_running());
    room.fail(0, Fault::Unavailable);
    room.wait(2_000);
    assert_eq!(room.outage(), seconds(2));
}

#[test]
fn i11_it_runs_while_frozen() {
    let mut room = out_for(Fault::Unavailable);
    room.wait(10_000);
    room.freeze();
    room.wait(10_000);
    room.tick();
    assert_eq!(room.outage(), seconds(20));
    room.gates.unfreeze();
    room.wait(10_000);
    assert_eq!(room.outage(), seconds(30));
    // A freeze alone is none.
    let mut healthy = Room::open(1, plain());
    healthy.freeze();
    healthy.wait(5_000);
    healthy.canary(0, Evidence::Signed);
    assert!(healthy.outage().is_zero());
}

#[test]
fn i11_a_drill_is_no_outage_and_pauses_one() {
    let mut room = Room::open(1, plain());
    room.gates.set_drill(Some(kid()), room.now);
    room.fail(0, Fault::Unavailable);
    room.wait(60_000);
    room.tick();
    assert!(room.outage().is_zero());
    room.gates.set_drill(None, room.now);
    room.wait(7_000);
    assert_eq!(room.outage(), seconds(7));
    room.gates.set_drill(Some(kid()), room.now);
    room.wait(60_000);
    assert_eq!(room.outage(), seconds(7));
    // Another signer's drill is none of this one.
    let other = signing_core::Kid::parse("payouts").unwrap();
    room.gates.set_drill(Some(other), room.now);
    room.wait(1_000);
    assert_eq!(room.outage(), seconds(8));
}

#[test]
fn i11_a_partial_outage_is_none_and_every_upstream_has_to_be_out_for_it() {
    let mut room = Room::open(2, plain());
    room.fail(0, Fault::Unavailable);
    for _ in 0..20 {
        room.wait(1_000);
        room.canary(1, Evidence::Signed);
    }
    assert!(room.outage().is_zero());
    // One key disabled, and the other out: that is not all out.
    room.fail(1, Fault::KeyUnavailable);
    room.wait(10_000);
    room.tick();
    assert!(room.outage().is_zero());
    room.canary(1, failed(Fault::Unavailable));
    room.wait(10_000);
    assert_eq!(room.outage(), seconds(10));
}

#[test]
fn i11_a_seal_pauses_it_and_its_end_does_not_start_it() {
    let mut room = out_for(Fault::Unavailable);
    room.wait(10_000);
    room.canary(0, Evidence::Doubt { detail: "another key".into() });
    room.wait(10_000);
    room.tick();
    assert_eq!(room.outage(), seconds(10));
    room.gates.unseal(&kid(), room.now).unwrap();
    room.wait(10_000);
    assert_eq!(room.outage(), seconds(10));
    room.canary(0, failed(Fault::Unavailable));
    room.wait(1_000);
    assert_eq!(room.outage(), seconds(11));
}

#[test]
fn i11_it_never_counts_backwards() {
    let mut room = out_for(Fault::Unavailable);
    room.wait(10_000);
    let (later, earlier) = (room.outage(), room.now);
    room.canary(0, failed(Fault::Throttled));
    room.now = Moment::from_nanos(earlier.as_nanos() - 5_000_000_000);
    room.canary(0, failed(Fault::Unavailable));
    assert_eq!(room.outage(), later);
}

/// A clock that cannot be read says that it is the end of time, which ends every lease.
/// It is no evidence that an outage has lasted.
#[test]
fn i11_a_clock_that_can_not_be_read_counts_for_nothing() {
    let end = Moment::from_nanos(u64::MAX);
    let mut room = out_for(Fault::Unavailable);
    room.wait(10_000);
    assert!(room.clock().elapsed(end) <= seconds(10));
    let now = std::mem::replace(&mut room.now, end);
    room.canary(0, failed(Fault::Throttled));
    room.now = now;
    assert!(room.outage() <= seconds(10));
    room.now = end;
    room.canary(0, failed(Fault::Unavailable));
    room.now = now.after(seconds(1));
    room.canary(0, failed(Fault::Unavailable));
    room.wait(2_000);
    assert!(room.outage() >= seconds(2) && room.outage() <= seconds(13), "{:?}", room.outage());
}

//! The sliding window of calls: against a list of all calls, and in named cases.

use std::time::Duration;

use proptest::prelude::*;
use signing_core::Reason;
use signing_core::evidence::{Evidence, Fault};
use signing_core::gate::{Cause, State, Tally, Thresholds, WindowLimits};

use crate::room::{Room, nothing, plain};

const PARTS: u64 = 10;

fn limits() -> WindowLimits {
    WindowLimits {
        length: Duration::from_secs(10),
        calls_min: 20,
        error_percent_max: 50,
        slow_call: Duration::from_secs(1),
        slow_percent_max: 80,
    }
}

fn with(window: WindowLimits) -> Thresholds {
    Thresholds { lease: Duration::from_secs(100_000), window, ..plain() }
}

fn signed(signed: u32) -> Tally {
    Tally { signed, ..Tally::default() }
}

fn slow(slow: u32) -> Tally {
    Tally { signed: slow, slow, ..Tally::default() }
}

fn failures(failed: u32) -> Tally {
    Tally { failed, newest_fault: Some(Fault::Unavailable), ..Tally::default() }
}

proptest! {
    #[test]
    fn a_gate_shuts_exactly_when_the_calls_of_the_window_are_too_bad(
        calls in proptest::collection::vec((0..4_000_u64, 0..6_u32, 0..6_u32, 0..6_u32), 1..60),
        calls_min in 1..30_u32,
        error_percent_max in 1..=100_u32,
        slow_percent_max in 1..=100_u32,
    ) {
        let limits = WindowLimits { calls_min, error_percent_max, slow_percent_max, ..limits() };
        let mut room = Room::new(1, with(limits.clone()));
        room.prove(0);
        // The canary that opened it is the first of its calls, unless that shut it again.
        let part = |room: &Room| room.now.as_nanos() / 1_000_000_000;
        let mut all = vec![(part(&room), signed(1))];
        for (wait, fast, slow, failed) in calls {
            room.wait(wait);
            let newest_fault = (failed > 0).then_some(Fault::Throttled);
            let tally = Tally { signed: fast + slow, slow, failed, newest_fault };
            room.calls(0, tally);
            if tally == Tally::default() {
                continue;
            }
            all.push((part(&room), tally));
            let recent = all.iter().filter(|(at, _)| at + PARTS > part(&room));
            let count = |of: fn(&Tally) -> u32| recent.clone().map(|(_, t)| of(t)).sum::<u32>();
            let (failed, slow) = (count(|t| t.failed), count(|t| t.slow));
            let total = count(|t| t.signed) + failed;
            let too_much = |n: u32, percent: u32| n > 0 && n * 100 >= percent * total;
            let is_bad = total >= calls_min
                && (too_much(failed, error_percent_max) || too_much(slow, slow_percent_max));
            prop_assert_eq!(room.check().is_err(), is_bad, "{} of {}, {} slow", failed, total, slow);
            if is_bad {
                break;
            }
        }
    }
}

#[test]
fn that_many_of_a_hundred_that_failed_shut_it_and_fewer_calls_than_the_minimum_say_nothing() {
    let mut room = Room::open(1, with(limits()));
    room.calls(0, failures(9));
    room.calls(0, signed(9));
    // With the canary 19 calls.
    assert!(room.check().is_ok());
    room.calls(0, failures(1));
    assert_eq!(room.check(), Err(Reason::UpstreamUnhealthy));
    let State::Shut { cause: Cause::Failing { fault, detail }, .. } = room.upstream(0) else {
        panic!("{:?}", room.upstream(0))
    };
    assert_eq!(fault, Fault::Unavailable);
    assert_eq!(detail, "10 of 20 calls within 10 s failed");
}

#[test]
fn that_many_of_a_hundred_that_were_slow_shut_it() {
    let mut room = Room::open(1, with(limits()));
    room.calls(0, signed(4));
    room.calls(0, slow(19));
    assert!(room.check().is_ok());
    room.calls(0, slow(1));
    assert!(matches!(room.upstream(0), State::Shut { cause: Cause::Slow { .. }, .. }));
    assert_eq!(room.check(), Err(Reason::UpstreamUnhealthy));
}

#[test]
fn what_slid_out_of_the_window_does_not_count() {
    let mut room = Room::open(1, with(limits()));
    room.calls(0, failures(15));
    room.wait(10_000);
    room.calls(0, failures(19));
    assert!(room.check().is_ok());
    room.calls(0, failures(1));
    assert!(room.check().is_err());
}

#[test]
fn a_reload_of_its_length_begins_the_window_anew() {
    let mut room = Room::open(1, with(limits()));
    room.calls(0, failures(15));
    let longer = WindowLimits { length: Duration::from_secs(60), ..limits() };
    room.gates.reload(nothing(), with(longer));
    room.calls(0, failures(19));
    assert!(room.check().is_ok());
    room.wait(50_000);
    room.calls(0, failures(1));
    assert!(room.check().is_err());
}

#[test]
fn a_gate_that_opened_again_begins_with_an_empty_window() {
    let mut room = Room::open(1, with(limits()));
    room.calls(0, failures(30));
    assert!(room.check().is_err());
    room.calls(0, failures(30));
    room.prove(0);
    room.calls(0, failures(18));
    assert!(room.check().is_ok());
}

#[test]
fn i11_the_newest_failure_of_the_window_is_its_cause_whatever_came_to_be_counted_last() {
    for (older, newer) in
        [(Fault::Unavailable, Fault::Throttled), (Fault::Throttled, Fault::Unavailable)]
    {
        for offset in 0..10 {
            let mut room = Room::open(1, with(limits()));
            room.wait(offset * 1_000);
            room.calls(0, Tally { failed: 9, newest_fault: Some(older), ..Tally::default() });
            room.wait(1_000);
            room.calls(0, Tally { failed: 9, newest_fault: Some(newer), ..Tally::default() });
            room.wait(1_000);
            // A success makes up the minimum: it says nothing of how the others failed.
            room.calls(0, signed(3));
            let State::Shut { cause: Cause::Failing { fault, .. }, .. } = room.upstream(0) else {
                panic!("{:?}", room.upstream(0))
            };
            assert_eq!(fault, newer, "{offset} s on");
        }
    }
}

#[test]
fn slow_canaries_open_nothing_and_begin_the_row_anew() {
    let thresholds = Thresholds { successes_to_open: 2, ..with(limits()) };
    let mut room = Room::new(1, thresholds);
    room.wait(5_000);
    for _ in 0..20 {
        room.wait(2_000);
        room.canary_that_took(0, 1_001, Evidence::Signed);
    }
    assert!(matches!(room.upstream(0), State::Shut { cause: Cause::Slow { .. }, .. }));
    room.wait(1);
    room.canary(0, Evidence::Signed);
    room.wait(2_000);
    room.canary_that_took(0, 1_001, Evidence::Signed);
    room.wait(1);
    room.canary(0, Evidence::Signed);
    assert!(room.check().is_err());
    // As slow as is borne.
    room.wait(1_001);
    room.canary_that_took(0, 1_000, Evidence::Signed);
    assert!(room.check().is_ok());
    // Once it is open, a single slow one shuts nothing.
    room.wait(2_000);
    room.canary_that_took(0, 1_500, Evidence::Signed);
    assert!(room.check().is_ok());
}

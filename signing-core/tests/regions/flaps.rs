//! Back-off: the longer an upstream flaps, the longer it has to prove itself.

use std::time::Duration;

use signing_core::evidence::Fault;
use signing_core::gate::Thresholds;

use crate::room::{Room, plain};

fn flapping() -> Thresholds {
    Thresholds {
        recovery_min: Duration::from_millis(1_000),
        recovery_max: Duration::from_millis(10_000),
        flap_window: Duration::from_secs(60),
        lease: Duration::from_secs(600),
        ..plain()
    }
}

/// How long it takes to open after it shut, in whole seconds.
fn recovery(room: &mut Room) -> u64 {
    room.fail(0, Fault::Unavailable);
    room.prove(0).as_secs()
}

#[test]
fn it_doubles_each_time_up_to_its_limit() {
    let mut room = Room::open(1, flapping());
    let took: Vec<_> = (0..7).map(|_| recovery(&mut room)).collect();
    assert_eq!(took, [2, 4, 8, 10, 10, 10, 10]);
}

#[test]
fn a_long_open_time_ends_it() {
    let mut room = Room::open(1, flapping());
    assert_eq!([recovery(&mut room), recovery(&mut room)], [2, 4]);
    room.wait(59_999);
    assert_eq!(recovery(&mut room), 8);
    room.wait(60_000);
    assert_eq!(recovery(&mut room), 1);
    assert_eq!(recovery(&mut room), 2);
}

#[test]
fn one_upstream_flaps_and_the_other_does_not_pay_for_it() {
    let mut room = Room::open(2, flapping());
    assert_eq!([recovery(&mut room), recovery(&mut room)], [2, 4]);
    room.wait(60_000);
    room.fail(1, Fault::Unavailable);
    assert_eq!(room.prove(1).as_secs(), 1);
}

#[test]
fn a_limit_below_the_shortest_time_shortens_nothing() {
    let thresholds = Thresholds { recovery_max: Duration::ZERO, ..flapping() };
    let mut room = Room::open(1, thresholds);
    assert_eq!([recovery(&mut room), recovery(&mut room)], [1, 1]);
}

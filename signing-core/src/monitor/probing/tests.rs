//! What is due when, by the defaults: canaries every 5 s, or 500 ms; the key's state once a minute.

use super::*;
use crate::gate::Cause;

const NEVER_SOONER: [u8; 2] = [0; 2];

fn at(ms: u64) -> Moment {
    Moment::default().after(Duration::from_millis(ms))
}

fn wait(ms: u64) -> ProbeStep {
    ProbeStep::Wait(Duration::from_millis(ms))
}

fn open(failures: u32) -> State {
    let (since, proven_at, lease_until, failed_at) = (at(0), at(0), at(8_000), at(0));
    State::Open { since, proven_at, lease_until, failures, failed_at }
}

/// One that probed at that time.
fn probed(ms: u64) -> Probing {
    let mut probing = Probing::default();
    probing.begins(at(ms));
    probing
}

impl Probing {
    fn at(&mut self, ms: u64, state: &State) -> ProbeStep {
        self.next(&Probe::default(), Some(state), None, NEVER_SOONER, at(ms))
    }
}

#[test]
fn the_first_canary_waits_for_nothing_and_open_gates_are_probed_at_the_slow_pace() {
    let mut probing = Probing::default();
    assert_eq!(probing.at(0, &State::starting(at(0))), ProbeStep::Probe);
    probing.begins(at(1_000));
    assert_eq!(probing.at(1_020, &open(0)), wait(4_980));
    assert_eq!(probing.at(5_999, &open(0)), wait(1));
    assert_eq!(probing.at(6_000, &open(0)), ProbeStep::Probe);
}

#[test]
fn what_is_not_open_or_has_just_failed_is_probed_at_the_fast_pace_whatever_traffic_proves() {
    let shut = State::Shut { cause: Cause::Silence, since: at(900), proof_from: at(900) };
    for state in [Some(&shut), Some(&open(1)), Some(&open(2)), None] {
        let look = |ms| {
            let probe = Probe::default();
            probed(1_000).next(&probe, state, Some(at(1_499)), NEVER_SOONER, at(ms))
        };
        assert_eq!(look(1_499), wait(1), "{state:?}");
        assert_eq!(look(1_500), ProbeStep::Probe, "{state:?}");
    }
}

#[test]
fn a_call_that_succeeded_puts_the_next_canary_off_and_an_old_one_does_not() {
    let look = |proven: u64, ms: u64| {
        probed(1_000).next(
            &Probe::default(),
            Some(&open(0)),
            Some(at(proven)),
            NEVER_SOONER,
            at(ms),
        )
    };
    assert_eq!(look(4_000, 6_000), wait(3_000));
    assert_eq!(look(4_000, 9_000), ProbeStep::Probe);
    assert_eq!(look(500, 6_000), ProbeStep::Probe);
}

#[test]
fn the_pace_is_up_to_a_tenth_faster_and_never_slower() {
    let (mut soonest, interval) = (Duration::MAX, Duration::from_secs(5));
    for random in 0..=u8::MAX {
        let paced = jittered(interval, random);
        assert!(paced <= interval && paced >= interval / 10 * 9, "{random}: {paced:?}");
        soonest = soonest.min(paced);
    }
    assert_eq!((jittered(interval, 0), soonest), (interval, interval / 10 * 9));
}

#[test]
fn the_state_of_the_key_is_asked_for_at_its_own_pace_also_while_traffic_proves_it_signs() {
    let mut probing = probed(1_000);
    let busy = |probing: &mut Probing, ms: u64| {
        let probe = Probe::default();
        probing.next(&probe, Some(&open(0)), Some(at(ms - 1)), NEVER_SOONER, at(ms))
    };
    assert_eq!(busy(&mut probing, 60_999), wait(1));
    assert_eq!(busy(&mut probing, 61_000), ProbeStep::AskState);
    probing.asks_state(at(61_000));
    assert_eq!(busy(&mut probing, 61_001), wait(5_000 - 1));
    assert_eq!(busy(&mut probing, 121_000), ProbeStep::AskState);
}

#[test]
fn canaries_do_not_put_the_question_for_the_state_off() {
    let mut probing = Probing::default();
    let mut asked = Vec::new();
    for ms in 1_000..=181_000 {
        match probing.at(ms, &open(0)) {
            ProbeStep::Probe => probing.begins(at(ms)),
            ProbeStep::AskState => {
                probing.asks_state(at(ms));
                asked.push(ms);
            }
            ProbeStep::Wait(_) => {}
        }
    }
    // A canary is due at the same time, and goes first.
    assert_eq!(asked, [61_001, 121_001]);
}

#[test]
fn a_state_that_speaks_against_the_key_is_asked_for_before_each_canary_until_it_does_not() {
    let mut probing = Probing::default();
    assert!(!probing.asks_first());
    probing.state_known(true);
    assert!(probing.asks_first());
    probing.state_known(false);
    assert!(!probing.asks_first());
}

#[test]
fn a_key_in_trouble_that_traffic_still_signs_with_is_asked_for_again_soon() {
    let mut probing = probed(1_000);
    probing.asks_state(at(2_000));
    probing.state_known(true);
    let busy = |probing: &mut Probing, ms: u64| {
        let probe = Probe::default();
        probing.next(&probe, Some(&open(0)), Some(at(ms - 1)), NEVER_SOONER, at(ms))
    };
    assert_eq!(busy(&mut probing, 6_999), wait(1));
    assert_eq!(busy(&mut probing, 7_000), ProbeStep::AskState);
}

#[test]
fn a_sealed_signer_is_left_alone_and_its_key_compared_anew_after() {
    let mut probing = probed(1_000);
    probing.compared();
    assert!(!probing.has_to_compare());
    let sealed = State::Sealed { detail: "doubt".into(), since: at(0) };
    assert_eq!(probing.at(60_000, &sealed), wait(5_000));
    assert!(probing.has_to_compare());
}

#[test]
fn no_silent_question_for_the_state_takes_what_a_lease_has_to_spare() {
    let of = |ms| Probe { timeout: Duration::from_millis(ms), ..Probe::default() }.state_timeout();
    assert_eq!(of(2_000), Duration::from_millis(500));
    assert_eq!(of(60_000), Duration::from_millis(500));
    assert_eq!(of(100), Duration::from_millis(25));
}

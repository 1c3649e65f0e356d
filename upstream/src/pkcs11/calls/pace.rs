//! How fast a token signs, as its answers show, and what follows for the calls that wait. Pure:
//! times are arguments.
//!
//! Many tokens sign one call after the other, whatever their library says. More calls at once only
//! wait in the library, where they look like a slow token. So no more are given to the worker at
//! once than make it faster: a call takes as long beside others as alone, or one fewer is given.

use std::time::Duration;

use signing_core::Moment;

/// How much a new time weighs against those before: one in so many.
const SMOOTHING: u32 = 8;

/// A call beside others may take so much longer than one alone, in percent, before the others are
/// taken for what it waits for.
const BESIDE_OTHERS_PERCENT: u128 = 150;

/// How many calls the worker is given ahead for each one at once, at most: enough that no thread
/// waits for its next one.
const AHEAD_MAX: usize = 3;

/// What the worker is given ahead has to begin within so long. What waits there cannot be shed,
/// gives way to no canary, and is in doubt if the worker dies.
const AHEAD_FOR_MAX: Duration = Duration::from_millis(2);

/// Between the latest begin of a call and its deadline lie so many of the token's recent times.
const TIMES_BEFORE_DEADLINE: u32 = 2;

/// And at least so long, in which the signature is verified and recorded.
const BEFORE_DEADLINE_MIN: Duration = Duration::from_millis(50);

/// How long the token takes for one call, and how many at once make it faster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    threads: usize,
    /// How many calls the token is given at once: from 1 to the threads.
    at_once: usize,
    /// Of any call, smoothed. None: it has not signed yet.
    call: Option<Duration>,
    /// Of a call beside which there was no other.
    alone: Option<Duration>,
}

impl Pace {
    pub(super) fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        Self { threads, at_once: threads, call: None, alone: None }
    }

    /// Takes in how long a call took, from its begin to its signature.
    pub(super) fn signed_in(&mut self, took: Duration, was_alone: bool) {
        let call = smoothed(self.call, took);
        self.call = Some(call);
        if was_alone {
            self.alone = Some(smoothed(self.alone, took));
        }
        let Some(alone) = self.alone else { return };
        let share = alone.as_nanos() * BESIDE_OTHERS_PERCENT / call.as_nanos().max(1);
        let share = usize::try_from(share.min(100)).unwrap_or(100);
        self.at_once = (self.at_once * share / 100 + 1).min(self.threads);
    }

    /// How many calls the token is given at once.
    pub(super) fn at_once(&self) -> usize {
        self.at_once
    }

    /// How many calls the worker is given, those that it has begun included.
    pub(super) fn sent_max(&self) -> usize {
        let ahead = match self.call {
            // Nothing is known: none has to wait behind one that may take long.
            None => 0,
            Some(call) => {
                let fit = AHEAD_FOR_MAX.as_nanos() / call.as_nanos().max(1);
                usize::try_from(fit).unwrap_or(usize::MAX).min(AHEAD_MAX)
            }
        };
        self.at_once.saturating_mul(1 + ahead)
    }

    /// When a call has to begin at the latest, if its answer is of use until `deadline`.
    pub(super) fn latest_begin(&self, deadline: Moment) -> Moment {
        let call = self.call.unwrap_or_default();
        let before = call.saturating_mul(TIMES_BEFORE_DEADLINE).max(BEFORE_DEADLINE_MIN);
        let before = u64::try_from(before.as_nanos()).unwrap_or(u64::MAX);
        Moment::from_nanos(deadline.as_nanos().saturating_sub(before))
    }

    /// How long one more call waits, behind so many that are sent or wait.
    pub(super) fn wait_behind(&self, others: usize) -> Duration {
        let before_it = others.saturating_add(1).saturating_sub(self.at_once);
        let [before_it, at_once] =
            [before_it, self.at_once].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        self.call.unwrap_or_default().saturating_mul(before_it) / at_once.max(1)
    }
}

fn smoothed(before: Option<Duration>, took: Duration) -> Duration {
    before.map_or(took, |before| before - before / SMOOTHING + took / SMOOTHING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn pace(threads: usize, call: Duration) -> Pace {
        let mut pace = Pace::new(threads);
        pace.signed_in(call, false);
        pace
    }

    /// After many calls to a token that takes so long for one, and so long for so many at once.
    fn settled(threads: usize, alone: Duration, beside: impl Fn(usize) -> Duration) -> Pace {
        let mut pace = Pace::new(threads);
        pace.signed_in(alone, true);
        for _ in 0..200 {
            let at_once = pace.at_once();
            pace.signed_in(beside(at_once), at_once == 1);
        }
        pace
    }

    #[test]
    fn a_call_waits_for_those_before_it_and_not_for_its_own_thread() {
        // One thread: the fifth of five waits for four. Four threads: for two rounds.
        for (threads, others, expected) in
            [(1, 0, 0), (1, 1, 100), (1, 4, 400), (4, 3, 0), (4, 4, 25), (4, 11, 200)]
        {
            let waits = pace(threads, ms(100)).wait_behind(others);
            assert_eq!(waits, ms(expected), "{threads} threads, behind {others}");
        }
        assert_eq!(Pace::new(1).wait_behind(1000), Duration::ZERO, "nothing is known yet");
    }

    #[test]
    fn a_token_that_signs_one_after_the_other_is_not_given_more_at_once() {
        let serial = |at_once| ms(100) * u32::try_from(at_once).unwrap();
        for threads in [1, 2, 4, 64] {
            // One signs, and the next one is there.
            let pace = settled(threads, ms(100), serial);
            assert_eq!(pace.at_once(), threads.min(2), "{threads} threads");
        }
    }

    #[test]
    fn a_token_that_signs_in_parallel_is_given_as_many_as_there_are_threads() {
        for percent in [90, 100, 140] {
            let pace = settled(16, ms(100), |_| ms(percent));
            assert_eq!(pace.at_once(), 16, "{percent} % beside others");
        }
        // It has four places.
        let four = |at_once: usize| ms(100) * u32::try_from(at_once.div_ceil(4)).unwrap();
        let at_once = settled(16, ms(100), four).at_once();
        assert!((4..=8).contains(&at_once), "{at_once}");
    }

    #[test]
    fn a_token_that_changes_its_pace_is_measured_anew() {
        let serial = |ms_each| move |at_once| ms(ms_each) * u32::try_from(at_once).unwrap();
        let mut pace = settled(4, ms(50), serial(50));
        for _ in 0..200 {
            let at_once = pace.at_once();
            pace.signed_in(serial(400)(at_once), at_once == 1);
        }
        assert!(pace.at_once() <= 2, "{pace:?}");
        for _ in 0..200 {
            pace.signed_in(ms(10), pace.at_once() == 1);
        }
        assert_eq!(pace.at_once(), 4, "{pace:?}");
    }

    #[test]
    fn only_a_fast_token_is_given_calls_ahead() {
        for (call, expected) in [
            (Duration::from_micros(50), 8),
            (Duration::from_micros(900), 6),
            (ms(2), 4),
            (ms(3), 2),
            (ms(200), 2),
        ] {
            assert_eq!(pace(2, call).sent_max(), expected, "{call:?} for each");
        }
        assert_eq!(Pace::new(2).sent_max(), 2);
    }

    #[test]
    fn a_call_begins_so_early_that_it_can_be_answered() {
        let deadline = Moment::default().after(ms(5_000));
        let latest = |pace: Pace| pace.latest_begin(deadline).since(Moment::default());
        assert_eq!(latest(Pace::new(1)), ms(4_950));
        assert_eq!(latest(pace(1, ms(200))), ms(4_600));
        assert_eq!(latest(pace(1, ms(60_000))), Duration::ZERO);
    }
}

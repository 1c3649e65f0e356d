//! Whether the times in a journal run backwards. The order of records is that of their numbers, so it
//! is no defect. But someone set the clock back, or an older machine went on with the journal.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// So many are listed at most; the others are counted.
const LISTED_MAX: usize = 8;
/// Several threads read the clock, then line up: so the times of records that were made at once differ
/// by moments in either direction. Less than this says nothing about the clock.
const BACKWARDS_MIN: time::Duration = time::Duration::SECOND;

/// A record and the time in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// The record.
    pub seq: u64,
    /// When it was made, by the clock of its process.
    pub at: OffsetDateTime,
}

/// Records that are older than one before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backwards {
    /// The newest time before them.
    pub from: Timed,
    /// The oldest time among them.
    pub to: Timed,
}

/// Where times run backwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The first of them.
    pub listed: Vec<Backwards>,
    /// How many more there are.
    pub more: u64,
}

impl Timed {
    /// The record `seq`, whose body says `at`. None if that is no time.
    pub(super) fn parse(seq: u64, at: &str) -> Option<Self> {
        Some(Self { seq, at: OffsetDateTime::parse(at, &Rfc3339).ok()? })
    }
}

impl Backwards {
    /// By how much.
    #[must_use]
    pub fn by(&self) -> Duration {
        (self.from.at - self.to.at).unsigned_abs()
    }
}

/// Follows the times of records in their order.
#[derive(Debug, Default)]
pub(super) struct Follower {
    newest: Option<Timed>,
    /// Records older than `newest`, until one is not.
    now: Option<Backwards>,
    found: Clock,
}

impl Follower {
    /// Takes the next record.
    pub(super) fn take(&mut self, next: Timed) {
        let Some(newest) = self.newest else {
            self.newest = Some(next);
            return;
        };
        if newest.at - next.at < BACKWARDS_MIN {
            self.end();
            self.newest = Some(if next.at > newest.at { next } else { newest });
            return;
        }
        let to = self.now.map(|now| now.to).filter(|to| to.at <= next.at);
        self.now = Some(Backwards { from: newest, to: to.unwrap_or(next) });
    }

    /// What was found.
    pub(super) fn finish(mut self) -> Clock {
        self.end();
        self.found
    }

    fn end(&mut self) {
        let Some(now) = self.now.take() else { return };
        if self.found.listed.len() < LISTED_MAX {
            self.found.listed.push(now);
        } else {
            self.found.more += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(times: &[i64]) -> Clock {
        let mut follower = Follower::default();
        for (seq, at) in (1..).zip(times) {
            let at = OffsetDateTime::from_unix_timestamp(*at).unwrap();
            follower.take(Timed { seq, at });
        }
        follower.finish()
    }

    fn listed(times: &[i64]) -> Vec<(u64, u64, u64)> {
        let listed = found(times).listed;
        listed.iter().map(|one| (one.from.seq, one.to.seq, one.by().as_secs())).collect()
    }

    #[test]
    fn times_that_go_on_or_stand_still_are_nothing() {
        assert_eq!(found(&[]), Clock::default());
        assert_eq!(found(&[5, 5, 6, 900]), Clock::default());
    }

    #[test]
    fn each_time_the_clock_went_back_is_one_line_with_the_most_that_it_went_back() {
        // Record 2 is the newest before; record 4 the oldest behind it.
        assert_eq!(listed(&[10, 100, 40, 30, 60, 100, 101]), [(2, 4, 70)]);
        assert_eq!(listed(&[10, 8, 20, 15]), [(1, 2, 2), (3, 4, 5)]);
        // One that lasts to the end.
        assert_eq!(listed(&[100, 1, 2, 3]), [(1, 2, 99)]);
    }

    #[test]
    fn the_list_ends_and_the_rest_is_counted() {
        let times: Vec<i64> = (0..30).flat_map(|turn| [turn * 10 + 5, turn * 10]).collect();
        let clock = found(&times);
        assert_eq!((clock.listed.len(), clock.more), (LISTED_MAX, 30 - LISTED_MAX as u64));
    }

    #[test]
    fn moments_between_threads_are_not_the_clock() {
        let at = |micros: i64| OffsetDateTime::UNIX_EPOCH + time::Duration::microseconds(micros);
        let mut follower = Follower::default();
        for (seq, micros) in [(1, 2_000_000), (2, 1_000_001), (3, 2_000_001)] {
            follower.take(Timed { seq, at: at(micros) });
        }
        assert_eq!(follower.finish(), Clock::default());
    }
}

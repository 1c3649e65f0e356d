//! So many in any second, wherever the second begins: the times of the last ones are kept, and
//! one more is let in once the oldest of them is a second ago.

use std::collections::VecDeque;
use std::time::Duration;

use crate::moment::Moment;

const SECOND: Duration = Duration::from_secs(1);

/// The last ones that were let in, at most as many as may be.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    per_second: u32,
    /// Oldest first.
    let_in: VecDeque<Moment>,
}

impl Rate {
    pub(super) const fn new(per_second: u32) -> Self {
        Self { per_second, let_in: VecDeque::new() }
    }

    pub(super) const fn per_second(&self) -> u32 {
        self.per_second
    }

    /// Takes one place, if there is one.
    pub(super) fn take(&mut self, now: Moment) -> bool {
        // A clock that went back makes no room.
        let now = self.let_in.back().map_or(now, |last| now.max(*last));
        let most = usize::try_from(self.per_second).unwrap_or(usize::MAX);
        if self.let_in.len() >= most {
            match self.let_in.front() {
                Some(oldest) if now.since(*oldest) >= SECOND => self.let_in.pop_front(),
                _ => return false,
            };
        }
        self.let_in.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The oracle keeps everything and counts: as many as may be, and no fewer.
        #[test]
        fn i12_in_any_second_as_many_as_may_be_and_no_more(
            per_second in 1_u32..12, waits in prop::collection::vec(
                prop_oneof![4 => 0_u64..50_000_000, 1 => Just(0), 1 => 0_u64..1_100_000_000,
                            1 => Just(1_000_000_000)], 1..200),
        ) {
            let (mut rate, mut at, mut let_in) = (Rate::new(per_second), 7_u64, Vec::<u64>::new());
            for wait in waits {
                at += wait;
                let lately = let_in.iter().filter(|then| at - **then < 1_000_000_000).count();
                let may = lately < per_second as usize;
                prop_assert_eq!(rate.take(Moment::from_nanos(at)), may);
                let_in.extend(may.then_some(at));
                prop_assert!(rate.let_in.len() <= per_second as usize);
            }
        }
    }

    #[test]
    fn i12_a_clock_that_goes_back_makes_no_room() {
        let mut rate = Rate::new(1);
        assert!(rate.take(Moment::from_nanos(5_000_000_000)));
        assert!(!rate.take(Moment::from_nanos(1)));
        assert!(!rate.take(Moment::from_nanos(5_999_999_999)));
        assert!(rate.take(Moment::from_nanos(6_000_000_000)));
        assert!(!Rate::new(0).take(Moment::from_nanos(1)));
    }
}

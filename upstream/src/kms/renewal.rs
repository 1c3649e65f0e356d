//! When credentials are loaded: ahead of their end, and after KMS refused them; then at most once
//! in each step of a back-off, however many ask. Time is an argument.

use std::time::Duration;

use signing_core::Moment;

/// Between two loads: first so long, then twice as long each time.
const FIRST: Duration = Duration::from_millis(250);
/// At most so long.
const LONGEST: Duration = Duration::from_secs(30);
/// After so long without a load the next one begins the back-off anew.
const QUIET: Duration = Duration::from_secs(120);
/// What is so far from its end is renewed.
const AHEAD: Duration = Duration::from_secs(300);
/// What has no end is looked at again after so long, as the SDK does.
const ENDLESS: Duration = Duration::from_secs(900);

/// The loads of one chain.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    newest: Option<Moment>,
    not_before: Moment,
    steps: u32,
    under_way: bool,
}

impl Renewal {
    /// Whether a load begins at `now`; it is under way then. A file that has changed is worth a
    /// look at once, `FIRST` after the load before. `random` spreads the loads of many proxies.
    pub(super) fn begins(&mut self, now: Moment, has_changed: bool, random: u8) -> bool {
        if self.under_way || !self.due_in(now, has_changed).is_zero() {
            return false;
        }
        let since = self.newest.map(|newest| now.since(newest));
        if since.is_none_or(|since| since >= QUIET) {
            self.steps = 0;
        }
        let step = FIRST.saturating_mul(1 << self.steps.min(16)).min(LONGEST);
        self.not_before = now.after(spread(step, random));
        self.newest = Some(now);
        self.steps += 1;
        self.under_way = true;
        true
    }

    /// Whether the next load may begin so soon after `now` that one who asks may wait for it.
    pub(super) fn is_soon(&self, now: Moment, has_changed: bool) -> Option<Duration> {
        Some(self.due_in(now, has_changed)).filter(|wait| *wait <= FIRST)
    }

    fn due_in(&self, now: Moment, has_changed: bool) -> Duration {
        let by_step = self.not_before.since(now);
        match self.newest {
            Some(newest) if has_changed => newest.after(FIRST).since(now).min(by_step),
            Some(_) | None => by_step,
        }
    }

    /// The load that was under way is not any more.
    pub(super) fn ended(&mut self) {
        self.under_way = false;
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way
    }
}

/// After how long credentials are looked at again that end after `left`; None: never.
pub(super) fn look_again(left: Option<Duration>, random: u8) -> Duration {
    // In the second half of a short life: whoever renews them may do it late.
    let after = left.map_or(ENDLESS, |left| left.saturating_sub(AHEAD).max(left / 2));
    // Sooner rather than later.
    after - after / 1024 * u32::from(random) / 4
}

/// A quarter less to a quarter more.
fn spread(step: Duration, random: u8) -> Duration {
    step - step / 4 + step / 512 * u32::from(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    /// When loads begin if one is asked for every 10 ms and takes none.
    fn begun(renewal: &mut Renewal, millis: std::ops::Range<u64>, has_changed: bool) -> Vec<u64> {
        let asked = millis.step_by(10);
        let begun = asked.filter(|asked| {
            let begins = renewal.begins(at(*asked), has_changed, 128);
            renewal.ended();
            begins
        });
        begun.collect()
    }

    #[test]
    fn however_many_ask_the_loads_grow_rarer() {
        let mut renewal = Renewal::default();
        let begun = begun(&mut renewal, 0..200_000, false);
        assert_eq!(begun[..6], [0, 250, 750, 1750, 3750, 7750]);
        let pauses: Vec<_> = begun.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(pauses[7..].iter().all(|pause| (29_000..=31_000).contains(pause)), "{pauses:?}");
    }

    #[test]
    fn after_a_quiet_time_the_first_load_is_at_once_and_the_second_soon() {
        let mut renewal = Renewal::default();
        begun(&mut renewal, 0..60_000, false);
        let quiet = 60_000 + 160_000;
        assert_eq!(
            begun(&mut renewal, quiet..quiet + 800, false),
            [quiet, quiet + 250, quiet + 750]
        );
    }

    #[test]
    fn a_changed_file_is_looked_at_at_once_and_not_all_the_time() {
        let mut renewal = Renewal::default();
        let newest = *begun(&mut renewal, 0..60_000, false).last().unwrap();
        assert!(!renewal.begins(at(60_000), false, 128));
        assert!(renewal.begins(at(60_000), true, 128), "the newest was at {newest}");
        renewal.ended();
        let begun = begun(&mut renewal, 60_000..61_000, true);
        assert_eq!(begun, [60_250, 60_500, 60_750]);
    }

    #[test]
    fn whoever_asks_waits_for_a_load_that_begins_soon() {
        let mut renewal = Renewal::default();
        let soon = |renewal: &Renewal, millis, has_changed| {
            // The spread divides, so a step may be some nanoseconds short.
            renewal
                .is_soon(at(millis), has_changed)
                .map(|wait| wait.as_millis().next_multiple_of(10))
        };
        assert_eq!(soon(&renewal, 0, false), Some(0));
        assert!(renewal.begins(at(0), false, 128));
        renewal.ended();
        assert_eq!(soon(&renewal, 100, false), Some(150));
        assert!(renewal.begins(at(250), false, 128));
        renewal.ended();
        // A whole step is too long, and a file that has changed is looked at before.
        assert_eq!(soon(&renewal, 250, false), None);
        assert_eq!(soon(&renewal, 300, true), Some(200));
    }

    #[test]
    fn one_load_is_under_way_at_a_time() {
        let mut renewal = Renewal::default();
        assert!(renewal.begins(at(0), false, 0));
        assert!(renewal.is_under_way() && !renewal.begins(at(60_000), true, 0));
        renewal.ended();
        assert!(renewal.begins(at(60_000), true, 0));
    }

    #[test]
    fn credentials_are_renewed_ahead_of_their_end() {
        let seconds = Duration::from_secs;
        for (left, least, most) in [
            (Some(seconds(3600)), 2475, 3300),
            (Some(seconds(900)), 450, 600),
            (Some(seconds(60)), 22, 30),
            (Some(seconds(0)), 0, 0),
            (None, 675, 900),
        ] {
            for random in [0, 128, 255] {
                let after = look_again(left, random).as_secs();
                assert!((least..=most).contains(&after), "{left:?}: {after}");
            }
        }
    }
}

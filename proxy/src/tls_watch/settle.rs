//! When files that changed are read: once they have settled, again while they cannot be used, and when that is said.
//! Pure, with the time as an argument.

use std::time::Duration;

use signing_core::Moment;

/// How long files have to stay as they are before they are read: whoever writes them writes one after the other.
const SETTLE: Duration = Duration::from_secs(1);
/// How often files that cannot be used are read again: what is wrong may be outside of them, such as the clock.
const RETRY: Duration = Duration::from_secs(5);
/// How long files may be unusable before that is said: a certificate may be there before its key.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was seen of files that are not those in force.
#[derive(Debug)]
pub(super) struct Settling<S> {
    changed: Option<Changed<S>>,
}

#[derive(Debug)]
struct Changed<S> {
    /// Since when the files are not those in force.
    since: Moment,
    newest: S,
    /// Since when they look like this.
    newest_since: Moment,
    /// When they were read last, as they look now.
    tried: Option<Moment>,
}

/// What a look is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchStep {
    /// The files in force are there.
    InForce,
    /// Others are there, and may be changing still, or were read already.
    Wait,
    /// They are to be read.
    Read {
        /// They were read before, as they look now.
        again: bool,
    },
}

impl<S> Default for Settling<S> {
    fn default() -> Self {
        Self { changed: None }
    }
}

impl<S: PartialEq> Settling<S> {
    /// Takes in how the files look at `now`.
    pub(super) fn observe(&mut self, in_force: &S, found: S, now: Moment) -> WatchStep {
        if *in_force == found {
            self.changed = None;
            return WatchStep::InForce;
        }
        let Some(changed) = &mut self.changed else {
            self.changed =
                Some(Changed { since: now, newest: found, newest_since: now, tried: None });
            return WatchStep::Wait;
        };
        if changed.newest != found {
            (changed.newest, changed.newest_since, changed.tried) = (found, now, None);
        }
        let is_settled = now.since(changed.newest_since) >= SETTLE;
        let is_due = changed.tried.is_none_or(|tried| now.since(tried) >= RETRY);
        if !(is_settled && is_due) {
            return WatchStep::Wait;
        }
        let again = changed.tried.replace(now).is_some();
        WatchStep::Read { again }
    }

    /// The files could not be used, or it is not known how they look: whether that is to be said.
    pub(super) fn is_to_be_said(&self, now: Moment) -> bool {
        self.changed.as_ref().is_some_and(|changed| now.since(changed.since) >= PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos((1_000_000 + millis) * 1_000_000)
    }

    #[test]
    fn files_are_read_once_they_have_settled() {
        let mut settling = Settling::default();
        for (millis, found, next) in [
            (0, "old", WatchStep::InForce),
            (1_000, "cert", WatchStep::Wait),
            // The key came as well.
            (1_900, "cert and key", WatchStep::Wait),
            (2_800, "cert and key", WatchStep::Wait),
            (2_900, "cert and key", WatchStep::Read { again: false }),
            // Not at every look.
            (3_900, "cert and key", WatchStep::Wait),
        ] {
            assert_eq!(settling.observe(&"old", found, at(millis)), next, "{millis}");
        }
        assert_eq!(
            settling.observe(&"cert and key", "cert and key", at(4_000)),
            WatchStep::InForce
        );
        // What is put back in time is no change.
        assert_eq!(settling.observe(&"old", "other", at(5_000)), WatchStep::Wait);
        assert_eq!(settling.observe(&"old", "old", at(6_000)), WatchStep::InForce);
        assert_eq!(settling.observe(&"old", "other", at(7_000)), WatchStep::Wait);
    }

    #[test]
    fn files_that_cannot_be_used_are_read_again_and_said_after_a_while() {
        let mut settling = Settling::default();
        let mut reads = Vec::new();
        let mut said = None;
        for second in 0..30 {
            let now = at(second * 1_000);
            if let WatchStep::Read { again } = settling.observe(&"old", "bad", now) {
                assert_eq!(again, second > 1);
                reads.push(second);
            }
            if settling.is_to_be_said(now) {
                said.get_or_insert(second);
            }
        }
        assert_eq!(reads, [1, 6, 11, 16, 21, 26]);
        assert_eq!(said, Some(10));
        // Another change is read soon, and the silence is not that of a new change.
        assert_eq!(settling.observe(&"old", "worse", at(30_000)), WatchStep::Wait);
        assert_eq!(settling.observe(&"old", "worse", at(31_000)), WatchStep::Read { again: false });
        assert!(settling.is_to_be_said(at(31_000)));
        assert_eq!(settling.observe(&"old", "old", at(32_000)), WatchStep::InForce);
        assert!(!settling.is_to_be_said(at(32_000)));
    }
}

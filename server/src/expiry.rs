//! Until when a client is let in, by both clocks: a wall clock that is set back or a boot-time
//! clock that cannot be read prolongs nothing.

use std::time::Duration;

use signing_core::Moment;
use time::OffsetDateTime;

/// The end of the time for which a client was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    wall: OffsetDateTime,
    boot: Moment,
}

impl Expiry {
    /// At `until`, seen at `now`.
    pub(super) fn new(until: OffsetDateTime, now: Moment, wall_now: OffsetDateTime) -> Self {
        // What has ended leaves no time.
        let left = Duration::try_from(until - wall_now).unwrap_or_default();
        Self { wall: until, boot: now.after(left) }
    }

    pub(super) fn is_past(self, now: Moment, wall_now: OffsetDateTime) -> bool {
        self.boot <= now || self.wall <= wall_now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_by_the_clock_that_says_so_first() {
        let second = Duration::from_secs(1);
        let (now, wall) = (Moment::from_nanos(7), OffsetDateTime::UNIX_EPOCH);
        let expiry = Expiry::new(wall + second * 10, now, wall);
        assert!(!expiry.is_past(now.after(second * 9), wall + second * 9));
        // The wall clock was set back, then ahead.
        assert!(expiry.is_past(now.after(second * 10), wall - second * 99));
        assert!(expiry.is_past(now.after(second), wall + second * 10));
        assert!(Expiry::new(wall - second, now, wall).is_past(now, wall), "it had ended");
        assert!(expiry.is_past(Moment::END, wall), "a clock that cannot be read");
    }
}

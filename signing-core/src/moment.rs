//! A point in time as an argument.

use std::time::Duration;

/// A point on the boot-time clock: nanoseconds since the machine booted, time
/// asleep included (`CLOCK_BOOTTIME`, clock_gettime(2)), so that a lease never
/// outlives a suspend. It never goes back and has no calendar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The end of time: what a clock says that cannot be read. Every lease is over by then,
    /// and nothing else is known.
    pub const END: Self = Self(u64::MAX);

    /// The point `nanos` nanoseconds after boot.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This point plus `duration`; saturates at the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// How long ago `earlier` was; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

//! The only place that asks what time it is.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use signing_core::Moment;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Now, by the boot-time clock: time asleep counts, so leases and sessions end in a suspend.
///
/// If the clock cannot be read, it is the end of time: every lease and every session has expired.
#[must_use]
pub fn now() -> Moment {
    match clock_gettime(ClockId::CLOCK_BOOTTIME) {
        Ok(at) => {
            Moment::from_nanos(u64::try_from(Duration::from(at).as_nanos()).unwrap_or(u64::MAX))
        }
        Err(_) => Moment::END,
    }
}

/// Now, by the calendar, in UTC.
#[must_use]
pub fn wall_now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// RFC 3339 with milliseconds, in UTC: `2026-11-23T15:07:23.042Z`.
#[must_use]
pub fn rfc3339(at: OffsetDateTime) -> String {
    let millis = at.replace_millisecond(at.millisecond()).unwrap_or(at);
    // Only years beyond 9999 have no RFC 3339 form.
    millis.format(&Rfc3339).unwrap_or_else(|_| "9999-12-31T23:59:59Z".to_owned())
}

/// The same with milliseconds always, so that text order is time order: `2026-11-25T14:03:11.080Z`.
#[must_use]
pub fn rfc3339_millis(at: OffsetDateTime) -> String {
    let mut text = signing_core::journal::instant(at);
    // Three of its six digits.
    text.truncate(23);
    text.push('Z');
    text
}

/// RFC 3339 with seconds, in UTC: `2026-11-23T15:07:23Z`.
#[must_use]
pub fn rfc3339_seconds(at: OffsetDateTime) -> String {
    rfc3339(at.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_always_there() {
        for (nanos, text) in [
            (0, "2026-11-25T14:03:11.000Z"),
            (80_000_000, "2026-11-25T14:03:11.080Z"),
            (999_999_999, "2026-11-25T14:03:11.999Z"),
        ] {
            let at = OffsetDateTime::from_unix_timestamp(1_795_615_391).unwrap();
            assert_eq!(rfc3339_millis(at.replace_nanosecond(nanos).unwrap()), text);
        }
    }
}

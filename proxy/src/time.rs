//! The only place that asks what time it is.

use std::cell::RefCell;
use std::time::Duration;

use http::HeaderValue;
use nix::time::{ClockId, clock_gettime};
use signing_core::Moment;
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

/// Now, by the boot-time clock: time asleep counts, so leases end in a suspend.
///
/// If the clock cannot be read, it is the end of time: every lease is over.
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
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
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

/// The `Date` of an answer (RFC 9110 5.6.7); None if the calendar stands before 1900.
#[must_use]
pub fn http_date() -> Option<HeaderValue> {
    thread_local! {
        /// Written once a second on each thread.
        static WRITTEN: RefCell<(i64, Option<HeaderValue>)> = const { RefCell::new((i64::MIN, None)) };
    }
    let now = wall_now();
    WRITTEN.with_borrow_mut(|(at, written)| {
        if *at != now.unix_timestamp() {
            *at = now.unix_timestamp();
            *written = date_at(now);
        }
        written.clone()
    })
}

fn date_at(at: OffsetDateTime) -> Option<HeaderValue> {
    // The same form as in mail, but for the zone.
    let text = at.format(&Rfc2822).ok()?;
    HeaderValue::from_str(&format!("{}GMT", text.strip_suffix("+0000")?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_http_has_it() {
        let at = OffsetDateTime::from_unix_timestamp(784_111_777).unwrap();
        assert_eq!(date_at(at).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(http_date().is_some());
    }
}

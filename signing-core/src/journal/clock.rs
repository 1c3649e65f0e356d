//! A clock that is behind the records it wrote: what expired would be valid again by it.

use time::{Duration, OffsetDateTime};

/// How far behind a clock may be: it is set back a little now and then.
const BEHIND_MAX: Duration = Duration::MINUTE;

/// By how many seconds a clock that shows `now` is behind `latest`, the time of a record; None if it
/// is not, or by a minute at most.
#[must_use]
pub fn clock_behind(now: OffsetDateTime, latest: OffsetDateTime) -> Option<i64> {
    let behind = latest - now;
    (behind > BEHIND_MAX).then(|| behind.whole_seconds())
}

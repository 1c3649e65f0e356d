//! The `Date` of an answer.

use std::cell::RefCell;

use host::clock::wall_now;
use http::HeaderValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// The `Date` of an answer (RFC 9110 5.6.7); None if the calendar stands before 1900.
#[must_use]
pub(super) fn http_date() -> Option<HeaderValue> {
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

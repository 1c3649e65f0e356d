//! An instant, as sentences show it.

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// RFC 3339 in UTC, as exact as the instant is: `2026-11-23T15:07:23Z`.
pub(crate) fn shown(at: OffsetDateTime) -> String {
    let utc = at.checked_to_offset(UtcOffset::UTC).unwrap_or(at);
    // Only years beyond 9999 have no RFC 3339 form.
    utc.format(&Rfc3339).unwrap_or_else(|_| utc.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instant_is_shown_in_utc() {
        for (text, expected) in [
            ("2027-01-31T01:00:00+01:00", "2027-01-31T00:00:00Z"),
            ("2027-01-31T00:00:00.5Z", "2027-01-31T00:00:00.5Z"),
        ] {
            let at = OffsetDateTime::parse(text, &Rfc3339).unwrap();
            assert_eq!(shown(at), expected);
        }
    }
}

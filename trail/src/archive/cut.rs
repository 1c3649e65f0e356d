//! Where an object ends: pure decisions about writes of a journal. Time is an argument.
//!
//! Two runs of the trail, one of which was killed while its object was on the way, have to come to the same end.
//! So it follows from the records: from their number, their bytes and the times in them. The clock says only
//! when nothing more can come.

use std::time::Duration;

use time::OffsetDateTime;

/// How much time passes after the last moment of an object before it ends: by then every record of that moment is
/// in the journal.
const GRACE: Duration = Duration::from_secs(1);

/// How large an object may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records. A write is never divided.
    pub records: usize,
    /// Bytes.
    pub bytes: usize,
    /// The time from its first record to its last.
    pub span: Duration,
}

/// Records, as far as their sum decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// When the first of them was written.
    pub at: OffsetDateTime,
    /// The number of records.
    pub records: usize,
    /// Their bytes, as lines.
    pub bytes: usize,
}

impl Sum {
    /// Whether the write `next` belongs into the same object.
    #[must_use]
    pub fn joins(&self, next: &Self, limits: &Limits) -> bool {
        next.at < self.at + limits.span
            && self.records.saturating_add(next.records) <= limits.records
            && self.bytes.saturating_add(next.bytes) <= limits.bytes
    }

    /// Whether the object ends although no other write came: its time has passed, by the calendar or, where the
    /// calendar was set back, by how long it was `held`.
    #[must_use]
    pub fn is_due(&self, now: OffsetDateTime, held: Duration, limits: &Limits) -> bool {
        let span = limits.span + GRACE;
        now >= self.at + span || held >= span
    }

    /// Both together.
    #[must_use]
    pub fn and(self, next: &Self) -> Self {
        Self { records: self.records + next.records, bytes: self.bytes + next.bytes, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { records: 10, bytes: 100, span: Duration::from_secs(30) };

    fn sum(second: i64, records: usize, bytes: usize) -> Sum {
        Sum { at: OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second), records, bytes }
    }

    #[test]
    fn a_write_joins_while_it_fits_by_number_bytes_and_time() {
        for (open, next, expected) in [
            (sum(100, 1, 10), sum(100, 1, 10), true),
            (sum(100, 1, 10), sum(129, 9, 90), true),
            (sum(100, 1, 10), sum(130, 1, 10), false),
            (sum(100, 1, 10), sum(129, 10, 10), false),
            (sum(100, 1, 10), sum(129, 1, 91), false),
            // The clock was set back: the order of records is that of their numbers.
            (sum(100, 1, 10), sum(5, 1, 10), true),
        ] {
            assert_eq!(open.joins(&next, &LIMITS), expected, "{open:?} {next:?}");
        }
    }

    #[test]
    fn an_object_ends_by_the_calendar_or_by_how_long_it_was_held() {
        let open = sum(100, 1, 10);
        let (now, held) = (|second| sum(second, 0, 0).at, Duration::from_secs);
        assert!(!open.is_due(now(130), held(30), &LIMITS));
        assert!(open.is_due(now(131), held(0), &LIMITS));
        assert!(open.is_due(now(0), held(31), &LIMITS));
    }

    #[test]
    fn where_objects_end_does_not_depend_on_when_they_are_read() {
        // Whatever was read at once: the same writes give the same objects.
        let writes: Vec<_> = (0..200).map(|n| sum(n * n % 97 + n, 1, 7)).collect();
        let cut = |begin: usize| {
            let mut ends = Vec::new();
            let mut open: Option<Sum> = None;
            for (n, next) in writes.iter().enumerate().skip(begin) {
                open = Some(match open {
                    Some(open) if open.joins(next, &LIMITS) => open.and(next),
                    Some(_) => {
                        ends.push(n);
                        *next
                    }
                    None => *next,
                });
            }
            ends
        };
        let ends = cut(0);
        assert!(ends.len() > 20);
        for (n, end) in ends.iter().enumerate() {
            assert_eq!(cut(*end), ends[n + 1..], "from {end}");
        }
    }
}

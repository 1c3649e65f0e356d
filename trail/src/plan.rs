//! What is due: pure decisions about positions. Time is an argument.

use std::time::Duration;

use signing_core::Moment;
use signing_core::tree::TreeHash;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Rows that cover records come at most so often.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// How far a journal is in a sink. The sink itself keeps it, in the transaction of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The newest record that was shipped. A checkpoint of the journal has this size.
    pub shipped: u64,
    /// That checkpoint's root.
    pub root: TreeHash,
    /// The newest record that a checkpoint row covers.
    pub covered: u64,
    /// Records that were gone before they were shipped.
    pub missing: u64,
}

impl Position {
    /// Before the first record.
    #[must_use]
    pub fn begin() -> Self {
        Self { shipped: 0, root: TreeHash::empty(), covered: 0, missing: 0 }
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// The position alone: somebody waits for it, and no row is due.
    Position,
    /// Rows of records alone.
    Rows,
    /// Rows of records, if any, and a row that covers all up to them.
    RowsAndCheckpoint,
}

/// What is due of a journal of which everything up to `available` may be shipped. `is_required`: whether somebody waits
/// for it.
#[must_use]
pub fn due(
    position: Position,
    available: u64,
    has_rows: bool,
    last_checkpoint: Option<Moment>,
    (now, is_required): (Moment, bool),
) -> Due {
    if available <= position.covered {
        return Due::Nothing;
    }
    let is_time = last_checkpoint.is_none_or(|last| now.since(last) >= CHECKPOINT_EVERY);
    match (is_time, has_rows) {
        (true, _) => Due::RowsAndCheckpoint,
        (false, true) => Due::Rows,
        (false, false) if is_required && available > position.shipped => Due::Position,
        (false, false) => Due::Nothing,
    }
}

/// Records that are gone: those behind `position` that are before the oldest one here.
#[must_use]
pub fn gap(position: Position, oldest: u64) -> Option<(u64, u64)> {
    let first = position.shipped + 1;
    (first < oldest).then(|| (first, oldest - 1))
}

/// How long ago a record was written, in seconds.
#[must_use]
pub fn age(at: &str, now: OffsetDateTime) -> f64 {
    let at = OffsetDateTime::parse(at, &Rfc3339);
    at.map_or(0.0, |at| (now - at).as_seconds_f64().max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(shipped: u64, covered: u64) -> Position {
        Position { shipped, covered, ..Position::begin() }
    }

    fn second(at: u64) -> Moment {
        Moment::from_nanos(at * 1_000_000_000)
    }

    #[test]
    fn a_checkpoint_row_is_due_once_a_second_and_other_rows_at_once() {
        let last = Some(second(10));
        assert_eq!(due(position(5, 5), 5, false, None, (second(99), false)), Due::Nothing);
        assert_eq!(due(position(5, 5), 9, false, last, (second(10), false)), Due::Nothing);
        assert_eq!(due(position(5, 5), 9, true, last, (second(10), false)), Due::Rows);
        assert_eq!(due(position(9, 5), 9, false, last, (second(10), false)), Due::Nothing);
        assert_eq!(
            due(position(9, 5), 9, false, last, (second(11), false)),
            Due::RowsAndCheckpoint
        );
        assert_eq!(due(position(0, 0), 1, true, None, (second(0), false)), Due::RowsAndCheckpoint);
    }

    #[test]
    fn whoever_waits_for_a_commit_does_not_wait_for_the_next_row() {
        let last = Some(second(10));
        for (at, has_rows, expected) in [
            (second(10), false, Due::Position),
            (second(10), true, Due::Rows),
            (second(11), false, Due::RowsAndCheckpoint),
        ] {
            assert_eq!(due(position(5, 5), 9, has_rows, last, (at, true)), expected);
        }
        assert_eq!(due(position(9, 5), 9, false, last, (second(10), true)), Due::Nothing);
        assert_eq!(due(position(9, 9), 9, false, last, (second(99), true)), Due::Nothing);
    }

    #[test]
    fn records_before_the_oldest_segment_that_were_not_shipped_are_a_gap() {
        assert_eq!(gap(position(0, 0), 1), None);
        assert_eq!(gap(position(9, 9), 10), None);
        assert_eq!(gap(position(9, 9), 11), Some((10, 10)));
        assert_eq!(gap(position(0, 0), 101), Some((1, 100)));
        assert_eq!(gap(position(500, 500), 101), None);
    }
}

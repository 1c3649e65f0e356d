//! Log lines that a peer can cause are bounded: at most one a second of a kind,
//! which says how many were left out.

use std::sync::Mutex;
use std::time::Duration;

use signing_core::Moment;

/// Lets one line a second through.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    newest: Option<Moment>,
    left_out: u64,
}

impl LogLimit {
    /// Whether a line may be written at `now`: then how many were left out
    /// since the one before.
    pub fn pass(&self, now: Moment) -> Option<u64> {
        // A panic under this lock can leave nothing half-done.
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.newest.is_some_and(|newest| now.since(newest) < Duration::from_secs(1)) {
            state.left_out = state.left_out.saturating_add(1);
            return None;
        }
        state.newest = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_one_line_a_second_and_counts_the_rest() {
        let limit = LogLimit::default();
        let start = Moment::from_nanos(1);
        assert_eq!(limit.pass(start), Some(0));
        assert!((0..500).all(|_| limit.pass(start).is_none()));
        assert_eq!(limit.pass(start.after(Duration::from_secs(1))), Some(500));
    }
}

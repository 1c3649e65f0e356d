//! Through which doors requests to sign came.

use metrics::Counter;
use signing_core::Door;

use super::Make;
use super::names::DOOR_REQUESTS;

/// A counter for each door and result.
pub(super) struct DoorMetrics(Vec<(Door, &'static str, Counter)>);

impl DoorMetrics {
    pub(super) fn new(make: &Make<'_>) -> Self {
        let results = ["signed", "refused", "error"];
        let of_door = |door: Door| results.map(|result| (door, result));
        let counter = |(door, result): (Door, &'static str)| {
            let labels = [("door", door.word()), ("result", result)];
            (door, result, make.counter(DOOR_REQUESTS, &labels))
        };
        Self(Door::ALL.into_iter().flat_map(of_door).map(counter).collect())
    }

    /// Counts a request to sign.
    pub(super) fn request(&self, door: Door, result: &str) {
        let found = self.0.iter().find(|(its, word, _)| *its == door && *word == result);
        if let Some((_, _, counter)) = found {
            counter.increment(1);
        }
    }
}

//! When whoever follows a journal looks through the unused rest of its newest segment, for what does not belong there:
//! not with each look for more, since the rest is set aside whole.

use std::time::Duration;

use audit::walk::Walk;
use host::clock::now;
use signing_core::Moment;

/// How often the rest of the newest segment is read.
const LOOK_THROUGH_EVERY: Duration = Duration::from_secs(10);

/// When that was last done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends(Option<Moment>);

impl Ends {
    /// Before a journal is read on.
    pub(crate) fn begin(self, walk: &mut Walk) {
        walk.trust_rest(self.is_recent());
    }

    /// Its end was found.
    pub(crate) fn found(&mut self, walk: &mut Walk) {
        if !self.is_recent() {
            self.0 = Some(now());
            walk.trust_rest(true);
        }
    }

    /// Whether it was done a short while ago.
    pub(crate) fn is_recent(self) -> bool {
        self.0.is_some_and(|at| now().since(at) < LOOK_THROUGH_EVERY)
    }
}

//! What is counted and recorded together now and then: refusals, and calls that no caller asked
//! for.

use std::sync::Arc;
use std::time::Duration;

use audit::Journal;
use host::clock::now;
use release::Probes;

use crate::server::refusals::Refusals;

/// How often it is recorded, if there is anything.
const RECORD_EVERY: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(super) struct Recorder {
    pub(super) refusals: Arc<Refusals>,
    pub(super) probes: Probes,
    pub(super) journal: Journal,
}

impl Recorder {
    /// Records what was counted. What the journal does not take is counted on.
    pub(super) fn record(&self) {
        self.refusals.record(&self.journal);
        self.probes.record(&self.journal, now());
    }

    /// Does so now and then, for ever.
    pub(super) async fn record_for_ever(&self) {
        loop {
            tokio::time::sleep(RECORD_EVERY).await;
            self.record();
        }
    }
}

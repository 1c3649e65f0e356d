//! What is counted and recorded together now and then: refusals, and calls that no caller asked
//! for.

use std::sync::Arc;
use std::time::Duration;

use audit::Journal;
use host::clock::now;
use release::Probes;
use server::refusals::Refusals;

use crate::handles::Handles;

/// How often it is recorded, if there is anything.
const RECORD_EVERY: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(super) struct Recorder {
    refusals: Arc<Refusals>,
    probes: Probes,
    journal: Journal,
}

impl Recorder {
    pub(super) fn new(handles: &Handles, refusals: Arc<Refusals>, probes: Probes) -> Self {
        Self { refusals, probes, journal: handles.journal.clone() }
    }

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

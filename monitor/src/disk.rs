//! What the writer has brought to disk: saves and records, each of which it hears of
//! later, as a command to itself.

use std::future::Future;
use std::time::Duration;

use audit::{Journal, JournalError};
use host::clock::{now, wall_now};
use signing_core::gate::AuditStop;
use signing_core::journal::{Record, SealedFor};
use tokio::sync::{mpsc, oneshot};

use super::command::{AfterSave, Command, Loosen, Outcome};
use super::store::{Saver, Stored, Witness};

/// How long an operator's command may wait for its record.
const RECORD_MAX: Duration = Duration::from_secs(5);

/// The disk, as far as the writer has to do with it.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) saver: Saver,
    pub(super) journal: Journal,
    pub(super) to_writer: mpsc::Sender<Command>,
}

impl Disk {
    /// Has `state` stored; `then` happens once that is known.
    pub(super) fn save(&self, state: Stored, then: AfterSave) {
        let saved = self.saver.save(state);
        self.later(async move {
            let result = saved.await.unwrap_or_else(|_| Err("the store is gone".into()));
            Command::Stored { result, then }
        });
    }

    /// Has `state` stored, and waits for a record that is on its way to disk too: `reply` hears of both.
    pub(super) fn save_recorded(
        &self,
        state: Stored,
        recording: impl Future<Output = Result<(), String>> + Send + 'static,
        reply: oneshot::Sender<Outcome>,
    ) {
        let saved = self.saver.save(state);
        self.later(async move {
            let unrecorded = recording.await.err();
            let result = saved.await.unwrap_or_else(|_| Err("the store is gone".into()));
            Command::Stored { result, then: AfterSave::Frozen { unrecorded, reply } }
        });
    }

    /// Has `record` brought to disk. It has its place in the journal when this returns.
    pub(super) fn record(
        &self,
        record: &Record<'_>,
    ) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let appending = self.journal.begin_append(record);
        async move {
            let told = |error: JournalError| error.to_string();
            let appending = appending.map_err(told)?;
            match tokio::time::timeout(RECORD_MAX, appending.durable()).await {
                Ok(durable) => durable.map(|_| ()).map_err(told),
                Err(_) => Err(format!("the disk did not answer in {} s", RECORD_MAX.as_secs())),
            }
        }
    }

    /// Tells the writer when a record is on disk.
    pub(super) fn then_loosen(
        &self,
        recording: impl Future<Output = Result<(), String>> + Send + 'static,
        loosen: Loosen,
    ) {
        self.later(async move { Command::Recorded { result: recording.await, loosen } });
    }

    fn later(&self, command: impl Future<Output = Command> + Send + 'static) {
        let to_writer = self.to_writer.clone();
        tokio::spawn(async move {
            // If the writer is gone, so are all leases.
            let _ = to_writer.send(command.await).await;
        });
    }
}

/// How much of the journal is on disk.
pub(super) fn witness(journal: &Journal) -> Witness {
    Witness { log: journal.log(), head: journal.head() }
}

/// What keeps the journal from recording now: a seal that is stored, or its trouble.
pub(super) fn audit_stop(journal: &Journal, seal: Option<&SealedFor>) -> Option<AuditStop> {
    if let Some(seal) = seal {
        let age = (wall_now() - seal.at).unsigned_abs();
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let since = signing_core::Moment::from_nanos(now().as_nanos().saturating_sub(age));
        return Some(AuditStop { sealed: true, detail: seal.detail.clone(), since });
    }
    let error = journal.error()?;
    let (sealed, detail) = (matches!(error, JournalError::Sealed(_)), error.to_string());
    Some(AuditStop { sealed, detail, since: now() })
}

/// Whoever asked may have hung up; the command holds all the same.
pub(super) fn tell<T>(reply: oneshot::Sender<T>, outcome: T) {
    let _ = reply.send(outcome);
}

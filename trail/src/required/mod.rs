//! A sink that is required: the proxy on this machine releases nothing until it hears here that the database has
//! committed the record. What is said here is only what the loop that ships has seen committed.

mod listening;
mod serve;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signing_core::journal::Head;
use signing_core::tree::{Checkpoint, LogId, SignedCheckpoint, TreeHash};
use tokio::sync::{Notify, watch};

use crate::source::{Said, WRITES_MAX};

pub(crate) use serve::Doors;

/// Heads of one log that are remembered as committed: more than a batch may have, or what a proxy told before could be
/// forgotten with the very batch that commits it.
const COMMITTED_MAX: usize = 2 * WRITES_MAX;

/// Shared between the loop that ships and the connections of proxies. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Required(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    logs: Mutex<BTreeMap<LogId, Log>>,
    /// Told when a proxy says something more.
    wanted: Notify,
    sink: watch::Sender<SinkState>,
}

#[derive(Debug, Default)]
struct Log {
    /// What a proxy said of it.
    said: Said,
    /// The newest heads of the journal that the sink holds, by size.
    committed: BTreeMap<u64, TreeHash>,
}

/// How the sink is, for connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SinkState {
    /// Whether it is reached.
    is_up: bool,
    /// Another one whenever what was said to be committed counts no more.
    generation: u64,
    /// Another one whenever more is committed.
    committed: u64,
    /// Another one whenever the sink has answered.
    answered: u64,
}

impl Required {
    pub(crate) fn new() -> Self {
        let (sink, _) = watch::channel(SinkState::default());
        Self(Arc::new(Shared { logs: Mutex::default(), wanted: Notify::new(), sink }))
    }

    /// The sink is reached, and nothing is known of what it holds.
    pub(crate) fn sink_is_up(&self) {
        self.0.sink.send_modify(|state| state.is_up = true);
    }

    /// The sink is lost, or holds less than it did: whoever was told something has to ask again.
    pub(crate) fn withdraw(&self, is_up: bool) {
        for log in self.logs().values_mut() {
            log.committed.clear();
        }
        self.0.sink.send_modify(|state| {
            state.is_up = is_up;
            state.generation += 1;
        });
    }

    /// The sink has just answered.
    pub(crate) fn sink_answered(&self) {
        self.0.sink.send_modify(|state| state.answered += 1);
    }

    /// Waits until a proxy says something more.
    pub(crate) async fn wanted(&self) {
        self.0.wanted.notified().await;
    }

    /// What a proxy said of a journal.
    pub(crate) fn said(&self, log: LogId) -> Said {
        self.logs().get(&log).map(|log| log.said.clone()).unwrap_or_default()
    }

    /// These heads are committed, in their order.
    pub(crate) fn committed(&self, log: LogId, heads: impl Iterator<Item = Head>) {
        let mut logs = self.logs();
        let committed = &mut logs.entry(log).or_default().committed;
        let newest =
            |of: &BTreeMap<u64, TreeHash>| of.last_key_value().map(|(size, root)| (*size, *root));
        let before = newest(committed);
        for head in heads {
            if committed.len() >= COMMITTED_MAX {
                committed.pop_first();
            }
            committed.insert(head.size, head.root);
        }
        let has_grown = newest(committed) != before;
        drop(logs);
        if has_grown {
            self.0.sink.send_modify(|state| state.committed += 1);
        }
    }

    /// A proxy says that everything up to `verified` is on disk.
    fn told(&self, verified: SignedCheckpoint) {
        self.tell(verified, |said| &mut said.on_disk);
    }

    /// A proxy says that everything up to `verified` is written.
    fn written(&self, verified: SignedCheckpoint) {
        self.tell(verified, |said| &mut said.written);
    }

    fn tell(
        &self,
        verified: SignedCheckpoint,
        what: fn(&mut Said) -> &mut Option<SignedCheckpoint>,
    ) {
        let mut logs = self.logs();
        let Checkpoint { log, size, .. } = *verified.checkpoint();
        // Whose checkpoint verified is one of the journals': there are few.
        let known = what(&mut logs.entry(log).or_default().said);
        if known.as_ref().is_none_or(|newest| newest.checkpoint().size < size) {
            *known = Some(verified);
        }
        drop(logs);
        self.0.wanted.notify_one();
    }

    fn holds(&self, log: LogId, head: Head) -> bool {
        let logs = self.logs();
        let held = logs.get(&log).and_then(|log| log.committed.get(&head.size));
        held.is_some_and(|root| *root == head.root)
    }

    /// Whether `head` is older than all that is remembered: nobody can say any more whether it was committed.
    fn has_forgotten(&self, log: LogId, head: Head) -> bool {
        let logs = self.logs();
        let oldest = logs.get(&log).and_then(|log| log.committed.first_key_value());
        oldest.is_some_and(|(oldest, _)| head.size < *oldest)
    }

    /// The newest of `pending` that is forgotten, taken out with all before it; sizes grow.
    fn take_forgotten(&self, log: LogId, pending: &mut VecDeque<Head>) -> Option<Head> {
        let newest = pending.iter().rposition(|head| self.has_forgotten(log, *head))?;
        pending.drain(..=newest).next_back()
    }

    fn logs(&self) -> MutexGuard<'_, BTreeMap<LogId, Log>> {
        self.0.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId::new([1; 16]);

    fn head(size: u64) -> Head {
        Head { size, root: TreeHash::leaf(&size.to_be_bytes()) }
    }

    #[test]
    fn what_is_committed_is_held_until_the_sink_goes_back() {
        let required = Required::new();
        assert!(!required.holds(LOG, head(1)));
        required.committed(LOG, [head(1), head(5)].into_iter());
        assert!(required.holds(LOG, head(1)) && required.holds(LOG, head(5)));
        assert!(!required.holds(LOG, head(2)) && !required.holds(LogId::new([2; 16]), head(1)));
        assert!(!required.holds(LOG, Head { root: TreeHash::empty(), ..head(5) }));
        required.withdraw(true);
        assert!(!required.holds(LOG, head(5)));
    }

    #[test]
    fn what_a_proxy_says_never_goes_back() {
        let required = Required::new();
        let unsigned = |size| Checkpoint { log: LOG, size, root: TreeHash::empty() }.sign(&[]);
        assert_eq!(required.said(LOG), Said::default());
        required.written(unsigned(7));
        required.told(unsigned(5));
        required.told(unsigned(4));
        required.written(unsigned(6));
        let said = Said { on_disk: Some(unsigned(5)), written: Some(unsigned(7)) };
        assert_eq!(required.said(LOG), said);
    }

    #[test]
    fn so_many_heads_are_remembered() {
        let required = Required::new();
        let last = COMMITTED_MAX as u64 + 1;
        required.committed(LOG, (1..=last).map(head));
        assert!(!required.holds(LOG, head(1)) && required.holds(LOG, head(2)));
        assert!(required.holds(LOG, head(last)));
        // Who waits for the one that is forgotten is told so.
        assert!(required.has_forgotten(LOG, head(1)) && !required.has_forgotten(LOG, head(2)));
    }

    #[test]
    fn what_is_forgotten_waits_no_more_and_what_may_come_waits_on() {
        let required = Required::new();
        let mut pending: VecDeque<Head> = [1, 2, 9].map(head).into();
        // Nothing is known yet.
        assert_eq!(required.take_forgotten(LOG, &mut pending), None);
        // After a restart: the segment that holds the position begins after record 4.
        required.committed(LOG, [head(4), head(6)].into_iter());
        assert_eq!(required.take_forgotten(LOG, &mut pending), Some(head(2)));
        assert_eq!(pending, [head(9)]);
        assert_eq!(required.take_forgotten(LOG, &mut pending), None);
        // The end of the segment before is remembered.
        assert!(required.holds(LOG, head(4)) && !required.has_forgotten(LOG, head(4)));
    }
}

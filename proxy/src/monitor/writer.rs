//! The one writer of the gates: it alone changes them, stores what has to
//! survive, and publishes snapshots.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use signing_core::Kid;
use signing_core::gate::{Freeze, Gates, Observation, Snapshot, State, Transition};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::evidence::TrafficEvidence;
use super::store::{Store, StoredFreeze, StoredSeal};
use crate::metrics::Metrics;
use crate::time::{now, wall_now};

/// How often successes of traffic are folded in and leases are looked at.
const FOLD_EVERY: Duration = Duration::from_millis(100);

/// What the writer may be told.
#[derive(Debug)]
pub(super) enum Command {
    /// A probe's result.
    Observe { kid: Kid, observation: Observation },
    /// An operator's stop.
    Freeze { reason: String, by: String, reply: oneshot::Sender<Outcome> },
    /// Its end.
    Unfreeze { by: String, reply: oneshot::Sender<Outcome> },
    /// The end of a seal.
    Unseal { kid: Kid, reason: String, by: String, reply: oneshot::Sender<Outcome> },
}

/// What became of an operator's command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In force, and on disk.
    Done,
    /// There was nothing to do; the sentence says why.
    Nothing(String),
    /// In force now, but it would not survive a restart; the sentence says why.
    NotStored(String),
    /// Not in force; the sentence says why.
    Failed(String),
}

#[derive(Debug)]
pub(super) struct Writer {
    gates: Gates,
    published: Arc<ArcSwap<Snapshot>>,
    evidence: Arc<TrafficEvidence>,
    inbox: mpsc::Receiver<Command>,
    change: watch::Sender<()>,
    store: Store,
    metrics: Arc<Metrics>,
    /// Seals in force that are not on disk yet, since storing them failed.
    unstored: Vec<(Kid, StoredSeal)>,
}

impl Writer {
    pub(super) fn new(
        gates: Gates,
        published: Arc<ArcSwap<Snapshot>>,
        evidence: Arc<TrafficEvidence>,
        inbox: mpsc::Receiver<Command>,
        change: watch::Sender<()>,
        store: Store,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { gates, published, evidence, inbox, change, store, metrics, unstored: Vec::new() }
    }

    /// Runs until the process ends. If it dies, leases end (I2).
    pub(super) async fn run(mut self) {
        let mut fold = tokio::time::interval(FOLD_EVERY);
        fold.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let evidence = Arc::clone(&self.evidence);
        loop {
            tokio::select! {
                biased;
                command = self.inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                () = evidence.failed() => self.fold(),
                _ = fold.tick() => {
                    self.fold();
                    self.store_what_failed();
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        // Whoever asked may have hung up; the command holds all the same.
        match command {
            Command::Observe { kid, observation } => {
                let transition = self.gates.observe(&kid, &observation);
                self.publish(transition);
            }
            Command::Freeze { reason, by, reply } => {
                let _ = reply.send(self.freeze(reason, by));
            }
            Command::Unfreeze { by, reply } => {
                let _ = reply.send(self.unfreeze(&by));
            }
            Command::Unseal { kid, reason, by, reply } => {
                let _ = reply.send(self.unseal(&kid, &reason, &by));
            }
        }
    }

    fn fold(&mut self) {
        let now = now();
        let mut transitions = Vec::new();
        for (kid, observation) in self.evidence.take(now) {
            transitions.extend(self.gates.observe(&kid, &observation));
        }
        transitions.extend(self.gates.tick(now));
        self.publish(transitions);
    }

    /// In force first, on disk second: a freeze never waits for a disk.
    fn freeze(&mut self, reason: String, by: String) -> Outcome {
        let at = wall_now();
        self.gates.freeze(Freeze { reason: reason.clone(), by: by.clone(), at, since: now() });
        self.publish(None);
        tracing::warn!(target: "admin", reason, by, "frozen");
        match self.store.set_freeze(Some(StoredFreeze { reason, by, at })) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::NotStored(error.to_string()),
        }
    }

    /// On disk first, in force second: what a restart would bring back has not ended.
    fn unfreeze(&mut self, by: &str) -> Outcome {
        let Some(freeze) = self.gates.freeze_in_force().cloned() else {
            return Outcome::Nothing("no freeze is in force".into());
        };
        if let Err(error) = self.store.set_freeze(None) {
            return Outcome::Failed(error.to_string());
        }
        self.gates.unfreeze();
        self.publish(None);
        tracing::warn!(target: "admin", reason = freeze.reason, frozen_by = freeze.by, by, "unfrozen");
        Outcome::Done
    }

    /// On disk first, in force second, as with a freeze.
    fn unseal(&mut self, kid: &Kid, reason: &str, by: &str) -> Outcome {
        let Some(State::Sealed { detail, .. }) = self.gates.state(kid).cloned() else {
            return Outcome::Nothing(format!("the signer {kid} is not sealed"));
        };
        if let Err(error) = self.store.set_seal(kid, None) {
            return Outcome::Failed(error.to_string());
        }
        self.unstored.retain(|(unstored, _)| unstored != kid);
        let transition = self.gates.unseal(kid, now());
        self.publish(transition);
        tracing::warn!(target: "admin", signer_kid = %kid, sealed_for = detail, reason, by, "unsealed");
        Outcome::Done
    }

    /// Publishes the gates as they are, then tells and stores what changed.
    fn publish(&mut self, transitions: impl IntoIterator<Item = Transition>) {
        // A seal is in force from this line on; dying here forgets it only if its
        // cause never shows again, since the next canary finds it too.
        self.published.store(Arc::new(self.gates.snapshot()));
        self.metrics.gates(&self.published.load());
        for transition in transitions {
            let Transition { kid, from, to } = &transition;
            self.metrics.transition(kid, from, to);
            log(kid, from, to);
            if let State::Sealed { detail, .. } = to {
                self.unstored
                    .push((kid.clone(), StoredSeal { detail: detail.clone(), at: wall_now() }));
            }
            self.change.send_replace(());
        }
        self.store_what_failed();
    }

    /// Stores seals that are not on disk yet; tries again at the next fold.
    fn store_what_failed(&mut self) {
        while let Some((kid, seal)) = self.unstored.pop() {
            if let Err(error) = self.store.set_seal(&kid, Some(seal.clone())) {
                tracing::error!(signer_kid = %kid, %error, "a seal is in force but not stored");
                self.unstored.push((kid, seal));
                return;
            }
        }
    }
}

fn log(kid: &Kid, from: &State, to: &State) {
    let detail = match to {
        State::Shut { cause, .. } | State::Probing { cause, .. } => format!("{cause:?}"),
        State::Sealed { detail, .. } => detail.clone(),
        State::Open { .. } => String::new(),
    };
    let (from, to) = (from.word(), to.word());
    if to == "sealed" {
        tracing::error!(target: "gate", signer_kid = %kid, from, to, detail, "gate");
    } else {
        tracing::warn!(target: "gate", signer_kid = %kid, from, to, detail, "gate");
    }
}

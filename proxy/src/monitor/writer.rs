//! The one writer of the gates: it alone changes them, has what must survive
//! stored, and publishes snapshots. It never waits for a disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use signing_core::gate::{Freeze, Gates, Observation, Snapshot, State, Thresholds, Transition};
use signing_core::{Kid, Rulebook};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::evidence::TrafficEvidence;
use super::store::{Saver, Stored, StoredFreeze, StoredSeal};
use crate::config::Probe;
use crate::metrics::Metrics;
use crate::time::{now, wall_now};

/// How often successes of traffic are folded in and leases are looked at.
const FOLD_EVERY: Duration = Duration::from_millis(100);
/// How often what could not be stored is tried again, in folds.
const RETRY_AFTER_FOLDS: u32 = 10;

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
    /// Another rulebook, other thresholds, another way of probing.
    Reload {
        rulebook: Arc<Rulebook>,
        thresholds: Thresholds,
        probe: Probe,
        reply: oneshot::Sender<BTreeSet<Kid>>,
    },
    /// What was stored, or why not; from the writer to itself.
    Stored { result: Result<(), String>, then: Then },
}

/// What waits until a state is on disk.
#[derive(Debug)]
pub(super) enum Then {
    /// Nothing.
    Nothing,
    /// The answer to a freeze, which is in force already.
    Frozen { reply: oneshot::Sender<Outcome> },
    /// The end of that freeze.
    EndFreeze { freeze: StoredFreeze, by: String, reply: oneshot::Sender<Outcome> },
    /// The end of that seal.
    EndSeal {
        kid: Kid,
        seal: StoredSeal,
        reason: String,
        by: String,
        reply: oneshot::Sender<Outcome>,
    },
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
    /// For [`Command::Stored`].
    to_self: mpsc::Sender<Command>,
    pace: watch::Sender<Probe>,
    saver: Saver,
    /// What has to be on disk: every freeze and seal in force.
    state: Stored,
    /// Folds until a failed save is tried again.
    retry_in: Option<u32>,
    metrics: Arc<Metrics>,
}

impl Writer {
    #[expect(clippy::too_many_arguments, reason = "called once, where all are made")]
    pub(super) fn new(
        gates: Gates,
        published: Arc<ArcSwap<Snapshot>>,
        evidence: Arc<TrafficEvidence>,
        (to_self, inbox): (mpsc::Sender<Command>, mpsc::Receiver<Command>),
        pace: watch::Sender<Probe>,
        saver: Saver,
        state: Stored,
        metrics: Arc<Metrics>,
    ) -> Self {
        let retry_in = None;
        Self { gates, published, evidence, inbox, to_self, pace, saver, state, retry_in, metrics }
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
                    self.retry();
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Observe { kid, mut observation } => {
                // Known to the gates from now on: readers may have seen its lease over.
                observation.at = now();
                let transition = self.gates.observe(&kid, &observation);
                self.publish(transition);
            }
            Command::Freeze { reason, by, reply } => self.freeze(reason, by, reply),
            Command::Unfreeze { by, reply } => self.unfreeze(by, reply),
            Command::Unseal { kid, reason, by, reply } => self.unseal(kid, reason, by, reply),
            Command::Reload { rulebook, thresholds, probe, reply } => {
                let touched = self.gates.reload(rulebook, thresholds);
                let transitions = self.gates.tick(now());
                self.publish(transitions);
                self.pace.send_replace(probe);
                tell(reply, touched);
            }
            Command::Stored { result, then } => self.stored(result, then),
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

    /// In force first, on disk second: a freeze waits for nothing.
    fn freeze(&mut self, reason: String, by: String, reply: oneshot::Sender<Outcome>) {
        let at = wall_now();
        self.gates.freeze(Freeze { reason: reason.clone(), by: by.clone(), at, since: now() });
        self.publish(None);
        self.state.freeze = Some(StoredFreeze { reason: reason.clone(), by: by.clone(), at });
        self.save(self.state.clone(), Then::Frozen { reply });
        tracing::warn!(target: "admin", reason, by, "frozen");
    }

    /// On disk first, in force second: what a restart would bring back has not ended.
    fn unfreeze(&mut self, by: String, reply: oneshot::Sender<Outcome>) {
        match self.state.freeze.clone() {
            None => tell(reply, Outcome::Nothing("no freeze is in force".into())),
            Some(freeze) => {
                let state = Stored { freeze: None, ..self.state.clone() };
                self.save(state, Then::EndFreeze { freeze, by, reply });
            }
        }
    }

    /// On disk first, in force second, as with a freeze.
    fn unseal(&mut self, kid: Kid, reason: String, by: String, reply: oneshot::Sender<Outcome>) {
        match self.state.seals.get(&kid).cloned() {
            None => tell(reply, Outcome::Nothing(format!("the signer {kid} is not sealed"))),
            Some(seal) => {
                let mut state = self.state.clone();
                state.seals.remove(&kid);
                self.save(state, Then::EndSeal { kid, seal, reason, by, reply });
            }
        }
    }

    /// Has `state` stored; `then` happens once that is known.
    fn save(&self, state: Stored, then: Then) {
        let saved = self.saver.save(state);
        let to_self = self.to_self.clone();
        tokio::spawn(async move {
            let result = saved.await.unwrap_or_else(|_| Err("the store is gone".into()));
            // If the writer is gone, so are all leases.
            let _ = to_self.send(Command::Stored { result, then }).await;
        });
    }

    fn stored(&mut self, result: Result<(), String>, then: Then) {
        let failed = result.clone().err();
        if let Some(why) = &failed {
            tracing::error!(target: "admin", why, "freeze and seals are not stored");
        }
        match (then, failed) {
            (Then::Nothing, failed) => self.retry_in = failed.map(|_| RETRY_AFTER_FOLDS),
            (Then::Frozen { reply }, None) => tell(reply, Outcome::Done),
            (Then::Frozen { reply }, Some(why)) => {
                self.retry_in = Some(RETRY_AFTER_FOLDS);
                tell(reply, Outcome::NotStored(why));
            }
            (Then::EndFreeze { reply, .. } | Then::EndSeal { reply, .. }, Some(why)) => {
                // The disk may hold either; what is in force is stored again.
                self.retry_in = Some(RETRY_AFTER_FOLDS);
                tell(reply, Outcome::Failed(why));
            }
            (Then::EndFreeze { freeze, by, reply }, None) => self.end_freeze(&freeze, &by, reply),
            (Then::EndSeal { kid, seal, reason, by, reply }, None) => {
                self.end_seal(&kid, &seal, &reason, &by, reply);
            }
        }
    }

    fn end_freeze(&mut self, freeze: &StoredFreeze, by: &str, reply: oneshot::Sender<Outcome>) {
        if self.state.freeze.as_ref() != Some(freeze) {
            // Another freeze came while the end of this one went to disk: it holds,
            // and its own save follows in order.
            let note = "frozen again meanwhile; look at `status`, then unfreeze again";
            return tell(reply, Outcome::Nothing(note.into()));
        }
        self.state.freeze = None;
        // A seal that came meanwhile was stored with the freeze still in it.
        self.save(self.state.clone(), Then::Nothing);
        self.gates.unfreeze();
        self.publish(None);
        let StoredFreeze { reason, by: frozen_by, .. } = freeze;
        tracing::warn!(target: "admin", reason, frozen_by, by, "unfrozen");
        tell(reply, Outcome::Done);
    }

    fn end_seal(
        &mut self,
        kid: &Kid,
        seal: &StoredSeal,
        reason: &str,
        by: &str,
        reply: oneshot::Sender<Outcome>,
    ) {
        if self.state.seals.get(kid) != Some(seal) {
            return tell(reply, Outcome::Nothing(format!("the seal of {kid} changed meanwhile")));
        }
        self.state.seals.remove(kid);
        // What came meanwhile was stored with this seal still in it.
        self.save(self.state.clone(), Then::Nothing);
        let transition = self.gates.unseal(kid, now());
        self.publish(transition);
        tracing::warn!(target: "admin", signer_kid = %kid, sealed_for = seal.detail, reason, by, "unsealed");
        tell(reply, Outcome::Done);
    }

    /// Publishes the gates as they are, then stores and tells what changed.
    fn publish(&mut self, transitions: impl IntoIterator<Item = Transition>) {
        self.published.store(Arc::new(self.gates.snapshot()));
        self.metrics.gates(&self.published.load());
        for Transition { kid, from, to } in transitions {
            // In force since the line above. Dying before it is stored forgets it
            // only if its cause never shows again: canaries find it too.
            if let State::Sealed { detail, .. } = &to {
                let seal = StoredSeal { detail: detail.clone(), at: wall_now() };
                self.state.seals.insert(kid.clone(), seal);
                self.save(self.state.clone(), Then::Nothing);
            }
            self.metrics.transition(&kid, &from, &to);
            log(&kid, &from, &to);
            self.pace.send_modify(|_| {});
        }
    }

    fn retry(&mut self) {
        match self.retry_in {
            None => {}
            Some(0) => {
                self.retry_in = None;
                self.save(self.state.clone(), Then::Nothing);
            }
            Some(folds) => self.retry_in = Some(folds - 1),
        }
    }
}

/// Whoever asked may have hung up; the command holds all the same.
fn tell<T>(reply: oneshot::Sender<T>, outcome: T) {
    let _ = reply.send(outcome);
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

//! All gates and what stops them all, owned by one writer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::audit_stop::AuditStop;
use super::epoch::Epoch;
use super::evidence::Observation;
use super::freeze::Freeze;
use super::machine::{State, Thresholds};
use super::snapshot::{GateView, Snapshot};
use crate::key::Kid;
use crate::moment::Moment;
use crate::rulebook::Rulebook;

/// A gate went from one state to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Which signer's.
    pub kid: Kid,
    /// The state it left.
    pub from: State,
    /// The state it is in.
    pub to: State,
}

/// The gates of all signers, and what stops them all.
#[derive(Clone, Debug)]
pub struct Gates {
    thresholds: Thresholds,
    freeze: Option<Freeze>,
    audit_stop: Option<AuditStop>,
    gates: BTreeMap<Kid, GateView>,
    newest_epoch: Epoch,
    rulebook: Arc<Rulebook>,
}

impl Gates {
    /// Gates for `kids`, all shut, for what `rulebook` grants.
    #[must_use]
    pub fn new(
        thresholds: Thresholds,
        kids: impl IntoIterator<Item = Kid>,
        rulebook: Arc<Rulebook>,
        now: Moment,
    ) -> Self {
        let gates = kids
            .into_iter()
            .map(|kid| {
                let state = State::starting(now);
                (kid, GateView { state, epoch: Epoch::FIRST, trusted_from: now })
            })
            .collect();
        let newest_epoch = Epoch::FIRST;
        Self { thresholds, freeze: None, audit_stop: None, gates, newest_epoch, rulebook }
    }

    /// Takes an observation about `kid` into account.
    pub fn observe(&mut self, kid: &Kid, observation: &Observation) -> Option<Transition> {
        let thresholds = self.thresholds.clone();
        self.step(kid, |state| state.observe(observation, &thresholds))
    }

    /// Takes the time into account: leases end.
    pub fn tick(&mut self, now: Moment) -> Vec<Transition> {
        let thresholds = self.thresholds.clone();
        let kids: Vec<Kid> = self.gates.keys().cloned().collect();
        kids.iter().filter_map(|kid| self.step(kid, |state| state.tick(now, &thresholds))).collect()
    }

    /// Seals `kid`, as a seal found on disk or a public key that does not match does.
    pub fn seal(&mut self, kid: &Kid, detail: &str, now: Moment) -> Option<Transition> {
        let detail = detail.to_owned();
        self.step(kid, |state| match state {
            sealed @ State::Sealed { .. } => sealed,
            State::Shut { .. } | State::Probing { .. } | State::Open { .. } => {
                State::Sealed { detail, since: now }
            }
        })
    }

    /// Unseals `kid`: its gate is shut then and has to prove itself anew.
    /// None if it was not sealed.
    pub fn unseal(&mut self, kid: &Kid, now: Moment) -> Option<Transition> {
        self.step(kid, |state| state.unseal(now))
    }

    /// Puts another rulebook and other thresholds in force. The signers that the
    /// rulebook treats otherwise get a new epoch: what was admitted under the old one
    /// is not released. Leases are cut to the new length.
    pub fn reload(&mut self, rulebook: Arc<Rulebook>, thresholds: Thresholds) -> BTreeSet<Kid> {
        let touched = self.rulebook.touched_by(&rulebook);
        self.newest_epoch = self.newest_epoch.next();
        for (kid, gate) in &mut self.gates {
            if touched.contains(kid) {
                gate.epoch = self.newest_epoch;
            }
            gate.state.cut_lease(thresholds.lease);
        }
        self.rulebook = rulebook;
        self.thresholds = thresholds;
        touched
    }

    /// The rulebook in force.
    #[must_use]
    pub fn rulebook(&self) -> &Arc<Rulebook> {
        &self.rulebook
    }

    /// Freezes. A freeze on top of a freeze replaces its reason.
    pub fn freeze(&mut self, freeze: Freeze) {
        self.freeze = Some(freeze);
        self.new_epoch_for_all();
    }

    /// Ends the freeze; returns it if there was one.
    pub fn unfreeze(&mut self) -> Option<Freeze> {
        let ended = self.freeze.take();
        if ended.is_some() {
            self.new_epoch_for_all();
        }
        ended
    }

    /// The freeze in force.
    #[must_use]
    pub fn freeze_in_force(&self) -> Option<&Freeze> {
        self.freeze.as_ref()
    }

    /// Takes in what keeps the journal from recording, or that nothing does. What was
    /// admitted before is not released: its record may be lost.
    pub fn set_audit_stop(&mut self, stop: Option<AuditStop>) {
        if self.audit_stop.is_some() != stop.is_some() {
            self.new_epoch_for_all();
        }
        self.audit_stop = stop;
    }

    /// What keeps the journal from recording.
    #[must_use]
    pub fn audit_stop(&self) -> Option<&AuditStop> {
        self.audit_stop.as_ref()
    }

    /// The state of `kid`'s gate.
    #[must_use]
    pub fn state(&self, kid: &Kid) -> Option<&State> {
        self.gates.get(kid).map(|gate| &gate.state)
    }

    /// What everyone else sees.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(
            self.freeze.clone(),
            self.audit_stop.clone(),
            self.gates.clone(),
            Arc::clone(&self.rulebook),
        )
    }

    fn step(&mut self, kid: &Kid, step: impl FnOnce(State) -> State) -> Option<Transition> {
        let gate = self.gates.get_mut(kid)?;
        let from = gate.state.clone();
        gate.state = step(from.clone());
        // Renewing a lease or another cause of the same state changes no answer;
        // every other change does, shut and open again in one step included.
        if gate.state.word() == from.word() && gate.state.since() == from.since() {
            return None;
        }
        self.newest_epoch = self.newest_epoch.next();
        gate.epoch = self.newest_epoch;
        if matches!(from, State::Sealed { .. }) {
            gate.trusted_from = gate.state.since();
        }
        Some(Transition { kid: kid.clone(), from, to: gate.state.clone() })
    }

    fn new_epoch_for_all(&mut self) {
        self.newest_epoch = self.newest_epoch.next();
        for gate in self.gates.values_mut() {
            gate.epoch = self.newest_epoch;
        }
    }
}

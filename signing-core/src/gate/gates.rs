//! All gates and what stops them all, owned by one writer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::armed::{Armed, InForce};
use super::audit_stop::AuditStop;
use super::epoch::Epoch;
use super::freeze::Freeze;
use super::machine::{State, Thresholds};
use super::outage::OutageClock;
use super::signer::{Gate, Watched};
use super::snapshot::{GateView, Snapshot};
use super::upstream::{Place, UpstreamGate};
use super::window::Tally;
use crate::evidence::Observation;
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

/// An upstream of a signer went from one state to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamChange {
    /// Which signer's.
    pub kid: Kid,
    /// Which upstream.
    pub place: Arc<Place>,
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
    /// What the fleet stops, beside an operator's freeze.
    fleet_stop: Option<Freeze>,
    audit_stop: Option<AuditStop>,
    gates: BTreeMap<Kid, Gate>,
    newest_epoch: Epoch,
    rulebook: Arc<Rulebook>,
    /// The signer whose outage is a drill.
    drill: Option<Kid>,
    /// The break-glass session in force.
    session: Option<InForce>,
    /// Of signers with several upstreams, what was not told yet.
    changes: Vec<UpstreamChange>,
}

impl Gates {
    /// Gates for `signers`, all shut, for what `rulebook` grants.
    #[must_use]
    pub fn new(
        thresholds: Thresholds,
        signers: impl IntoIterator<Item = impl Into<Watched>>,
        rulebook: Arc<Rulebook>,
        now: Moment,
    ) -> Self {
        let gate = |watched: Watched| {
            let kid = watched.kid.clone();
            (kid, Gate::starting(watched, Epoch::FIRST, OutageClock::default(), now))
        };
        let gates = signers.into_iter().map(|signer| gate(signer.into())).collect();
        let newest_epoch = Epoch::FIRST;
        Self {
            thresholds,
            freeze: None,
            fleet_stop: None,
            audit_stop: None,
            gates,
            newest_epoch,
            rulebook,
            drill: None,
            session: None,
            changes: Vec::new(),
        }
    }

    /// What it watches.
    pub fn watched(&self) -> impl Iterator<Item = Watched> {
        let watched = |(kid, gate): (&Kid, &Gate)| Watched {
            kid: kid.clone(),
            upstreams: gate.upstreams.iter().map(|upstream| Arc::clone(&upstream.place)).collect(),
            made_in: gate.made_in,
        };
        self.gates.iter().map(watched)
    }

    /// Whether it watches `kid` with the upstreams that were made for that generation.
    #[must_use]
    pub fn is_watched(&self, kid: &Kid, made_in: u64) -> bool {
        self.gates.get(kid).is_some_and(|gate| gate.made_in == made_in)
    }

    /// Stops to watch the signers that are `gone`, and watches `new` ones, of which some may have been gone
    /// just before with other upstreams. The gate of each new one starts shut: its own canary opens it. What an old
    /// gate admitted is not released. How long a signer has been out goes on to count, since another upstream
    /// proves nothing yet (I11). Returns which gates shut so, and from which state: those of signers that are still
    /// there.
    pub fn replace(
        &mut self,
        gone: &BTreeSet<Kid>,
        new: impl IntoIterator<Item = Watched>,
        now: Moment,
    ) -> Vec<(Kid, State)> {
        self.newest_epoch = self.newest_epoch.next();
        let mut old: BTreeMap<Kid, (OutageClock, State)> = BTreeMap::new();
        for kid in gone {
            let gate = self.gates.remove(kid);
            old.extend(gate.map(|gate| (kid.clone(), (gate.outage, gate.state))));
        }
        let mut shut = Vec::new();
        // What was not told yet of upstreams that are gone is told no more.
        self.changes.retain(|change| !gone.contains(&change.kid));
        for watched in new {
            let kid = watched.kid.clone();
            let (outage, state) = old.remove(&kid).unzip();
            if let Some(state @ (State::Open { .. } | State::Probing { .. })) = state {
                shut.push((kid.clone(), state));
            }
            let mut outage: OutageClock = outage.unwrap_or_default();
            outage.pause(now);
            self.gates.insert(kid, Gate::starting(watched, self.newest_epoch, outage, now));
        }
        shut
    }

    /// Takes an observation about an upstream of `kid` into account. Of its transitions the
    /// newest is told.
    pub fn observe(&mut self, kid: &Kid, observation: &Observation) -> Option<Transition> {
        let now = observation.at;
        self.step(kid, now, |upstreams, thresholds| {
            if let Some(upstream) = upstreams.get_mut(observation.upstream) {
                upstream.observe(observation, thresholds);
                // Doubt about one upstream is doubt about the signer.
                if let State::Sealed { detail, since } = upstream.state.clone() {
                    upstreams.iter_mut().for_each(|other| other.seal(&detail, since));
                }
            }
        })
    }

    /// Takes in what callers' calls to an upstream of `kid` came to.
    pub fn tally(
        &mut self,
        kid: &Kid,
        upstream: usize,
        tally: Tally,
        now: Moment,
    ) -> Option<Transition> {
        self.step(kid, now, |upstreams, thresholds| {
            if let Some(upstream) = upstreams.get_mut(upstream) {
                upstream.tally(tally, now, thresholds);
            }
        })
    }

    /// Takes the time into account: leases end.
    pub fn tick(&mut self, now: Moment) -> Vec<Transition> {
        let kids: Vec<Kid> = self.gates.keys().cloned().collect();
        kids.iter().filter_map(|kid| self.step(kid, now, |_, _| {})).collect()
    }

    /// Seals `kid`, as a seal found on disk or a public key that does not match does.
    pub fn seal(&mut self, kid: &Kid, detail: &str, now: Moment) -> Option<Transition> {
        self.step(kid, now, |upstreams, _| {
            upstreams.iter_mut().for_each(|upstream| upstream.seal(detail, now));
        })
    }

    /// Unseals `kid`: its gate is shut then and has to prove itself anew.
    /// None if it was not sealed.
    pub fn unseal(&mut self, kid: &Kid, now: Moment) -> Option<Transition> {
        self.step(kid, now, |upstreams, _| {
            upstreams.iter_mut().for_each(|upstream| upstream.unseal(now));
        })
        .filter(|transition| matches!(transition.from, State::Sealed { .. }))
    }

    /// What changed about single upstreams of signers that have several, since it was last
    /// asked for.
    pub fn take_changes(&mut self) -> Vec<UpstreamChange> {
        std::mem::take(&mut self.changes)
    }

    /// The outage of `kid`, if of any, is a drill from now on: it is not counted.
    pub fn set_drill(&mut self, kid: Option<Kid>, now: Moment) -> Vec<Transition> {
        self.drill = kid;
        self.tick(now)
    }

    /// Those in force.
    #[must_use]
    pub fn thresholds(&self) -> &Thresholds {
        &self.thresholds
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
            for upstream in &mut gate.upstreams {
                upstream.state.cut_lease(thresholds.lease);
            }
        }
        if let Some(session) = &mut self.session
            && (touched.contains(&session.armed.signer.kid)
                || session.armed.replaces.iter().any(|kid| touched.contains(kid)))
        {
            session.epoch = self.newest_epoch;
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

    /// Puts a break-glass session in force: from now on requests for the signers that it
    /// replaces are its own, and what their gates admitted before is not released.
    ///
    /// # Errors
    /// One sentence: it is frozen, and its approvers did not name that freeze; or another session is
    /// in force.
    pub fn arm(&mut self, armed: Armed) -> Result<(), String> {
        if let Some(freeze) = self.freeze.as_ref().filter(|freeze| !armed.signs_under(freeze)) {
            let reason = &freeze.reason;
            return Err(format!(
                "frozen ({reason}): a freeze beats a session that was not approved under it; run \
                 `signctl unfreeze` first"
            ));
        }
        if let Some(stop) = &self.fleet_stop {
            let reason = &stop.reason;
            return Err(format!(
                "stopped by its fleet ({reason}): that beats a session; look at `signctl fleet status`"
            ));
        }
        if let Some(armed) = self.session() {
            let session = &armed.session;
            return Err(format!("the session {session} is in force; end it first"));
        }
        let epoch = self.new_epoch_for(&armed);
        self.session = Some(InForce { armed: Arc::new(armed), epoch, spent_until: None });
        Ok(())
    }

    /// Ends the session in force because its quota is used up: it admits nothing more. What was
    /// signed within the quota may leave until `until`, if nothing else is in the way: no other
    /// end of a session leaves anything to leave.
    pub fn spend(&mut self, until: Moment) -> Option<Arc<Armed>> {
        let session = self.session.as_mut().filter(|session| session.spent_until.is_none())?;
        session.spent_until = Some(until);
        Some(Arc::clone(&session.armed))
    }

    /// Ends the session in force; what it admitted is not released.
    pub fn disarm(&mut self) -> Option<Arc<Armed>> {
        self.session()?;
        let InForce { armed, .. } = self.session.take()?;
        self.new_epoch_for(&armed);
        Some(armed)
    }

    /// The session in force, whether its time is over or not.
    #[must_use]
    pub fn session(&self) -> Option<&Arc<Armed>> {
        let session = self.session.as_ref().filter(|session| session.spent_until.is_none());
        session.map(|session| &session.armed)
    }

    /// A new epoch for the signers that a session replaces.
    fn new_epoch_for(&mut self, armed: &Armed) -> Epoch {
        self.newest_epoch = self.newest_epoch.next();
        for kid in &armed.replaces {
            if let Some(gate) = self.gates.get_mut(kid) {
                gate.epoch = self.newest_epoch;
            }
        }
        self.newest_epoch
    }

    /// Freezes. A freeze on top of a freeze takes its place: its name and its reason. A session that
    /// signs under another freeze ends by it, and is returned: its approvers knew of the old freeze
    /// only. Any other session waits until the freeze ends.
    pub fn freeze(&mut self, freeze: Freeze) -> Option<Arc<Armed>> {
        let goes_on = |armed: &Armed| armed.under_freeze.is_none() || armed.signs_under(&freeze);
        let ends = self.session.as_ref().is_some_and(|session| !goes_on(&session.armed));
        let told = self.session().filter(|_| ends).map(Arc::clone);
        if ends {
            self.session = None;
        }
        self.freeze = Some(freeze);
        self.new_epoch_for_all();
        told
    }

    /// Ends the freeze; returns it if there was one.
    pub fn unfreeze(&mut self) -> Option<Freeze> {
        let ended = self.freeze.take();
        if ended.is_some() {
            self.new_epoch_for_all();
        }
        ended
    }

    /// The freeze in force: an operator's, or what the fleet stops.
    #[must_use]
    pub fn freeze_in_force(&self) -> Option<&Freeze> {
        self.freeze.as_ref().or(self.fleet_stop.as_ref())
    }

    /// Takes in what the fleet stops now, or that nothing does; whether that is new. It neither
    /// replaces an operator's freeze nor ends it.
    pub fn set_fleet_stop(&mut self, stop: Option<Freeze>) -> bool {
        let content = |stop: &Option<Freeze>| {
            stop.as_ref().map(|stop| (stop.reason.clone(), stop.by.clone()))
        };
        if content(&self.fleet_stop) == content(&stop) {
            return false;
        }
        self.fleet_stop = stop;
        self.new_epoch_for_all();
        true
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
        let view = |(kid, gate): (&Kid, &Gate)| {
            let Gate { upstreams, made_in, state, epoch, trusted_from, outage } = gate;
            let upstreams = upstreams.iter().map(UpstreamGate::view).collect();
            let (state, epoch, trusted_from) = (state.clone(), *epoch, *trusted_from);
            let (outage, made_in) = (*outage, *made_in);
            (kid.clone(), GateView { state, epoch, trusted_from, upstreams, made_in, outage })
        };
        Snapshot::new(
            (self.freeze.clone(), self.fleet_stop.clone()),
            self.audit_stop.clone(),
            self.gates.iter().map(view).collect(),
            Arc::clone(&self.rulebook),
            self.session.clone(),
        )
    }

    /// First the time passes, then something happens: an upstream whose lease ended before
    /// another one opened did not carry the gate until then.
    fn step(
        &mut self,
        kid: &Kid,
        now: Moment,
        happens: impl FnOnce(&mut [UpstreamGate], &Thresholds),
    ) -> Option<Transition> {
        let (thresholds, is_drill) = (&self.thresholds, self.drill.as_ref() == Some(kid));
        let gate = self.gates.get_mut(kid)?;
        let before: Vec<State> = match gate.upstreams.as_slice() {
            // Its changes are those of the whole.
            [_] => Vec::new(),
            several => several.iter().map(|upstream| upstream.state.clone()).collect(),
        };
        let newest_epoch = &mut self.newest_epoch;
        gate.upstreams.iter_mut().for_each(|upstream| upstream.tick(now, thresholds));
        let passed = gate.settle(newest_epoch);
        happens(&mut gate.upstreams, thresholds);
        let happened = gate.settle(newest_epoch);
        gate.count_outage(now, is_drill);
        let changed = before.into_iter().zip(&gate.upstreams);
        let changed = changed.filter(|(from, upstream)| !from.answers_as(&upstream.state));
        self.changes.extend(changed.map(|(from, upstream)| UpstreamChange {
            kid: kid.clone(),
            place: Arc::clone(&upstream.place),
            from,
            to: upstream.state.clone(),
        }));
        let (from, _) = passed.clone().or_else(|| happened.clone())?;
        let (_, to) = happened.or(passed)?;
        Some(Transition { kid: kid.clone(), from, to })
    }

    fn new_epoch_for_all(&mut self) {
        self.newest_epoch = self.newest_epoch.next();
        for gate in self.gates.values_mut() {
            gate.epoch = self.newest_epoch;
        }
        if let Some(session) = &mut self.session {
            session.epoch = self.newest_epoch;
        }
    }
}

//! The one writer of the gates: it alone changes them, has what must survive
//! stored and recorded, and publishes snapshots. It never waits for a disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use audit::{Journal, JournalError};
use host::clock::{now, wall_now};
use signing_core::Kid;
use signing_core::breakglass::End;
use signing_core::fleet::Member;
use signing_core::gate::{
    Armed, AuditStop, Gates, Place, Snapshot, State, Transition, UpstreamChange,
};
use signing_core::journal::{self, OpenIncident, Record, SealedFor, clip};
use signing_core::monitor::{self, FOLD_EVERY, News, Probe};
use telemetry::metrics::Metrics;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::command::{AfterSave, Command, OtherSigners, Outcome, SessionEnd};
use super::disk::{self, Disk};
use super::evidence::TrafficEvidence;
use super::probers::Probers;
use super::stops::{FrozenAnew, Stops};
use super::store::Stored;

/// How often what could not be stored is tried again, in folds.
pub(super) const RETRY_AFTER_FOLDS: u32 = 10;
/// How often the journal's newest record is stored, if there is a new one, in folds.
const WITNESS_EVERY_FOLDS: u32 = 100;

/// What the quota's last signatures have to be recorded in, and leave.
const LAST_LEAVE_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) gates: Gates,
    pub(super) published: Arc<ArcSwap<Snapshot>>,
    pub(super) evidence: Arc<TrafficEvidence>,
    pub(super) inbox: mpsc::Receiver<Command>,
    pub(super) pace: watch::Sender<Probe>,
    pub(super) stopped: watch::Sender<Stops>,
    /// The newest session that a new freeze ended.
    pub(super) frozen_anew: watch::Sender<Option<FrozenAnew>>,
    /// The incident that is open, for everyone else.
    pub(super) incident: Arc<ArcSwapOption<OpenIncident>>,
    pub(super) journal: Journal,
    pub(super) disk: Disk,
    /// What has to be on disk: every freeze and seal in force.
    pub(super) state: Stored,
    /// Folds until a failed save is tried again.
    pub(super) retry_in: Option<u32>,
    /// Folds until the journal's newest record is stored.
    pub(super) witness_in: u32,
    pub(super) metrics: Arc<Metrics>,
    pub(super) probers: Probers,
    /// What this member of a fleet knows.
    pub(super) fleet: Member,
    /// The fleet's name; empty: it is of none.
    pub(super) fleet_name: String,
    /// What of it everyone else sees.
    pub(super) shown_fleet: Arc<ArcSwap<Member>>,
    /// Whether the first reading is on its way to the disk.
    pub(super) is_joining: bool,
    /// Whether the fleet was not heard when it was looked at last.
    pub(super) was_lost: bool,
}

impl Writer {
    /// Runs until the process ends, or until a prober does, by a panic. If it dies, leases end (I2).
    pub(super) async fn run(mut self) {
        let mut fold = tokio::time::interval(FOLD_EVERY);
        fold.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let evidence = Arc::clone(&self.evidence);
        let journal = self.journal.clone();
        loop {
            tokio::select! {
                biased;
                command = self.inbox.recv() => match command {
                    Some(Command::Quiet { reply }) => {
                        self.probers.end().await;
                        disk::tell(reply, ());
                    }
                    Some(command) => self.obey(command),
                    None => return,
                },
                () = journal.changed() => self.look_at_the_journal(),
                () = evidence.urgent() => self.fold(),
                () = self.probers.ended() => return,
                _ = fold.tick() => {
                    self.look_at_the_journal();
                    self.fold();
                    self.watch_fleet();
                    self.retry();
                    self.witness();
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Observe { kid, made_in, mut observation } => {
                if !self.gates.is_watched(&kid, made_in) {
                    // Of an upstream that a reload has taken out, it says nothing about the one there now. A doubt
                    // is of the signer: whatever its upstreams are now, it seals (I10).
                    if !observation.evidence.is_doubt() {
                        return;
                    }
                    observation.upstream = 0;
                }
                let news = monitor::hear(&mut self.gates, &kid, observation, now());
                self.publish_news(news);
            }
            Command::Freeze { reason, by, reply } => self.freeze(reason, by, reply),
            Command::Unfreeze { reason, by, reply } => self.unfreeze(&reason, by, reply),
            Command::FleetFreeze { id, freeze, presented_by, reply } => {
                self.fleet_freeze(id, freeze, &presented_by, reply);
            }
            Command::FleetEnd { verified, presented, reply } => {
                self.fleet_end(verified, &presented, reply);
            }
            Command::FleetHear { read, reply } => self.fleet_hear(&read, reply),
            Command::Unseal { what, reason, by, reply } => self.unseal(what, reason, by, reply),
            Command::Reload { rulebook, thresholds, probe, signers, reply } => {
                // What was seen of the upstreams before counts for them, a doubt above all.
                self.fold();
                self.evidence.traffic().set_slow_call(thresholds.window.slow_call);
                let mut touched = self.gates.reload(rulebook, thresholds);
                touched.extend(self.replace(signers));
                let transitions = self.gates.tick(now());
                self.publish(transitions);
                self.pace.send_replace(probe);
                disk::tell(reply, touched);
            }
            Command::Incident { change, by, reply } => self.change_incident(change, by, reply),
            Command::Arm { armed, reply } => {
                // One whose time is over may not have been ended yet: it is in nobody's way.
                if self.gates.session().is_some_and(|old| !old.lasts(now(), wall_now())) {
                    self.disarm(&SessionEnd::by_this_proxy(End::Expired, End::Expired.sentence()));
                }
                let result = self.gates.arm(armed);
                self.publish(None);
                disk::tell(reply, result);
            }
            Command::Disarm { session, why, reply } => {
                let ended = self.gates.session().is_some_and(|armed| armed.session == session);
                if ended {
                    self.disarm(&why);
                }
                disk::tell(reply, ended);
            }
            Command::Drill { kid, reply } => {
                let transitions = self.gates.set_drill(kid, now());
                self.publish(transitions);
                disk::tell(reply, ());
            }
            Command::Witness { reply } => {
                // The stop itself may have sealed it.
                self.look_at_the_journal();
                self.save(self.state.clone(), AfterSave::Tell { reply });
            }
            Command::Answer { reply } => disk::tell(reply, ()),
            // It waits for tasks, so the loop itself obeys it.
            Command::Quiet { .. } => {}
            Command::Recorded { result, loosen } => self.recorded(result, loosen),
            Command::Stored { result, then } => self.stored(result, then),
        }
    }

    /// Watches other signers; returns those that are gone, new, or have other upstreams.
    fn replace(&mut self, signers: OtherSigners) -> BTreeSet<Kid> {
        let OtherSigners { gone, watched, probed } = signers;
        let mut touched = gone.clone();
        touched.extend(watched.iter().map(|watched| watched.kid.clone()));
        if touched.is_empty() {
            return touched;
        }
        for (kid, from) in self.gates.replace(&gone, watched, now()) {
            let (from, detail) = (from.word(), "a reload gave the signer other upstreams");
            self.record_gate(kid.as_str(), None, (from, "shut"), detail);
        }
        // A seal is a signer's, whatever its upstreams: only an operator ends it.
        let seals = self.state.in_force.seals.iter().filter(|(kid, _)| touched.contains(*kid));
        let seals: Vec<_> = seals.map(|(kid, seal)| (kid.clone(), seal.detail.clone())).collect();
        for (kid, detail) in seals {
            // Known and recorded already: it is no news.
            self.gates.seal(&kid, &detail, now());
        }
        self.evidence.watch(self.gates.watched());
        self.probers.replace(&gone, probed);
        touched
    }

    /// In force first, on disk after: what ends signing waits for nothing.
    fn disarm(&mut self, why: &SessionEnd) {
        // Nothing is in doubt when a quota is used up: what it signed last may leave.
        let last_leave_by = why.reason.leaves_the_last().then(|| now().after(LAST_LEAVE_WITHIN));
        let ended = match last_leave_by {
            Some(by) => self.gates.spend(by),
            None => self.gates.disarm(),
        };
        let Some(armed) = ended else { return };
        self.publish(None);
        match last_leave_by {
            Some(_) => self.stopped.send_modify(|stops| stops.last_leave_by = last_leave_by),
            None => self.tell_of_a_stop(),
        }
        self.record_end(&armed, why);
    }

    /// Records the end of a session that is over.
    pub(super) fn record_end(&self, armed: &Armed, why: &SessionEnd) {
        let SessionEnd { by, reason, detail, signer_head, signer_record } = why;
        let reason = reason.word();
        let record = Record::BreakglassEnded(journal::BreakglassEnded {
            by,
            detail: clip(detail),
            emergency_kid: armed.signer.kid.as_str(),
            incident: &armed.incident,
            reason,
            session: &armed.session,
            signer_head: signer_head.as_deref(),
            signer_record: signer_record.as_deref(),
        });
        // A journal that does not take it stops all signing itself.
        let _ = self.journal.note(&record);
        let session = &armed.session;
        tracing::warn!(target: "breakglass", session, by, reason, detail, "the session is over");
    }

    fn fold(&mut self) {
        let news = monitor::fold(&mut self.gates, &self.evidence.traffic(), now());
        self.publish_news(news);
    }

    pub(super) fn save(&self, mut state: Stored, then: AfterSave) {
        state.witness = Some(disk::witness(&self.journal));
        self.disk.save(state, then);
    }

    /// Has the state stored whose newest part is in a record that is on its way to disk.
    pub(super) fn save_recorded(
        &self,
        recording: impl Future<Output = Result<(), String>> + Send + 'static,
        reply: oneshot::Sender<Outcome>,
    ) {
        let witness = Some(disk::witness(&self.journal));
        let state = Stored { witness, ..self.state.clone() };
        self.disk.save_recorded(state, recording, reply);
    }

    /// What keeps the journal from recording stops all signing; a seal does so until an
    /// operator ends it.
    pub(super) fn look_at_the_journal(&mut self) {
        let stop = disk::audit_stop(&self.journal, self.state.audit_seal.as_ref());
        let before = self.gates.audit_stop();
        if before.map(|stop| (stop.sealed, &stop.detail))
            == stop.as_ref().map(|stop| (stop.sealed, &stop.detail))
        {
            return;
        }
        match &stop {
            // Its own stop is no trouble; a seal is one then, too.
            Some(AuditStop { sealed: false, .. })
                if self.journal.error() == Some(JournalError::Stopping) =>
            {
                tracing::info!(target: "audit", "the journal is closed: the process is stopping");
            }
            Some(stop) => {
                let (sealed, why) = (stop.sealed, &stop.detail);
                tracing::error!(target: "audit", sealed, why, "nothing is recorded, nothing is signed");
            }
            None => tracing::warn!(target: "audit", "the journal records again"),
        }
        if let Some(stop) = stop.as_ref().filter(|stop| stop.sealed)
            && self.state.audit_seal.is_none()
        {
            let seal = SealedFor { detail: stop.detail.clone(), at: wall_now() };
            self.state.audit_seal = Some(seal);
            self.save(self.state.clone(), AfterSave::Nothing);
        }
        let sealed = stop.as_ref().is_some_and(|stop| stop.sealed);
        self.gates.set_audit_stop(stop);
        self.publish(None);
        if sealed {
            self.tell_of_a_stop();
        }
    }

    /// In force: what was released before it is delivered, or its connection reset.
    pub(super) fn tell_of_a_stop(&self) {
        self.stopped.send_modify(|stops| stops.at_once += 1);
    }

    pub(super) fn publish(&mut self, transitions: impl IntoIterator<Item = Transition>) {
        let news = News::of(&mut self.gates, transitions);
        self.publish_news(news);
    }

    /// Publishes the gates as they are, then records, stores and tells what changed.
    fn publish_news(&mut self, News { transitions, changes, probers_look }: News) {
        self.published.store(Arc::new(self.gates.snapshot()));
        self.metrics.session(&self.published.load());
        for Transition { kid, from, to } in transitions {
            // In force since the line above. Dying before it is stored forgets it
            // only if its cause never shows again: canaries find it too.
            if let State::Sealed { detail, .. } = &to {
                let seal = SealedFor { detail: detail.clone(), at: wall_now() };
                self.state.in_force.seals.insert(kid.clone(), seal);
                self.save(self.state.clone(), AfterSave::Nothing);
                self.tell_of_a_stop();
            }
            self.metrics.transition(&kid, &from, &to);
            self.tell_of(&kid, None, &from, &to);
        }
        for UpstreamChange { kid, place, from, to } in changes {
            self.tell_of(&kid, Some(&place), &from, &to);
        }
        if probers_look {
            self.pace.send_modify(|_| {});
        }
    }

    /// Records and logs a transition of a gate or, of several, of one upstream.
    fn tell_of(&self, kid: &Kid, upstream: Option<&Place>, from: &State, to: &State) {
        let upstream = upstream.map(ToString::to_string);
        let detail = to.detail().unwrap_or_default();
        self.record_gate(kid.as_str(), upstream.as_deref(), (from.word(), to.word()), &detail);
    }

    fn record_gate(
        &self,
        signer_kid: &str,
        upstream: Option<&str>,
        (from, to): (&'static str, &'static str),
        detail: &str,
    ) {
        let detail = clip(detail);
        let record = Record::Gate(journal::Gate { detail, from, signer_kid, to, upstream });
        // A journal that does not take it stops all signing itself.
        let _ = self.journal.note(&record);
        if to == "sealed" {
            tracing::error!(target: "gate", signer_kid, upstream, from, to, detail, "gate");
        } else {
            tracing::warn!(target: "gate", signer_kid, upstream, from, to, detail, "gate");
        }
    }

    fn retry(&mut self) {
        match self.retry_in {
            None => {}
            Some(0) => {
                self.retry_in = None;
                self.save(self.state.clone(), AfterSave::Nothing);
            }
            Some(folds) => self.retry_in = Some(folds - 1),
        }
    }

    /// Stores how far the journal has come, so that an older one in its place is noticed.
    fn witness(&mut self) {
        self.witness_in = self.witness_in.saturating_sub(1);
        let witness = Some(disk::witness(&self.journal));
        if self.witness_in == 0 && self.state.witness != witness {
            self.witness_in = WITNESS_EVERY_FOLDS;
            self.state.witness = witness;
            self.save(self.state.clone(), AfterSave::Nothing);
        }
    }
}

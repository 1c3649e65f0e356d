//! The one writer of the gates: it alone changes them, has what must survive
//! stored and recorded, and publishes snapshots. It never waits for a disk.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use audit::{Journal, Trouble};
use host::clock::{now, wall_now};
use signing_core::Kid;
use signing_core::gate::{
    AuditStop, Freeze, Gates, Place, Snapshot, State, Transition, UpstreamChange,
};
use signing_core::journal::{self, Frozen, Record, SealedFor, clip};
use signing_core::monitor::{self, FOLD_EVERY, News, Probe};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::command::{Command, Loosen, Outcome, Over, Sealed, Then};
use super::disk::{self, Disk};
use super::evidence::TrafficEvidence;
use super::stops::Stops;
use super::store::Stored;
use crate::metrics::Metrics;

/// How often what could not be stored is tried again, in folds.
const RETRY_AFTER_FOLDS: u32 = 10;
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
    pub(super) journal: Journal,
    pub(super) disk: Disk,
    /// What has to be on disk: every freeze and seal in force.
    pub(super) state: Stored,
    /// Folds until a failed save is tried again.
    pub(super) retry_in: Option<u32>,
    /// Folds until the journal's newest record is stored.
    pub(super) witness_in: u32,
    pub(super) metrics: Arc<Metrics>,
}

impl Writer {
    /// Runs until the process ends. If it dies, leases end (I2).
    pub(super) async fn run(mut self) {
        let mut fold = tokio::time::interval(FOLD_EVERY);
        fold.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let evidence = Arc::clone(&self.evidence);
        let journal = self.journal.clone();
        loop {
            tokio::select! {
                biased;
                command = self.inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                () = journal.changed() => self.look_at_the_journal(),
                () = evidence.urgent() => self.fold(),
                _ = fold.tick() => {
                    self.look_at_the_journal();
                    self.fold();
                    self.retry();
                    self.witness();
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Observe { kid, observation } => {
                let news = monitor::hear(&mut self.gates, &kid, observation, now());
                self.publish_news(news);
            }
            Command::Freeze { reason, by, reply } => self.freeze(reason, by, reply),
            Command::Unfreeze { by, reply } => self.unfreeze(by, reply),
            Command::Unseal { what, reason, by, reply } => self.unseal(what, reason, by, reply),
            Command::Reload { rulebook, thresholds, probe, reply } => {
                self.evidence.traffic().set_slow_call(thresholds.window.slow_call);
                let touched = self.gates.reload(rulebook, thresholds);
                let transitions = self.gates.tick(now());
                self.publish(transitions);
                self.pace.send_replace(probe);
                disk::tell(reply, touched);
            }
            Command::Arm { armed, reply } => {
                // One whose time is over may not have been ended yet: it is in nobody's way.
                if self.gates.session().is_some_and(|old| !old.lasts(now(), wall_now())) {
                    self.disarm(&Over::expired());
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
                self.save(self.state.clone(), Then::Tell { reply });
            }
            Command::Recorded { result, loosen } => self.recorded(result, loosen),
            Command::Stored { result, then } => self.stored(result, then),
        }
    }

    /// In force first, on disk after: what ends signing waits for nothing.
    fn disarm(&mut self, why: &Over) {
        // Nothing is in doubt when a quota is used up: what it signed last may leave.
        let last_leave_by = why.leaves_the_last.then(|| now().after(LAST_LEAVE_WITHIN));
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
        let Over { by, reason, detail, signer_head, signer_record, .. } = why;
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
        let news = monitor::fold(&mut self.gates, self.evidence.traffic(), now());
        self.publish_news(news);
    }

    /// In force first, on disk second: a freeze waits for nothing.
    fn freeze(&mut self, reason: String, by: String, reply: oneshot::Sender<Outcome>) {
        let at = wall_now();
        self.gates.freeze(Freeze { reason: reason.clone(), by: by.clone(), at, since: now() });
        self.publish(None);
        self.tell_of_a_stop();
        self.state.in_force.freeze = Some(Frozen { reason: reason.clone(), by: by.clone(), at });
        let record = Record::Freeze(journal::Freeze { by: &by, reason: &reason });
        // It holds in any case, so nothing waits for the record.
        let unrecorded = self.journal.note(&record).err().map(|trouble| trouble.to_string());
        self.save(self.state.clone(), Then::Frozen { unrecorded, reply });
        tracing::warn!(target: "admin", reason, by, "frozen");
    }

    /// Recorded first, on disk second, in force third: nobody loosens anything without a
    /// trace, and what a restart would bring back has not ended.
    fn unfreeze(&mut self, by: String, reply: oneshot::Sender<Outcome>) {
        let Some(freeze) = self.state.in_force.freeze.clone() else {
            return disk::tell(reply, Outcome::Nothing("no freeze is in force".into()));
        };
        let record = Record::Unfreeze(journal::Unfreeze {
            by: &by,
            frozen_by: &freeze.by,
            reason: &freeze.reason,
        });
        let recording = self.disk.record(&record);
        self.disk.then_loosen(recording, Loosen::Freeze { freeze, by, reply });
    }

    /// Recorded, on disk, in force: as with a freeze.
    fn unseal(
        &mut self,
        what: Sealed,
        reason: String,
        by: String,
        reply: oneshot::Sender<Outcome>,
    ) {
        let found = match &what {
            Sealed::Signer(kid) => self.state.in_force.seals.get(kid).cloned(),
            Sealed::Journal => self.state.audit_seal.clone(),
        };
        let Some(seal) = found else {
            let name = what.name();
            return disk::tell(reply, Outcome::Nothing(format!("{name} is not sealed")));
        };
        if let (Sealed::Journal, Some(trouble)) = (&what, self.journal.trouble()) {
            let why = format!(
                "{trouble}; only a restart reads the journal from disk anew: mend the cause, \
                 restart, then unseal"
            );
            return disk::tell(reply, Outcome::Nothing(why));
        }
        let record = Record::Unseal(journal::Unseal {
            by: &by,
            reason: &reason,
            sealed_for: &seal.detail,
            signer_kid: what.kid().map(Kid::as_str),
        });
        let recording = self.disk.record(&record);
        self.disk.then_loosen(recording, Loosen::Seal { what, seal, reason, by, reply });
    }

    /// It is in the journal that an operator loosens something: now it is stored.
    fn recorded(&mut self, result: Result<(), String>, loosen: Loosen) {
        if let Err(why) = result {
            // Its record may reach the disk all the same.
            self.record_again(&loosen);
            let (Loosen::Freeze { reply, .. } | Loosen::Seal { reply, .. }) = loosen;
            return disk::tell(reply, Outcome::Failed(format!("it cannot be recorded: {why}")));
        }
        let mut state = self.state.clone();
        match &loosen {
            Loosen::Freeze { .. } => state.in_force.freeze = None,
            Loosen::Seal { what: Sealed::Signer(kid), .. } => {
                state.in_force.seals.remove(kid);
            }
            Loosen::Seal { what: Sealed::Journal, .. } => state.audit_seal = None,
        }
        self.save(state, Then::Loosen(loosen));
    }

    /// The journal says that it ended, and it did not: what is in force is recorded again.
    fn record_again(&self, loosen: &Loosen) {
        let in_force = &self.state.in_force;
        let record = match loosen {
            Loosen::Freeze { freeze, .. } if in_force.freeze.as_ref() == Some(freeze) => {
                Record::Freeze(journal::Freeze { by: &freeze.by, reason: &freeze.reason })
            }
            Loosen::Seal { what: Sealed::Signer(kid), seal, .. }
                if in_force.seals.get(kid) == Some(seal) =>
            {
                Record::Gate(journal::Gate {
                    detail: clip(&seal.detail),
                    from: "sealed",
                    signer_kid: kid.as_str(),
                    to: "sealed",
                    upstream: None,
                })
            }
            // What came meanwhile has its own record; the journal's seal is in none.
            Loosen::Freeze { .. } | Loosen::Seal { .. } => return,
        };
        // A journal that does not take it stops all signing itself.
        let _ = self.journal.note(&record);
    }

    fn save(&self, mut state: Stored, then: Then) {
        state.witness = Some(disk::witness(&self.journal));
        self.disk.save(state, then);
    }

    fn stored(&mut self, result: Result<(), String>, then: Then) {
        let failed = result.err();
        if let Some(why) = &failed {
            tracing::error!(target: "admin", why, "freeze and seals are not stored");
            // The disk may hold either; what is in force is stored again.
            self.retry_in = Some(RETRY_AFTER_FOLDS);
        }
        match (then, failed) {
            (Then::Nothing, _) => {}
            (Then::Tell { reply } | Then::Frozen { reply, .. }, Some(why)) => {
                disk::tell(reply, Outcome::NotStored(format!("a restart would forget it: {why}")));
            }
            (Then::Tell { reply } | Then::Frozen { unrecorded: None, reply }, None) => {
                disk::tell(reply, Outcome::Done);
            }
            (Then::Frozen { unrecorded: Some(why), reply }, None) => {
                disk::tell(reply, Outcome::NotStored(format!("it is in no record: {why}")));
            }
            (Then::Loosen(loosen), Some(why)) => {
                self.record_again(&loosen);
                let (Loosen::Freeze { reply, .. } | Loosen::Seal { reply, .. }) = loosen;
                disk::tell(reply, Outcome::Failed(why));
            }
            (Then::Loosen(Loosen::Freeze { freeze, by, reply }), None) => {
                self.end_freeze(&freeze, &by, reply);
            }
            (Then::Loosen(Loosen::Seal { what, seal, reason, by, reply }), None) => {
                let outcome = self.end_seal(&what, &seal);
                if outcome == Outcome::Done {
                    let (what, sealed_for) = (what.name(), seal.detail);
                    tracing::warn!(target: "admin", what, sealed_for, reason, by, "unsealed");
                }
                disk::tell(reply, outcome);
            }
        }
    }

    fn end_freeze(&mut self, freeze: &Frozen, by: &str, reply: oneshot::Sender<Outcome>) {
        if self.state.in_force.freeze.as_ref() != Some(freeze) {
            // Another freeze came while the end of this one went to disk: it holds,
            // and its own save follows in order.
            let note = "frozen again meanwhile; look at `status`, then unfreeze again";
            return disk::tell(reply, Outcome::Nothing(note.into()));
        }
        self.state.in_force.freeze = None;
        // A seal that came meanwhile was stored with the freeze still in it.
        self.save(self.state.clone(), Then::Nothing);
        self.gates.unfreeze();
        self.publish(None);
        let Frozen { reason, by: frozen_by, .. } = freeze;
        tracing::warn!(target: "admin", reason, frozen_by, by, "unfrozen");
        disk::tell(reply, Outcome::Done);
    }

    fn end_seal(&mut self, what: &Sealed, seal: &SealedFor) -> Outcome {
        let in_force = match what {
            Sealed::Signer(kid) => self.state.in_force.seals.get(kid),
            Sealed::Journal => self.state.audit_seal.as_ref(),
        };
        if in_force != Some(seal) {
            return Outcome::Nothing(format!("the seal of {} changed meanwhile", what.name()));
        }
        match what {
            Sealed::Signer(kid) => {
                self.state.in_force.seals.remove(kid);
                let transition = self.gates.unseal(kid, now());
                self.publish(transition);
            }
            Sealed::Journal => {
                self.state.audit_seal = None;
                self.look_at_the_journal();
            }
        }
        // What came meanwhile was stored with this seal still in it.
        self.save(self.state.clone(), Then::Nothing);
        Outcome::Done
    }

    /// What keeps the journal from recording stops all signing; a seal does so until an
    /// operator ends it.
    fn look_at_the_journal(&mut self) {
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
                if self.journal.trouble() == Some(Trouble::Stopping) =>
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
            self.save(self.state.clone(), Then::Nothing);
        }
        let sealed = stop.as_ref().is_some_and(|stop| stop.sealed);
        self.gates.set_audit_stop(stop);
        self.publish(None);
        if sealed {
            self.tell_of_a_stop();
        }
    }

    /// In force: what was released before it is delivered, or its connection reset.
    fn tell_of_a_stop(&self) {
        self.stopped.send_modify(|stops| stops.at_once += 1);
    }

    fn publish(&mut self, transitions: impl IntoIterator<Item = Transition>) {
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
                self.save(self.state.clone(), Then::Nothing);
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
        let detail = to.told().unwrap_or_default();
        let (from, to) = (from.word(), to.word());
        let upstream = upstream.map(ToString::to_string);
        let upstream = upstream.as_deref();
        let record = Record::Gate(journal::Gate {
            detail: clip(&detail),
            from,
            signer_kid: kid.as_str(),
            to,
            upstream,
        });
        // A journal that does not take it stops all signing itself.
        let _ = self.journal.note(&record);
        if to == "sealed" {
            tracing::error!(target: "gate", signer_kid = %kid, upstream, from, to, detail, "gate");
        } else {
            tracing::warn!(target: "gate", signer_kid = %kid, upstream, from, to, detail, "gate");
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

    /// Stores how far the journal has come, so that an older one in its place is noticed.
    fn witness(&mut self) {
        self.witness_in = self.witness_in.saturating_sub(1);
        let witness = Some(disk::witness(&self.journal));
        if self.witness_in == 0 && self.state.witness != witness {
            self.witness_in = WITNESS_EVERY_FOLDS;
            self.state.witness = witness;
            self.save(self.state.clone(), Then::Nothing);
        }
    }
}

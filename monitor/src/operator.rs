//! What an operator asks of the writer: a freeze, its end, the end of a seal. What stops is in force
//! first; what loosens is recorded first, stored second, in force third.

use host::clock::{now, wall_now};
use signing_core::Kid;
use signing_core::breakglass::ProxyEnd;
use signing_core::gate::Freeze;
use signing_core::journal::{self, Frozen, Record, SealedFor, clip};
use tokio::sync::oneshot;

use super::command::{AfterSave, Loosen, Outcome, Sealed, SessionEnd};
use super::incident::open_of;
use super::stops::FrozenAnew;
use super::writer::{RETRY_AFTER_FOLDS, Writer};
use super::{disk, freeze_id};

impl Writer {
    /// In force first, on disk second: a freeze waits for nothing.
    pub(super) fn freeze(&mut self, reason: String, by: String, reply: oneshot::Sender<Outcome>) {
        let (at, id) = (wall_now(), freeze_id());
        let freeze = Freeze { id, reason: reason.clone(), by: by.clone(), at, since: now() };
        let ended = self.gates.freeze(freeze);
        self.publish(None);
        self.tell_of_a_stop();
        let frozen = Frozen { reason: reason.clone(), by: by.clone(), id, at };
        self.state.in_force.freeze = Some(frozen);
        let record = Record::Freeze(journal::Freeze { by: &by, id, reason: &reason });
        // It holds in any case, so nothing waits for the record.
        let unrecorded = self.journal.note(&record).err().map(|error| error.to_string());
        if let Some(armed) = ended {
            // The keeper of sessions has the emergency signer end it too.
            let why = format!("frozen anew: {reason}");
            let session = armed.session.clone();
            self.frozen_anew.send_replace(Some(FrozenAnew { session, why: why.clone() }));
            let end =
                SessionEnd { by: by.clone(), ..SessionEnd::by_this_proxy(ProxyEnd::Frozen, why) };
            self.record_end(&armed, &end);
        }
        self.save(self.state.clone(), AfterSave::Frozen { unrecorded, reply });
        tracing::warn!(target: "admin", reason, by, "frozen");
    }

    /// Recorded first, on disk second, in force third: nobody loosens anything without a
    /// trace, and what a restart would bring back has not ended.
    pub(super) fn unfreeze(&mut self, reason: &str, by: String, reply: oneshot::Sender<Outcome>) {
        let Some(freeze) = self.state.in_force.freeze.clone() else {
            let why = match self.gates.freeze_in_force() {
                None => "no freeze is in force".to_owned(),
                Some(stop) => format!(
                    "no operator of this proxy froze it: it is stopped by {}: {}; a freeze of the fleet \
                     ends by a signed statement only: signctl unfreeze --statement FILE",
                    stop.by, stop.reason
                ),
            };
            return disk::tell(reply, Outcome::Nothing(why));
        };
        let record = Record::Unfreeze(journal::Unfreeze {
            by: &by,
            frozen_by: &freeze.by,
            frozen_for: &freeze.reason,
            frozen_id: freeze.id,
            reason,
        });
        let recording = self.disk.record(&record);
        self.disk.then_loosen(recording, Loosen::Freeze { freeze, by, reply });
    }

    /// Recorded, on disk, in force: as with a freeze.
    pub(super) fn unseal(
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
        if let (Sealed::Journal, Some(error)) = (&what, self.journal.error()) {
            let why = format!(
                "{error}; only a restart reads the journal from disk again: fix the cause, \
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
    pub(super) fn recorded(&mut self, result: Result<(), String>, loosen: Loosen) {
        if let Err(why) = result {
            // Its record may reach the disk all the same.
            self.record_again(&loosen);
            let failed = Outcome::Failed(format!("it cannot be recorded: {why}"));
            return disk::tell(loosen.into_reply(), failed);
        }
        let mut state = self.state.clone();
        match &loosen {
            Loosen::Freeze { .. } => state.in_force.freeze = None,
            Loosen::Fleet { ending, .. } => state.remember(&ending.applied_to(self.fleet.memory())),
            Loosen::Join { joining, .. } => {
                state.remember(&joining.applied_to(self.fleet.memory()));
            }
            Loosen::Incident { .. } => state.in_force.incident = None,
            Loosen::Item { incident, section, .. } => {
                if let Some(open) = open_of(&mut state.in_force, incident) {
                    open.note_done(section);
                }
            }
            Loosen::Seal { what: Sealed::Signer(kid), .. } => {
                state.in_force.seals.remove(kid);
            }
            Loosen::Seal { what: Sealed::Journal, .. } => state.audit_seal = None,
        }
        self.save(state, AfterSave::Loosen(loosen));
    }

    /// The journal says that it ended, and it did not: what is in force is recorded again.
    fn record_again(&mut self, loosen: &Loosen) {
        let in_force = &self.state.in_force;
        let record = match loosen {
            Loosen::Freeze { freeze, .. } if in_force.freeze.as_ref() == Some(freeze) => {
                Record::Freeze(journal::Freeze {
                    by: &freeze.by,
                    id: freeze.id,
                    reason: &freeze.reason,
                })
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
            Loosen::Fleet { ending, .. } => return self.record_fleet_again(ending),
            // The next heartbeat begins it again.
            Loosen::Join { .. } => return self.is_joining = false,
            Loosen::Incident { open, .. } if in_force.incident.as_ref() == Some(open) => {
                Record::IncidentBegun(journal::IncidentBegun {
                    by: &open.by,
                    incident: open.incident.as_str(),
                    reason: &open.reason,
                })
            }
            // What came meanwhile has its own record; the journal's seal is in none.
            Loosen::Freeze { .. }
            | Loosen::Incident { .. }
            | Loosen::Item { .. }
            | Loosen::Seal { .. } => return,
        };
        // A journal that does not take it stops all signing itself.
        let _ = self.journal.note(&record);
    }

    pub(super) fn stored(&mut self, result: Result<(), String>, then: AfterSave) {
        let failed = result.err();
        if let Some(why) = &failed {
            tracing::error!(target: "admin", why, "freeze and seals are not stored");
            // The disk may hold either; what is in force is stored again.
            self.retry_in = Some(RETRY_AFTER_FOLDS);
        }
        match (then, failed) {
            (AfterSave::Nothing, _) => {}
            (AfterSave::Tell { reply } | AfterSave::Frozen { reply, .. }, Some(why)) => {
                disk::tell(reply, Outcome::NotStored(format!("a restart would forget it: {why}")));
            }
            (AfterSave::Tell { reply } | AfterSave::Frozen { unrecorded: None, reply }, None) => {
                disk::tell(reply, Outcome::Done);
            }
            (AfterSave::Frozen { unrecorded: Some(why), reply }, None) => {
                disk::tell(reply, Outcome::NotStored(format!("it is in no record: {why}")));
            }
            (AfterSave::Loosen(loosen), Some(why)) => {
                self.record_again(&loosen);
                disk::tell(loosen.into_reply(), Outcome::Failed(why));
            }
            (AfterSave::Loosen(Loosen::Freeze { freeze, by, reply }), None) => {
                self.end_freeze(&freeze, &by, reply);
            }
            (AfterSave::Loosen(Loosen::Fleet { ending, reply }), None) => {
                self.fleet_ended(&ending, reply)
            }
            (AfterSave::Loosen(Loosen::Join { joining, reply }), None) => {
                self.fleet_joined(joining, reply);
            }
            (AfterSave::Loosen(Loosen::Incident { open, by, reply }), None) => {
                self.end_incident(&open, &by, reply);
            }
            (AfterSave::Loosen(Loosen::Item { incident, section, reply }), None) => {
                self.item_is_done(&incident, &section, reply);
            }
            (AfterSave::Loosen(Loosen::Seal { what, seal, reason, by, reply }), None) => {
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
        self.save(self.state.clone(), AfterSave::Nothing);
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
        self.save(self.state.clone(), AfterSave::Nothing);
        Outcome::Done
    }
}

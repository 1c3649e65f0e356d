//! What the writer does with the words of a fleet. A freeze is in force first and stored second. What
//! loosens, a statement or the first reading, is recorded first, stored second, in force third.

use std::collections::BTreeSet;

use host::clock::{now, rfc3339_seconds, wall_now};
use signing_core::FreezeId;
use signing_core::fleet::{Ending, Joining, Member, Obeyed, Stop, Verified};
use signing_core::gate::Freeze;
use signing_core::journal::{Approved, FleetFreeze, FleetLink, FleetUnfreeze, Frozen, Record};
use tokio::sync::oneshot;

use super::command::{AfterSave, Loosen, Outcome, Presented};
use super::writer::Writer;
use super::{disk, in_force};

impl Writer {
    /// Obeys a freeze of the fleet, from anybody and of any age.
    pub(super) fn fleet_freeze(
        &mut self,
        id: FreezeId,
        freeze: Frozen,
        presented_by: &str,
        reply: oneshot::Sender<Outcome>,
    ) {
        let Frozen { by, reason, .. } = freeze.clone();
        let mut unrecorded = None;
        match self.fleet.obey(id, freeze) {
            Obeyed::Now => {
                self.settle_fleet();
                let freeze_id = id.to_string();
                let (by, reason) = (by.as_str(), reason.as_str());
                let record =
                    Record::FleetFreeze(FleetFreeze { by, freeze_id, presented_by, reason });
                // It holds in any case, so nothing waits for the record.
                unrecorded = self.journal.note(&record).err().map(|error| error.to_string());
                tracing::warn!(target: "fleet", %id, reason, by, presented_by, "frozen by the fleet");
            }
            // It is stored again all the same: the first time may not have come to the disk.
            Obeyed::Already => {}
            Obeyed::Ended => {
                let why = "a signed statement has ended this freeze here".to_owned();
                return disk::tell(reply, Outcome::Nothing(why));
            }
            Obeyed::TooMany => {
                let held = self.fleet.memory().held.len();
                let why = format!(
                    "{held} freezes of the fleet are in force, and one more cannot be remembered; signing \
                     is stopped by those"
                );
                return disk::tell(reply, Outcome::Failed(why));
            }
        }
        self.remember_fleet();
        self.save(self.state.clone(), AfterSave::Frozen { unrecorded, reply });
    }

    /// Ends what a statement ends that was verified.
    pub(super) fn fleet_end(
        &mut self,
        verified: Verified,
        presented: &Presented,
        reply: oneshot::Sender<Outcome>,
    ) {
        let Some(ending) = self.fleet.ending(verified) else {
            let why = "each freeze that the statement names has ended here already".to_owned();
            return disk::tell(reply, Outcome::Nothing(why));
        };
        let statement = ending.statement().statement();
        let record = Record::FleetUnfreeze(FleetUnfreeze {
            approved: Approved::from(ending.statement().approval()),
            ends: statement.ends().iter().map(FreezeId::to_string).collect(),
            expires_at: &rfc3339_seconds(statement.expires_at()),
            presented_by: &presented.by,
            reason: statement.reason(),
            signature: &presented.signature,
            statement_b64: &presented.statement_b64,
        });
        let recording = self.disk.record(&record);
        let ending = Box::new(ending);
        self.disk.then_loosen(recording, Loosen::Fleet { ending, reply });
    }

    /// The agent has read the fleet. Answered at once, but the first time: then once that is stored.
    pub(super) fn fleet_hear(
        &mut self,
        read: &BTreeSet<FreezeId>,
        reply: oneshot::Sender<Outcome>,
    ) {
        if let Some(id) = read.iter().find(|id| !self.fleet.knows(id)) {
            let why = format!("the freeze {id} is not obeyed here yet; present it, then say again");
            return disk::tell(reply, Outcome::Nothing(why));
        }
        let joining = self.fleet.hear(now());
        self.settle_fleet();
        self.show_fleet();
        match joining {
            Some(joining) if !self.is_joining => {
                self.is_joining = true;
                let record = self.link_record("joined");
                let recording = self.disk.record(&record);
                self.disk.then_loosen(recording, Loosen::Join { joining, reply });
            }
            Some(_) | None => disk::tell(reply, Outcome::Done),
        }
    }

    pub(super) fn fleet_ended(&mut self, ending: &Ending, reply: oneshot::Sender<Outcome>) {
        let signer = ending.statement().approval().who();
        for (id, Frozen { reason, by, .. }) in self.fleet.end(ending) {
            tracing::warn!(target: "fleet", %id, reason, by, signer, "a freeze of the fleet has ended");
        }
        self.remember_fleet();
        // What came meanwhile was stored with these freezes still in it.
        self.save(self.state.clone(), AfterSave::Nothing);
        self.settle_fleet();
        disk::tell(reply, Outcome::Done);
    }

    pub(super) fn fleet_joined(&mut self, joining: Joining, reply: oneshot::Sender<Outcome>) {
        self.is_joining = false;
        self.fleet.join(joining);
        self.remember_fleet();
        self.save(self.state.clone(), AfterSave::Nothing);
        self.settle_fleet();
        tracing::warn!(target: "fleet", "this member has read its fleet for the first time");
        disk::tell(reply, Outcome::Done);
    }

    /// A statement was recorded and did not come to the disk: what it would have ended is in force.
    pub(super) fn record_fleet_again(&self, ending: &Ending) {
        for id in ending.statement().statement().ends() {
            let Some(Frozen { by, reason, .. }) = self.fleet.memory().held.get(id) else {
                continue;
            };
            let (freeze_id, presented_by) = (id.to_string(), "this proxy");
            let record = Record::FleetFreeze(FleetFreeze { by, freeze_id, presented_by, reason });
            // A journal that does not take it stops all signing itself.
            let _ = self.journal.note(&record);
        }
    }

    /// Time passes: a lease of the fleet ends.
    pub(super) fn watch_fleet(&mut self) {
        let is_lost = self.fleet.is_lost(now());
        if is_lost != self.was_lost {
            self.was_lost = is_lost;
            let state = if is_lost { "lost" } else { "heard" };
            let _ = self.journal.note(&self.link_record(state));
            tracing::warn!(target: "fleet", state, "the word of the fleet");
        }
        self.settle_fleet();
    }

    /// Has the gates follow from what the member decides.
    pub(super) fn settle_fleet(&mut self) {
        let stop = stop_of(&self.fleet);
        let is_stop = stop.is_some();
        if self.gates.set_fleet_stop(stop) {
            self.publish(None);
            if is_stop {
                self.tell_of_a_stop();
            }
        }
    }

    /// What is stored next has what the member has to remember.
    pub(super) fn remember_fleet(&mut self) {
        self.state.remember(self.fleet.memory());
        self.show_fleet();
    }

    fn show_fleet(&self) {
        self.shown_fleet.store(std::sync::Arc::new(self.fleet.clone()));
    }

    fn link_record<'r>(&'r self, state: &'r str) -> Record<'r> {
        Record::FleetLink(FleetLink { fleet: &self.fleet_name, state })
    }
}

/// What stops signing now.
pub(super) fn stop_of(fleet: &Member) -> Option<Freeze> {
    let stop = fleet.stop(now())?;
    let (reason, by) = stop.reason_and_author();
    let at = match &stop {
        Stop::Frozen(_, freeze) => freeze.at,
        Stop::NeverRead | Stop::Lost => wall_now(),
    };
    // It has no name that a break-glass request could name: no session signs under it.
    Some(in_force(&Frozen { at, by, id: None, reason }))
}

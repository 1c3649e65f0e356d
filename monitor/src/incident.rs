//! An incident in the writer's hands: it is open at once, and whoever began it hears of it once its record
//! is on disk. Its end is recorded first, stored second, in force third, as with everything that an operator
//! loosens.

use std::sync::Arc;

use host::clock::wall_now;
use signing_core::incident::IncidentId;
use signing_core::journal::{
    InForce, IncidentBegun, IncidentCaptured, IncidentEnded, IncidentItem, OpenIncident, Record,
};
use tokio::sync::oneshot;

use super::command::{AfterSave, IncidentChange, Loosen, Outcome};
use super::disk;
use super::writer::Writer;

impl Writer {
    pub(super) fn change_incident(
        &mut self,
        change: IncidentChange,
        by: String,
        reply: oneshot::Sender<Outcome>,
    ) {
        let open = self.state.in_force.incident.clone();
        match (change, open) {
            (IncidentChange::Begin { incident, .. }, Some(open)) => {
                let name = &open.incident;
                let why = if incident == open.incident {
                    format!("the incident {name} is open already")
                } else {
                    format!(
                        "the incident {name} is open; go on under that name: signctl incident begin --id \
                         {name}; or, if its leader agrees, end it first: signctl incident end"
                    )
                };
                disk::tell(reply, Outcome::Nothing(why));
            }
            (IncidentChange::Begin { incident, reason }, None) => {
                let record = Record::IncidentBegun(IncidentBegun {
                    by: &by,
                    incident: incident.as_str(),
                    reason: &reason,
                });
                let recording = self.disk.record(&record);
                tracing::warn!(target: "admin", %incident, reason, by, "an incident began");
                let at = wall_now();
                self.state.in_force.incident = Some(OpenIncident {
                    at,
                    by,
                    captured: None,
                    done: Vec::new(),
                    incident,
                    missing: Vec::new(),
                    reason,
                });
                self.publish_incident();
                self.save_recorded(recording, reply);
            }
            (IncidentChange::Captured { incident, sha256, missing }, Some(open))
                if incident == open.incident =>
            {
                let record = Record::IncidentCaptured(IncidentCaptured {
                    by: &by,
                    incident: incident.as_str(),
                    missing: missing.iter().map(String::as_str).collect(),
                    sha256: &sha256,
                });
                let recording = self.disk.record(&record);
                self.state.in_force.incident =
                    Some(OpenIncident { captured: Some(sha256), missing, ..open });
                self.publish_incident();
                self.save_recorded(recording, reply);
            }
            (IncidentChange::Item { section, detail, done }, Some(open)) => {
                let record = Record::IncidentItem(IncidentItem {
                    by: &by,
                    detail: &detail,
                    done,
                    incident: open.incident.as_str(),
                    section: &section,
                });
                let recording = self.disk.record(&record);
                if done {
                    let incident = open.incident;
                    self.disk.then_loosen(recording, Loosen::Item { incident, section, reply });
                } else {
                    self.save_recorded(recording, reply);
                }
            }
            (IncidentChange::End { reason, left }, Some(open)) => {
                let record = Record::IncidentEnded(IncidentEnded {
                    by: &by,
                    incident: open.incident.as_str(),
                    left: left.iter().map(String::as_str).collect(),
                    reason: &reason,
                });
                let recording = self.disk.record(&record);
                self.disk.then_loosen(recording, Loosen::Incident { open, by, reply });
            }
            (IncidentChange::Captured { .. }, Some(open)) => {
                let why = format!("the incident {} is open, and no other", open.incident);
                disk::tell(reply, Outcome::Nothing(why));
            }
            (
                IncidentChange::Captured { .. }
                | IncidentChange::Item { .. }
                | IncidentChange::End { .. },
                None,
            ) => {
                disk::tell(reply, Outcome::Nothing("no incident is open".to_owned()));
            }
        }
    }

    /// It is on disk that a line of the runbook is done.
    pub(super) fn item_is_done(
        &mut self,
        incident: &IncidentId,
        section: &str,
        reply: oneshot::Sender<Outcome>,
    ) {
        if let Some(open) = open_of(&mut self.state.in_force, incident) {
            open.note_done(section);
            self.publish_incident();
        }
        disk::tell(reply, Outcome::Done);
    }

    /// Its end is on disk.
    pub(super) fn end_incident(
        &mut self,
        open: &OpenIncident,
        by: &str,
        reply: oneshot::Sender<Outcome>,
    ) {
        if self.state.in_force.incident.as_ref().map(|open| &open.incident) != Some(&open.incident)
        {
            let note = "another incident began meanwhile; look at `signctl incident status`";
            return disk::tell(reply, Outcome::Nothing(note.into()));
        }
        self.state.in_force.incident = None;
        // What came meanwhile was stored with it still in it.
        self.save(self.state.clone(), AfterSave::Nothing);
        self.publish_incident();
        tracing::warn!(target: "admin", incident = %open.incident, by, "the incident ended");
        disk::tell(reply, Outcome::Done);
    }

    /// Shows everyone else what is open.
    fn publish_incident(&self) {
        self.incident.store(self.state.in_force.incident.clone().map(Arc::new));
    }
}

/// The incident that is open, if it is that one.
pub(super) fn open_of<'s>(
    in_force: &'s mut InForce,
    incident: &IncidentId,
) -> Option<&'s mut OpenIncident> {
    in_force.incident.as_mut().filter(|open| open.incident == *incident)
}

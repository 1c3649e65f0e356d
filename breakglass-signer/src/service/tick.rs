//! What time alone brings about: the end of a session and of a passphrase, a key that should
//! have been destroyed, and what is noted now and then.

use std::rc::Rc;
use std::time::Duration;

use audit::JournalError;
use host::clock::{now, wall_now};
use serde_json::json;
use signing_core::breakglass::End;
use signing_core::journal::{ACTOR, DestructionOverdue, Record};

use super::Service;
use crate::arming::Unreadable;

/// How late an end is noticed at most. A signature is never late: its permit asks the clocks.
const EVERY: Duration = Duration::from_millis(100);
/// How many of these until what can wait is looked at.
const SLOW: u32 = 100;
/// How often it is looked at whether a session could begin.
const ARMING_EVERY: Duration = Duration::from_secs(10);

impl Service {
    /// Runs for ever.
    pub async fn tick(self: &Rc<Self>) {
        let mut saving = 0;
        for number in 1_u32.. {
            tokio::time::sleep(EVERY).await;
            self.end_if_due().await;
            if number % SLOW == 0 {
                self.record_refusals();
                self.look_for_overdue().await;
                if !self.saver.is_done(saving) {
                    self.saver.say(&"its disk has not answered since the last time");
                }
                saving = self.save();
            }
        }
    }

    /// Ends a session whose time or quota is over, and lets go of a passphrase.
    pub async fn end_if_due(self: &Rc<Self>) {
        self.latest.set(self.latest.get().max(wall_now()));
        let ended = {
            let mut armory = self.armory.borrow_mut();
            armory.active.as_mut().and_then(|active| active.session.end_if_due(now(), wall_now()))
        };
        if let Some(end) = ended {
            self.end(end, "breakglass-signer", end.sentence()).await;
        }
        let expired = self.armory.borrow_mut().unlock.expire(now());
        if let Some(by) = expired {
            self.note_unlock(&by, "expired");
        }
    }

    /// Says when something comes or goes that keeps every session from beginning: a key of an approver
    /// that expires while this runs is found before the outage. It serves all the same: what is due
    /// still has to be destroyed, and an activation is refused by its clause. It runs for ever, apart from
    /// [`Self::tick`]: the disk of a key's file may hang, and sessions end meanwhile.
    pub async fn watch_arming(&self) {
        let mut every = tokio::time::interval(ARMING_EVERY);
        loop {
            every.tick().await;
            let unreadable = self.unreadable().await;
            self.look_at_arming(&unreadable);
        }
    }

    fn look_at_arming(&self, unreadable: &Unreadable) {
        let why = self.cannot_arm(&self.armory.borrow(), unreadable, wall_now());
        let before = self.said_of_arming.replace(why.clone());
        for new in why.iter().filter(|one| !before.contains(one)) {
            self.log.error(
                "no break-glass session can begin here until this is fixed",
                json!({"error": new}),
            );
        }
        if why.is_empty() && !before.is_empty() {
            self.log.info("a break-glass session can begin here again", json!({}));
        }
    }

    /// Says once, in a record, of each key that should be gone; in the log again and again.
    async fn look_for_overdue(&self) {
        let overdue: Vec<(String, String, bool)> = {
            let armory = self.armory.borrow();
            let over = armory.history.all_due().filter(|(_, due)| due.is_over(wall_now()));
            over.map(|(kid, due)| (kid.clone(), due.at.clone(), due.told)).collect()
        };
        for (emergency_kid, destruction_due, told) in overdue {
            self.log.error(
                "an emergency key should have been destroyed: signctl breakglass destroy",
                json!({"emergency_kid": emergency_kid, "destruction_due": destruction_due}),
            );
            if told {
                continue;
            }
            let (kid, due) = (&emergency_kid, &destruction_due);
            let record = Record::DestructionOverdue(DestructionOverdue {
                actor: ACTOR,
                destruction_due: due,
                emergency_kid: kid,
            });
            if self.journal.note(&record).is_ok()
                && let Some(due) = self.armory.borrow_mut().history.due_of_mut(&emergency_kid)
            {
                due.told = true;
            }
        }
    }

    /// Returns once the journal can never be written again: then this process ends.
    pub async fn sealed(self: &Rc<Self>) -> String {
        loop {
            if let Some(JournalError::Sealed(why)) = self.journal.error() {
                self.end(End::Journal, "breakglass-signer", End::Journal.sentence()).await;
                return why;
            }
            self.journal.changed().await;
        }
    }
}

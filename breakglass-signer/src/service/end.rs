//! The end of a session, which wipes its key first and says so after.

use std::rc::Rc;

use host::clock::{rfc3339_seconds, wall_now};
use serde_json::json;
use signing_core::breakglass::End;
use signing_core::breakglass::wire::{
    Answer, End as EndAsk, Ended, JournalRecord, REASON_MAX_BYTES, Reason, Refused, SessionEnded,
};
use signing_core::journal::{ACTOR, Record, SessionEnded as EndedRecord, Unlock};

use super::{Service, one_line, record_of, refused};
use crate::connection::Outgoing;
use crate::history::{Due, Unended};

/// A session that is over.
#[derive(Clone, Debug)]
pub struct EndedSession {
    /// Which one.
    pub session: String,
    /// When its key has to be destroyed.
    pub destruction_due: String,
    /// Its record, if that is on disk.
    pub record: Option<JournalRecord>,
}

impl Service {
    /// Ends the session in force, if there is one. When this first waits its key is wiped.
    pub async fn end(self: &Rc<Self>, end: End, by: &str, detail: &str) -> Option<EndedSession> {
        // While it is known which session they were about.
        self.record_refusals();
        let active = self.armory.borrow_mut().active.take()?;
        let super::Active { mut session, key, out, signatures, .. } = active;
        drop(key);
        let end = session.end(end);
        let request = session.request();
        let kid = request.emergency_kid().to_string();
        let unended = Unended {
            session: session.id().to_owned(),
            emergency_kid: kid,
            incident: request.incident().to_owned(),
            justification: request.justification().to_owned(),
            signatures,
        };
        let ended = self.ended(&unended, end, by, detail).await;
        let notice = SessionEnded {
            session: unended.session,
            reason: end,
            detail: detail.to_owned(),
            signatures,
            destruction_due: ended.destruction_due.clone(),
            record: ended.record.clone(),
        };
        // Whoever activated it may be gone, or may not read: nobody waits for that.
        let notice = Outgoing::Now(Box::new(Answer::SessionEnded(notice)));
        if let Err(tokio::sync::mpsc::error::TrySendError::Full(notice)) = out.try_send(notice) {
            tokio::task::spawn_local(async move { out.send(notice).await });
        }
        Some(ended)
    }

    /// Records the end of a session, and when its key has to be destroyed.
    pub async fn ended(&self, session: &Unended, end: End, by: &str, detail: &str) -> EndedSession {
        let due = {
            let mut armory = self.armory.borrow_mut();
            let at = rfc3339_seconds(wall_now() + self.materials.config.destruction_within);
            // The first session that used a key decides.
            let due = armory.history.due.entry(session.emergency_kid.clone());
            due.or_insert(Due { at, told: false }).at.clone()
        };
        let record = Record::SessionEnded(EndedRecord {
            actor: ACTOR,
            by,
            destruction_due: &due,
            detail,
            emergency_kid: &session.emergency_kid,
            incident: &session.incident,
            justification: &session.justification,
            reason: end.word(),
            session: &session.session,
            signatures: session.signatures,
        });
        let appended = match self.journal.begin_append(&record) {
            Ok(appending) => appending.durable().await,
            Err(error) => Err(error),
        };
        self.save();
        self.log.warn(
            "a break-glass session is over, and its key wiped; destroy the key",
            json!({"session": session.session, "reason": end.word(), "by": by, "signatures": session.signatures,
                   "emergency_kid": session.emergency_kid, "destruction_due": due}),
        );
        if let Err(error) = &appended {
            // The next start finds that it has no end, and records one.
            let why = json!({"error": error.to_string()});
            self.log.error("the end of a session is not recorded", why);
        }
        EndedSession {
            session: session.session.clone(),
            destruction_due: due,
            record: appended.ok().map(|durable| record_of(&durable)),
        }
    }

    /// Ends the session of a connection that is gone, also one that is being activated, as it begins.
    pub async fn gone(self: &Rc<Self>, connection: u64) {
        self.served.borrow_mut().remove(&connection);
        let is_owner = |active: &super::Active| active.owner == connection;
        if self.armory.borrow().active.as_ref().is_some_and(is_owner) {
            self.end(End::ProxyGone, "breakglass-signer", End::ProxyGone.sentence()).await;
        }
    }

    /// Ends the session because an operator asked the proxy for it, or the proxy ends it by itself.
    ///
    /// # Errors
    /// [`Refused`], if there is none.
    pub async fn end_asked(self: &Rc<Self>, ask: &EndAsk) -> Result<Ended, Refused> {
        let (by, detail) = (one_line(&ask.by, 256), one_line(&ask.reason, REASON_MAX_BYTES));
        let why = match ask.own {
            None => End::Operator,
            Some(End::KeyUnavailable) => End::KeyUnavailable,
            // What only the signer can say is not the proxy's to claim.
            Some(_) => End::Proxy,
        };
        let ended = self.end(why, &by, &detail).await;
        let Some(EndedSession { session, destruction_due, record }) = ended else {
            return Err(refused(ask.id, Reason::NoSession, "no session is in force"));
        };
        let Some(record) = record else {
            let why = format!(
                "the session {session} is over and its key wiped, but that is not recorded"
            );
            return Err(refused(ask.id, Reason::AuditUnavailable, why));
        };
        Ok(Ended { id: ask.id, session, record, destruction_due })
    }

    /// Ends the session for an operator who asked here, and one that is being activated meanwhile as
    /// it begins: whoever is told that there is none can rely on it.
    ///
    /// # Errors
    /// [`Refused`], if there is none, or if its end is not recorded.
    pub async fn end_surely(self: &Rc<Self>, ask: &EndAsk) -> Result<Ended, Refused> {
        match self.end_asked(ask).await {
            Err(no) if no.reason == Reason::NoSession => {
                let _turn = self.activating.lock().await;
                self.end_asked(ask).await
            }
            ended => ended,
        }
    }

    /// Records what became of a passphrase, never the passphrase.
    pub fn note_unlock(&self, by: &str, outcome: &str) {
        let record = Record::Unlock(Unlock { actor: ACTOR, by, outcome });
        if let Err(error) = self.journal.note(&record) {
            self.log.error("an unlock is not recorded", json!({"error": error.to_string()}));
        }
    }
}

//! The end of a session, which wipes its key first and says so after; and of a key.

use std::rc::Rc;

use serde_json::json;
use signing_core::Kid;
use signing_core::breakglass::End;
use signing_core::breakglass::wire::{
    Answer, Destroy, Destroyed, End as EndAsk, Ended, JournalHead, REASON_MAX_BYTES, Reason,
    Refused, SessionEnded,
};
use signing_core::journal::{ACTOR, KeyDestroyed, Record, SessionEnded as EndedRecord, Unlock};

use super::{Service, head_of, one_line, refused};
use crate::connection::Out;
use crate::keyfile;
use crate::past::{Due, Unended};
use crate::time::{rfc3339, wall_now};

/// A session that is over.
#[derive(Clone, Debug)]
pub struct Over {
    /// Which one.
    pub session: String,
    /// When its key has to be destroyed.
    pub destruction_due: String,
    /// Its record, if that is on disk.
    pub record: Option<JournalHead>,
}

impl Service {
    /// Ends the session in force, if there is one. When this first waits its key is wiped.
    pub async fn end(self: &Rc<Self>, end: End, by: &str, detail: &str) -> Option<Over> {
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
        let over = self.ended(&unended, end, by, detail).await;
        let notice = SessionEnded {
            session: unended.session,
            reason: end.word().to_owned(),
            detail: detail.to_owned(),
            signatures,
            destruction_due: over.destruction_due.clone(),
            record: over.record.clone(),
        };
        // Whoever activated it may be gone, or may not read: nobody waits for that.
        let notice = Out::Now(Box::new(Answer::SessionEnded(notice)));
        if let Err(tokio::sync::mpsc::error::TrySendError::Full(notice)) = out.try_send(notice) {
            tokio::task::spawn_local(async move { out.send(notice).await });
        }
        Some(over)
    }

    /// Records the end of a session, and when its key has to be destroyed.
    pub async fn ended(&self, session: &Unended, end: End, by: &str, detail: &str) -> Over {
        let due = {
            let mut armory = self.armory.borrow_mut();
            let at = rfc3339(wall_now() + self.materials.config.destruction_within);
            // The first session that used a key decides.
            let due = armory.past.due.entry(session.emergency_kid.clone());
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
            Err(trouble) => Err(trouble),
        };
        self.save();
        self.log.warn(
            "a break-glass session is over, and its key wiped; destroy the key",
            json!({"session": session.session, "reason": end.word(), "by": by, "signatures": session.signatures,
                   "emergency_kid": session.emergency_kid, "destruction_due": due}),
        );
        if let Err(trouble) = &appended {
            // The next start finds that it has no end, and records one.
            self.log.error(
                "the end of a session is not recorded",
                json!({"error": trouble.to_string()}),
            );
        }
        Over {
            session: session.session.clone(),
            destruction_due: due,
            record: appended.ok().map(|durable| head_of(&durable)),
        }
    }

    /// Ends the session of a connection that is gone.
    pub async fn gone(self: &Rc<Self>, connection: u64) {
        let is_owner = |active: &super::Active| active.owner == connection;
        if self.armory.borrow().active.as_ref().is_some_and(is_owner) {
            self.end(End::ProxyGone, "breakglass-signer", End::ProxyGone.sentence()).await;
        }
    }

    /// Ends the session because an operator asked the proxy for it.
    ///
    /// # Errors
    /// [`Refused`], if there is none.
    pub async fn end_asked(self: &Rc<Self>, ask: &EndAsk) -> Result<Ended, Refused> {
        let (by, detail) = (one_line(&ask.by, 256), one_line(&ask.reason, REASON_MAX_BYTES));
        let over = self.end(End::Operator, &by, &detail).await;
        let Some(Over { session, destruction_due, record }) = over else {
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

    /// Destroys a key: noted first, so that it is refused from then on whatever happens; then
    /// its file, then the record. Dying between leaves a key that is refused.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn destroy(&self, ask: &Destroy) -> Result<Destroyed, Refused> {
        let kid = &ask.emergency_kid;
        let no = |reason, detail: String| refused(ask.id, reason, detail);
        let held = self.materials.keys.iter().find(|(held, _)| held.as_str() == kid);
        let Some((_, held)) = held else {
            return Err(no(
                Reason::OutOfScope,
                format!(
                    "this signer holds no emergency key {kid}; [[emergency_keys]] names the ones that it does: {}",
                    self.materials.keys.keys().map(Kid::as_str).collect::<Vec<_>>().join(", ")
                ),
            ));
        };
        let sha256 = held.signer.public_key.sha256_hex();
        {
            // Not while an activation opens it.
            let _turn = self.activating.lock().await;
            let mut armory = self.armory.borrow_mut();
            let uses =
                |active: &super::Active| active.session.request().emergency_kid().as_str() == kid;
            if armory.active.as_ref().is_some_and(uses) {
                let why = format!(
                    "a session uses {kid}; end it first: signctl breakglass end --reason ..."
                );
                return Err(no(Reason::OutOfScope, why));
            }
            armory.past.destroy(kid, &sha256);
        }
        if let Err(error) = self.store.save(&self.stored()) {
            let why =
                format!("that {kid} is destroyed can not be noted, so its file stays: {error}");
            return Err(no(Reason::AuditUnavailable, why));
        }
        let overwritten = keyfile::destroy(&held.file).map_err(|error| {
            let why = format!(
                "{} can not be removed: {error}; the key is refused all the same",
                held.file.display()
            );
            no(Reason::KeyFailed, why)
        })?;
        let (by, reason) = (one_line(&ask.by, 256), one_line(&ask.reason, REASON_MAX_BYTES));
        let record = Record::KeyDestroyed(KeyDestroyed {
            actor: ACTOR,
            by: &by,
            emergency_key_sha256: &sha256,
            emergency_kid: kid,
            overwritten,
            reason: &reason,
        });
        let appended = match self.journal.begin_append(&record) {
            Ok(appending) => appending.durable().await,
            Err(trouble) => Err(trouble),
        };
        self.log.warn(
            "an emergency key is destroyed",
            json!({"emergency_kid": kid, "overwritten": overwritten}),
        );
        let durable = appended.map_err(|trouble| {
            no(
                Reason::AuditUnavailable,
                format!("{kid} is destroyed, but that is not recorded: {trouble}"),
            )
        })?;
        Ok(Destroyed {
            id: ask.id,
            emergency_kid: kid.clone(),
            overwritten,
            record: head_of(&durable),
        })
    }

    /// Records what became of a passphrase, never the passphrase.
    pub fn note_unlock(&self, by: &str, outcome: &str) {
        let record = Record::Unlock(Unlock { actor: ACTOR, by, outcome });
        if let Err(trouble) = self.journal.note(&record) {
            self.log.error("an unlock is not recorded", json!({"error": trouble.to_string()}));
        }
    }
}

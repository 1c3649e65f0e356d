//! The destruction of a key: it is refused from the first step on, and due until the last one.
//!
//! The proxy alone may only finish what a session began: a key that is due has to go anyway. Whoever
//! wants a key gone earlier is an operator of this signer, past the proxy.

use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use audit::Durable;
use host::clock::{now, rfc3339_seconds, wall_now};
use serde_json::json;
use signing_core::Kid;
use signing_core::breakglass::wire::{
    Attested, Destroy, Destroyed, REASON_MAX_BYTES, Reason, Refused,
};
use signing_core::journal::{ACTOR, CopyDestroyed, KeyDestroyed, Record};
use tokio::task::{JoinError, spawn_local};

use super::{Armory, Service, one_line, record_of, refused};
use crate::history::Due;
use crate::keyfile;
use crate::materials::Held;

/// Refused destructions in a row that the log tells of, and how often one more: a peer can ask for
/// as many as it likes.
const TOLD_BURST: u32 = 5;
const TOLD_EVERY_S: u64 = 10;

/// Over which socket a destruction is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedOver {
    /// `signer.sock`: a key that is due.
    Proxy,
    /// `operator.sock`: any key, at any time that no session uses it.
    Operator,
}

/// Why a key is not destroyed.
enum Undone {
    /// Nothing was touched.
    Refused(Refused),
    /// It began: the key is refused from then on, and due.
    Failed(Refused),
}

impl Service {
    /// Destroys a key: noted first, so that it is refused from then on whatever happens; then
    /// its file, then the record. Whatever fails, or dying between, leaves a key that is refused
    /// and still due, so that it is asked for again.
    ///
    /// One after the other. Whoever goes before its turn leaves nothing behind. What began is finished, though whoever
    /// asked is gone.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn destroy(
        self: &Rc<Self>,
        via: AskedOver,
        ask: Destroy,
    ) -> Result<Destroyed, Refused> {
        let turn = Arc::clone(&self.destroying).lock_owned().await;
        let (service, id) = (Rc::clone(self), ask.id);
        let destroying = spawn_local(async move {
            let destroyed = service.destroy_in_turn(via, &ask).await;
            drop(turn);
            destroyed
        });
        let failed =
            |error: JoinError| Err(refused(id, Reason::AuditUnavailable, error.to_string()));
        destroying.await.unwrap_or_else(failed)
    }

    async fn destroy_in_turn(&self, via: AskedOver, ask: &Destroy) -> Result<Destroyed, Refused> {
        // A peer's word may name no key at all.
        let kid = one_line(&ask.emergency_kid, 128);
        match self.destroyed(via, ask).await {
            Ok(destroyed) => {
                self.log.warn(
                    "an emergency key is destroyed",
                    json!({"emergency_kid": kid, "overwritten": destroyed.overwritten}),
                );
                Ok(destroyed)
            }
            Err(Undone::Refused(no)) => {
                if self.refused_destructions.borrow_mut().take(now(), TOLD_BURST, TOLD_EVERY_S) {
                    let by = one_line(&ask.by, 256);
                    self.log.warn(
                        "a destruction is refused, and nothing changed",
                        json!({"emergency_kid": kid, "by": by, "error": no.detail}),
                    );
                }
                Err(no)
            }
            Err(Undone::Failed(no)) => {
                self.log.error(
                    "an emergency key is not destroyed; it stays due",
                    json!({"emergency_kid": kid, "error": no.detail}),
                );
                Err(no)
            }
        }
    }

    async fn destroyed(&self, via: AskedOver, ask: &Destroy) -> Result<Destroyed, Undone> {
        let kid = &ask.emergency_kid;
        let refuse = |why: String| Undone::Refused(refused(ask.id, Reason::OutOfScope, why));
        let no = |reason, detail: String| Undone::Failed(refused(ask.id, reason, detail));
        Kid::parse(kid).map_err(|error| refuse(format!("emergency_kid: {error}")))?;
        let left = self.copies_left(&self.armory.borrow(), kid);
        known(&left, &ask.attested).map_err(refuse)?;
        let is_gone = self.armory.borrow().history.copies.contains_key(kid);
        if is_gone {
            if ask.attested.is_empty() {
                return Err(refuse(format!(
                    "the file of {kid} is gone, and nobody has attested that its copies are destroyed: \
                     --attest COPY=WHO for each of: {}",
                    left.join(", ")
                )));
            }
            return self.attest(ask, false, None).await;
        }
        let held = self.held(kid).map_err(refuse)?;
        let sha256 = held.signer.public_key.sha256_hex();
        {
            // Not while an activation opens it.
            let _turn = self.activating.lock().await;
            let mut armory = self.armory.borrow_mut();
            may_destroy(&armory, via, kid).map_err(refuse)?;
            armory.history.refuse(kid, &sha256);
            let at = rfc3339_seconds(wall_now() + self.materials.config.destruction_within);
            // One that no session used is asked for too, once somebody began.
            armory.history.due.entry(kid.clone()).or_insert(Due { at, told: false });
        }
        if let Err(error) = self.saved().await {
            let why =
                format!("that {kid} is destroyed cannot be noted, so its file stays: {error}");
            return Err(no(Reason::AuditUnavailable, why));
        }
        let file = held.file.clone();
        let gone = self.destroyer.run(move || keyfile::destroy(&file)).await;
        let overwritten = gone.map_err(io::Error::other).flatten().map_err(|error| {
            let why = format!(
                "{} is not removed: {error}; the key is refused all the same, and stays due: fix \
                 that, and destroy it again",
                held.file.display()
            );
            no(Reason::KeyFailed, why)
        })?;
        let copies = self.copies_of(&self.armory.borrow(), kid);
        let recorded = self.record_destroyed(ask, &sha256, (overwritten, &copies)).await;
        let durable = recorded.map_err(|error| {
            let why = format!(
                "the file of {kid} is gone, but that is not recorded, so it stays due: {error}; \
                 destroy it again once the journal can be written"
            );
            no(Reason::AuditUnavailable, why)
        })?;
        self.armory.borrow_mut().history.gone(kid, copies, &rfc3339_seconds(wall_now()));
        self.save();
        self.attest(ask, overwritten, Some(&durable)).await
    }

    /// Notes what somebody attests, one record for each copy. `newest`: the record before them. If one is not
    /// recorded, that copy and those behind it are left, and are attested again.
    async fn attest(
        &self,
        ask: &Destroy,
        overwritten: bool,
        newest: Option<&Durable>,
    ) -> Result<Destroyed, Undone> {
        let kid = &ask.emergency_kid;
        let (by, reason) = (one_line(&ask.by, 256), one_line(&ask.reason, REASON_MAX_BYTES));
        let mut record = newest.map(record_of);
        for Attested { copy, by: who } in &ask.attested {
            let attested_by = one_line(who, REASON_MAX_BYTES);
            let attesting = Record::CopyDestroyed(CopyDestroyed {
                actor: ACTOR,
                attested_by: &attested_by,
                by: &by,
                copy,
                emergency_kid: kid,
                reason: &reason,
            });
            let recorded = match self.journal.begin_append(&attesting) {
                Ok(appending) => appending.durable().await,
                Err(error) => Err(error),
            };
            let durable = recorded.map_err(|error| {
                let why = format!(
                    "that the copy {copy:?} of {kid} is destroyed is not recorded, so it stays due: \
                     {error}; attest it again once the journal can be written"
                );
                Undone::Failed(refused(ask.id, Reason::AuditUnavailable, why))
            })?;
            self.armory.borrow_mut().history.attested(kid, copy);
            record = Some(record_of(&durable));
        }
        self.save();
        let record = record.ok_or_else(|| {
            Undone::Refused(refused(ask.id, Reason::Invalid, "nothing was attested"))
        })?;
        let copies_left = self.copies_left(&self.armory.borrow(), kid);
        Ok(Destroyed { id: ask.id, emergency_kid: kid.clone(), overwritten, copies_left, record })
    }

    /// The key's file, or why there is none.
    fn held(&self, kid: &str) -> Result<&Held, String> {
        let found = self.materials.keys.iter().find(|(held, _)| held.as_str() == kid);
        if let Some((_, held)) = found {
            return Ok(held);
        }
        let mut orphans = self.materials.orphans(&self.armory.borrow().history);
        Err(orphans.remove(kid).unwrap_or_else(|| {
            format!(
                "this signer holds no emergency key {kid}; [[emergency_keys]] names the ones that it does: {}",
                self.materials.keys.keys().map(Kid::as_str).collect::<Vec<_>>().join(", ")
            )
        }))
    }

    async fn record_destroyed(
        &self,
        ask: &Destroy,
        sha256: &str,
        (overwritten, copies): (bool, &BTreeSet<String>),
    ) -> Result<Durable, audit::JournalError> {
        let (by, reason) = (one_line(&ask.by, 256), one_line(&ask.reason, REASON_MAX_BYTES));
        let record = Record::KeyDestroyed(KeyDestroyed {
            actor: ACTOR,
            by: &by,
            copies: copies.iter().map(String::as_str).collect(),
            emergency_key_sha256: sha256,
            emergency_kid: &ask.emergency_kid,
            overwritten,
            reason: &reason,
        });
        self.journal.begin_append(&record)?.durable().await
    }
}

/// Whether each copy is one that is left, named once, and somebody answers for it.
fn known(left: &[String], attested: &[Attested]) -> Result<(), String> {
    let mut named = BTreeSet::new();
    for Attested { copy, by } in attested {
        if !left.contains(copy) {
            let left = if left.is_empty() { "none".to_owned() } else { left.join(", ") };
            return Err(format!("there is no copy {copy:?} that is left; left are: {left}"));
        }
        if !named.insert(copy) {
            return Err(format!("the copy {copy:?} is attested twice; name it once"));
        }
        if by.trim().is_empty() {
            return Err(format!("nobody attests that the copy {copy:?} is destroyed: COPY=WHO"));
        }
    }
    Ok(())
}

/// Whether the destruction of that key may begin, or go on.
fn may_destroy(armory: &Armory, via: AskedOver, kid: &str) -> Result<(), String> {
    let uses = |active: &super::Active| active.session.request().emergency_kid().as_str() == kid;
    if armory.active.as_ref().is_some_and(uses) {
        return Err(format!(
            "a session uses {kid}; end it first: signctl breakglass end --reason ..."
        ));
    }
    match via {
        AskedOver::Operator => Ok(()),
        AskedOver::Proxy if armory.history.due.contains_key(kid) => Ok(()),
        AskedOver::Proxy if armory.history.destroyed.contains(kid) => {
            Err(format!("{kid} is destroyed already: its file is gone, and that is recorded"))
        }
        AskedOver::Proxy => Err(format!(
            "{kid} is not due for destruction, since no session used it, and a proxy may destroy only a \
             key that is due; an operator of the signer may destroy it now: signctl breakglass destroy \
             {kid} --reason ... --operator-socket /run/breakglass-signer/operator.sock"
        )),
    }
}

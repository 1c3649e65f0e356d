//! The destruction of a key: it is refused from the first step on, and due until the last one.

use audit::Durable;
use serde_json::json;
use signing_core::Kid;
use signing_core::breakglass::wire::{Destroy, Destroyed, REASON_MAX_BYTES, Reason, Refused};
use signing_core::journal::{ACTOR, KeyDestroyed, Record};

use super::{Service, head_of, one_line, refused};
use crate::keyfile;
use crate::materials::Held;
use crate::past::Due;
use crate::time::{rfc3339, wall_now};

impl Service {
    /// Destroys a key: noted first, so that it is refused from then on whatever happens; then
    /// its file, then the record. Whatever fails, or dying between, leaves a key that is refused
    /// and still due, so that it is asked for again.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn destroy(&self, ask: &Destroy) -> Result<Destroyed, Refused> {
        let kid = &ask.emergency_kid;
        let destroyed = self.destroyed(ask).await;
        match &destroyed {
            Ok(destroyed) => self.log.warn(
                "an emergency key is destroyed",
                json!({"emergency_kid": kid, "overwritten": destroyed.overwritten}),
            ),
            Err(no) => self.log.error(
                "an emergency key is not destroyed; it stays due",
                json!({"emergency_kid": kid, "error": no.detail}),
            ),
        }
        destroyed
    }

    async fn destroyed(&self, ask: &Destroy) -> Result<Destroyed, Refused> {
        let kid = &ask.emergency_kid;
        let no = |reason, detail: String| refused(ask.id, reason, detail);
        let held = self.held(kid).map_err(|why| no(Reason::OutOfScope, why))?;
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
            armory.past.refuse(kid, &sha256);
            let at = rfc3339(wall_now() + self.materials.config.destruction_within);
            // One that no session used is asked for too, once somebody began.
            armory.past.due.entry(kid.clone()).or_insert(Due { at, told: false });
        }
        if let Err(error) = self.store.save(&self.stored()) {
            let why =
                format!("that {kid} is destroyed can not be noted, so its file stays: {error}");
            return Err(no(Reason::AuditUnavailable, why));
        }
        let overwritten = keyfile::destroy(&held.file).map_err(|error| {
            let why = format!(
                "{} is not removed: {error}; the key is refused all the same, and stays due: mend \
                 that, and destroy it again",
                held.file.display()
            );
            no(Reason::KeyFailed, why)
        })?;
        let durable = self.record_destroyed(ask, &sha256, overwritten).await.map_err(|trouble| {
            let why = format!(
                "the file of {kid} is gone, but that is not recorded, so it stays due: {trouble}; \
                 destroy it again once the journal can be written"
            );
            no(Reason::AuditUnavailable, why)
        })?;
        self.armory.borrow_mut().past.gone(kid);
        self.save();
        Ok(Destroyed {
            id: ask.id,
            emergency_kid: kid.clone(),
            overwritten,
            record: head_of(&durable),
        })
    }

    /// The key's file, or why there is none.
    fn held(&self, kid: &str) -> Result<&Held, String> {
        let found = self.materials.keys.iter().find(|(held, _)| held.as_str() == kid);
        if let Some((_, held)) = found {
            return Ok(held);
        }
        let mut orphans = self.materials.orphans(&self.armory.borrow().past);
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
        overwritten: bool,
    ) -> Result<Durable, audit::Trouble> {
        let (by, reason) = (one_line(&ask.by, 256), one_line(&ask.reason, REASON_MAX_BYTES));
        let record = Record::KeyDestroyed(KeyDestroyed {
            actor: ACTOR,
            by: &by,
            emergency_key_sha256: sha256,
            emergency_kid: &ask.emergency_kid,
            overwritten,
            reason: &reason,
        });
        self.journal.begin_append(&record)?.durable().await
    }
}

//! The end of the signer's seal: recorded first, and over after.

use host::clock::wall_now;
use serde_json::json;
use signing_core::breakglass::wire::{Reason, Refused, Unsealed};
use signing_core::journal::{Record, Unseal, clip};

use super::{Service, record_of, refused};

impl Service {
    /// Ends the seal, for `by`, once that is on disk. From then on the journal's times before it count no
    /// more: whoever ended it answered for the clock. Dying before it is stored leaves the seal, which can
    /// be ended again.
    ///
    /// # Errors
    /// [`Refused`]; it is sealed as before, or was not sealed.
    pub async fn unseal(&self, id: u64, reason: &str, by: &str) -> Result<Unsealed, Refused> {
        let sealed_for = self.seal.borrow().as_ref().map(|seal| seal.detail.clone());
        let Some(sealed_for) = sealed_for else {
            return Err(refused(id, Reason::Invalid, "this signer is not sealed"));
        };
        let record = Record::Unseal(Unseal {
            by,
            reason: clip(reason),
            sealed_for: clip(&sealed_for),
            signer_kid: None,
        });
        let unrecorded = |error: audit::JournalError| {
            refused(id, Reason::AuditUnavailable, format!("it stays sealed: {error}"))
        };
        let appending = self.journal.begin_append(&record).map_err(unrecorded)?;
        let durable = appending.durable().await.map_err(unrecorded)?;
        *self.seal.borrow_mut() = None;
        self.latest.set(wall_now());
        // The journal's records do not lift it at a start, so whoever asked hears of it once it is stored. That it
        // cannot be is in the log.
        let _ = self.saved().await;
        self.log.warn(
            "an operator ended the seal",
            json!({"by": by, "reason": reason, "sealed_for": sealed_for}),
        );
        Ok(Unsealed { id, sealed_for, record: record_of(&durable) })
    }

    /// Says that it is sealed, and stores it.
    pub async fn note_seal(&self) {
        let detail = self.seal.borrow().as_ref().map(|seal| seal.detail.clone());
        if let Some(detail) = detail {
            self.log.error("sealed: no break-glass session begins", json!({"error": detail}));
            self.save_in_time().await;
        }
    }
}

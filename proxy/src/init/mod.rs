//! What is made on purpose: `signing-proxy init`, a new journal, and `state rebuild`.

mod rebuild;

use audit::{AuditKey, OpenError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::clock::wall_now;
use signing_core::journal::{self, Record};

use crate::materials::{Materials, RegisteredAuditKey};
use crate::monitor::{Store, StoreError, Witness};

pub use rebuild::{RebuildError, Rebuilt, rebuild};

/// Why there is no new journal.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal cannot be made.
    #[error("audit.dir {0}")]
    Journal(OpenError),
}

impl From<OpenError> for InitError {
    fn from(error: OpenError) -> Self {
        Self::Journal(error)
    }
}

/// Makes the journal that the configuration names. If there was another one here, as the
/// state directory knows, the new one's first record says so.
///
/// # Errors
/// [`InitError`]; a journal that is there stays as it is.
pub fn init(materials: &Materials) -> Result<Witness, InitError> {
    let Materials { config, audit_key: RegisteredAuditKey { key, kid, .. }, .. } = materials;
    let (store, stored) = Store::open(&config.state_dir)?;
    // A freeze and seals that are stored stay in force.
    let mut state = stored.unwrap_or_default();
    let replaces =
        state.witness.map(|Witness { log, head }| format!("{log}:{}:{}", head.size, head.root));
    let (audit_key, by) = (public(key), host::user::ourselves());
    let record = Record::Init(journal::Init {
        audit_key: &audit_key,
        audit_kid: kid.as_str(),
        by: &by,
        deployment: &config.deployment,
        replaces: replaces.as_deref(),
    });
    let (directory, bytes) = (&config.audit.dir, config.audit.segment_bytes);
    let (log, head) = audit::init(directory, bytes, key, &record, wall_now())?;
    // Dying before this is stored leaves a journal that the next start refuses, if there was
    // another one, as not the one that was here; bringing that one back or `init` again helps.
    let witness = Witness { log, head };
    state.witness = Some(witness);
    store.save(&state)?;
    Ok(witness)
}

/// Base64 of the DER SubjectPublicKeyInfo.
fn public(key: &AuditKey) -> String {
    STANDARD.encode(key.public().spki_der())
}

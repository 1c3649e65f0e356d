//! What is made on purpose: `signing-proxy init`, a new journal, and `state rebuild`.

mod rebuild;

use std::path::Path;

use audit::replica::{decide_by, use_up};
use audit::{AuditKey, OpenError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::clock::wall_now;
use monitor::{Store, StoreError, Witness};
use signing_core::journal::{self, Record};
use signing_core::replica::{Decision, NewReplica, Refused, ReplicaName};

use crate::materials::{Materials, RegisteredAuditKey};

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
    /// It may not begin by itself.
    #[error("audit.dir {directory}: nothing was made: {why}; {}", .why.fix("signing-proxy"))]
    Refused {
        /// The journal's directory.
        directory: String,
        /// Why the sinks do not allow a new journal.
        why: Refused,
    },
    /// The answer of the sinks is good for one journal, and is still there.
    #[error(
        "{file}: the journal is made, and this answer cannot be removed: {error}; remove it, then start"
    )]
    Answer {
        /// The answer's file.
        file: String,
        /// What the system answered.
        error: std::io::Error,
    },
}

impl From<OpenError> for InitError {
    fn from(error: OpenError) -> Self {
        Self::Journal(error)
    }
}

/// Makes the journal of a replica that no sink has ever heard of. None: it has its journal, and nothing
/// was made.
///
/// # Errors
/// [`InitError`]: also if it cannot be excluded that there was a journal before.
pub fn init_if_absent(
    materials: &Materials,
    replica: &ReplicaName,
    answer: &Path,
) -> Result<Option<Witness>, InitError> {
    let config = &materials.config;
    let places = (config.audit.dir.as_path(), &*Store::file_in(&config.state_dir));
    let made = match decide_by(places, replica, "signing-proxy", answer) {
        Decision::Make(new) => Some(make(materials, Some(&new))?),
        Decision::Keep => None,
        Decision::Refuse(why) => {
            let directory = config.audit.dir.display().to_string();
            return Err(InitError::Refused { directory, why });
        }
    };
    // Dying before this leaves an answer that the next run finds beside the journal, and removes.
    let still_there = |error| InitError::Answer { file: answer.display().to_string(), error };
    use_up(answer).map_err(still_there)?;
    Ok(made)
}

/// Makes the journal that the configuration names, as a person asked. If there was another one here, as the
/// state directory knows, the new one's first record says so.
///
/// # Errors
/// [`InitError`]; a journal that is there stays as it is.
pub fn init(materials: &Materials) -> Result<Witness, InitError> {
    make(materials, None)
}

fn make(materials: &Materials, new: Option<&NewReplica>) -> Result<Witness, InitError> {
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
        new_replica: new.map(|new| new.name().as_str()),
        replaces: replaces.as_deref(),
    });
    let (directory, bytes) = (&config.audit.dir, config.audit.segment_bytes);
    let (log, head) = audit::init(directory, bytes, key, &record, wall_now())?;
    // Dying before this is stored leaves a journal that the next start refuses, if there was
    // another one, as not the one that was here; bringing that one back or `init` again helps.
    let witness = Witness { log, head };
    state.witness = Some(witness);
    store.save(&state)?;
    // Whoever reads it may look before the proxy serves, which does this again and says what is wrong.
    if let Some(group) = config.audit.reader_group {
        let _ = audit::let_in(directory, group);
    }
    Ok(witness)
}

/// Base64 of the DER SubjectPublicKeyInfo.
fn public(key: &AuditKey) -> String {
    STANDARD.encode(key.public().spki_der())
}

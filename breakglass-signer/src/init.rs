//! `breakglass-signer init`: a new journal, once, on purpose.

use audit::AuditKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::clock::wall_now;
use host::user::LocalUsers;
use nix::unistd::Uid;
use signing_core::breakglass::wire::JournalHead;
use signing_core::journal::{Init, Record};

use crate::materials::Materials;
use crate::store::Store;

/// Makes the journal that the configuration names. If there was another one here, as the
/// state directory knows, the new one's first record says so.
///
/// # Errors
/// If it cannot be made; one that is there stays as it is.
pub fn init(materials: &Materials, audit_key: &AuditKey) -> anyhow::Result<JournalHead> {
    let Materials { config, audit_kid, .. } = materials;
    let store = Store::new(&config.state_dir);
    let mut stored = store.read(&config.journal_dir)?;
    // Before the journal: one without this file does not start.
    store.begin(&stored)?;
    let replaces = stored.witness.as_ref().map(JournalHead::to_text);
    let public = STANDARD.encode(audit_key.public().spki_der());
    let by = LocalUsers::read().named(Uid::effective().as_raw());
    let record = Record::Init(Init {
        audit_key: &public,
        audit_kid: audit_kid.as_str(),
        by: &by,
        deployment: &config.deployment,
        replaces: replaces.as_deref(),
    });
    let (log, head) =
        audit::init(&config.journal_dir, config.segment_bytes, audit_key, &record, wall_now())?;
    // Dying before this is stored leaves a journal that the next start refuses, if there was
    // another one, as not the one that was here; `init` again helps after it is moved away.
    let witness = JournalHead::new(log, head);
    stored.witness = Some(witness.clone());
    store.save(&stored)?;
    Ok(witness)
}

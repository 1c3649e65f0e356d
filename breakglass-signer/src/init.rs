//! `breakglass-signer init`: a new journal, once, on purpose; and its audit key beside it, which nobody
//! hands in from outside.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use audit::replica::{decide_by, use_up};
use audit::{AuditKey, Presence};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::clock::wall_now;
use host::environment::Environment;
use host::user::LocalUsers;
use nix::unistd::Uid;
use signing_core::breakglass::wire::JournalHead;
use signing_core::journal::{Init, Record};
use signing_core::replica::{Decision, NewReplica, ReplicaName};

use crate::config::Config;
use crate::keyfile;
use crate::materials::Materials;
use crate::store::Store;

/// What a sink has to have said before a journal is made without a person.
#[derive(Clone, Debug)]
pub struct IfAbsent {
    /// The replica's name.
    pub replica: ReplicaName,
    /// The file with the answer.
    pub answer: PathBuf,
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The journal's directory.
    pub directory: PathBuf,
    /// The new log; none: the journal is there, and nothing was made.
    pub head: Option<JournalHead>,
}

/// Makes the journal that the configuration names, and the audit key where there is none yet. The key
/// has to be registered before the journal begins: until then every run fails, and says how to.
///
/// # Errors
/// If it cannot be made, or may not be; a journal that is there stays as it is.
pub fn init(
    file: &Path,
    environment: &Environment,
    if_absent: Option<&IfAbsent>,
) -> anyhow::Result<Made> {
    let (config, mistakes) = Config::draft(file, environment)?;
    let directory = config.journal_dir.clone();
    let new = match if_absent {
        None => None,
        // Where the directories are is not certain then. The load says what is wrong. If nothing is wrong any more,
        // the file was replaced in between, and nobody has asked whether a journal may be made.
        Some(_) if !mistakes.is_empty() => {
            Materials::load(file, environment)?;
            bail!("{}: it was changed while it was read; run this again", file.display())
        }
        Some(IfAbsent { replica, answer }) => {
            let state = Store::new(&config.state_dir).file();
            match decide_by((&directory, &state), replica, "breakglass-signer", answer) {
                Decision::Make(new) => Some(new),
                Decision::Keep => {
                    use_up(answer).with_context(|| answer.display().to_string())?;
                    return Ok(Made { directory, head: None });
                }
                Decision::Refuse(why) => {
                    let fix = why.fix("breakglass-signer");
                    bail!("audit.dir {}: nothing was made: {why}; {fix}", directory.display())
                }
            }
        }
    };
    // A journal without its key is not helped by another key.
    let is_first = Presence::inspect(&directory, "").is_there == Some(false);
    let key_file = &config.audit_key_file;
    if mistakes.is_empty()
        && is_first
        && !key_file.as_os_str().is_empty()
        && !keyfile::is_there(key_file)
    {
        // Dying behind this leaves a key and no journal: the next run takes that key.
        AuditKey::create(key_file)
            .with_context(|| format!("audit.key_file: {} cannot be made", key_file.display()))?;
    }
    let (materials, audit_keys) = Materials::load(file, environment)?;
    let head = make(&materials, &audit_keys.key, new.as_ref())?;
    if let Some(IfAbsent { answer, .. }) = if_absent {
        // Dying before this leaves an answer that the next run finds beside the journal, and removes.
        use_up(answer).with_context(|| {
            format!("{}: the journal is made, and this answer cannot be removed", answer.display())
        })?;
    }
    Ok(Made { directory, head: Some(head) })
}

/// If there was another journal here, as the state directory knows, the new one's first record says so.
fn make(
    materials: &Materials,
    audit_key: &AuditKey,
    new: Option<&NewReplica>,
) -> anyhow::Result<JournalHead> {
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
        new_replica: new.map(|new| new.name().as_str()),
        replaces: replaces.as_deref(),
    });
    let (log, head) =
        audit::init(&config.journal_dir, config.segment_bytes, audit_key, &record, wall_now())?;
    // Dying before this is stored leaves a journal that the next start refuses, if there was
    // another one, as not the one that was here; `init` again helps after it is moved away.
    let witness = JournalHead::new(log, head);
    stored.witness = Some(witness.clone());
    store.save(&stored)?;
    // Whoever reads it may look before `serve`, which does this again and says what is wrong.
    if let Some(group) = config.reader_group {
        let _ = audit::let_in(&config.journal_dir, group);
    }
    Ok(witness)
}

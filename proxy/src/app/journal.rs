//! The journal at the start: what its files say, held against what the state directory knows.

use std::fs;
use std::path::Path;

use audit::{OpenError, Opened, WriterKeys};
use signing_core::journal::AuditKeys;
use signing_core::{Kid, Registry};
use time::OffsetDateTime;

use crate::config::Config;
use crate::materials::RegisteredAuditKey;
use crate::monitor::{Stored, Witness};

/// Opens the journal and compares it with what the state directory knows of it.
pub(super) fn open_journal(
    config: &Config,
    audit_key: RegisteredAuditKey,
    registry: &Registry,
    stored: Option<&Stored>,
) -> Result<(Kid, Opened), OpenError> {
    let RegisteredAuditKey { key, previous, kid } = audit_key;
    let (keys, registered) = (WriterKeys { key, previous }, AuditKeys::of_registry(registry));
    let known = stored.and_then(|stored| stored.witness).map(|Witness { log, head }| (log, head));
    let opened = Opened::open(&config.audit.dir, keys, &registered, known)?;
    let (log, seq) = (opened.log(), opened.head().size);
    let open_intents = opened.open_intents();
    match opened.cut() {
        Some(cut) => {
            let cut_bytes = cut.bytes;
            tracing::warn!(target: "audit", %log, seq, open_intents, cut_bytes, "a torn write was cut");
        }
        None => tracing::info!(target: "audit", %log, seq, open_intents, "journal"),
    }
    Ok((kid, opened))
}

/// When this machine last wrote one of the journal's files; None if that cannot be told.
pub(super) fn newest_write(journal: &Path) -> Option<OffsetDateTime> {
    let files = fs::read_dir(journal).ok()?.filter_map(Result::ok);
    let written = files.filter_map(|file| file.metadata().ok()?.modified().ok());
    written.max().map(OffsetDateTime::from)
}

//! The disk at the start: what the journal's files say, held against what the state directory knows.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use audit::{
    Claims, Clock, FillError, Identity, Journal, Known, Observer, OpenError, Opened, TreeFile,
    WriterKeys,
};
use breakglass::heads::Heads;
use configuration::{Config, Environment};
use host::clock::{now, wall_now};
use monitor::{Store, StoreError, Stored, Witness};
use signing_core::journal::{AuditKeys, KeyModes};
use signing_core::{Kid, Registry};
use telemetry::events::Events;
use telemetry::metrics::{JournalObserver, Metrics};
use time::OffsetDateTime;

use super::StartError;
use crate::materials::{self, RegisteredAuditKey};

/// Freeze and seals in force, and the journal, which nobody writes yet.
pub(super) struct StateOnDisk {
    store: Store,
    state: Stored,
    opened: Opened,
    audit_kid: Kid,
    registered: AuditKeys,
    /// When this machine last wrote one of the journal's files.
    pub(super) written: Option<OffsetDateTime>,
}

impl StateOnDisk {
    /// Reads it, and stores what follows from both. What can fail for good fails here.
    pub(super) fn open(
        config: &Config,
        audit_key: RegisteredAuditKey,
        registry: &Registry,
        (environment, known): (&Environment, Vec<Known>),
    ) -> Result<Self, StartError> {
        let (store, stored) = Store::open(&config.state_dir)?;
        let registered = AuditKeys::of_registry(registry);
        let (audit_kid, opened) =
            open_journal(config, audit_key, &registered, (stored.as_ref(), known))?;
        if let Some(group) = config.audit.reader_group {
            audit::let_in(&config.audit.dir, group)?;
        }
        let stored = stored.ok_or_else(|| StoreError::Missing(store.file()))?;
        let state = stored.clone().with(opened.in_force()).frozen_by(environment);
        let mut state = state.sealed_by_clock(opened.written_at(), wall_now());
        let key_modes = materials::key_modes(&state.in_force.key_modes, config, registry);
        state.in_force.key_modes = key_modes.map_err(StartError::KeyModes)?;
        if state != stored {
            store.save(&state)?;
        }
        let written = newest_write(&config.audit.dir);
        Ok(Self { store, state, opened, audit_kid, registered, written })
    }

    /// In which mode keys were registered, with those of the registry.
    pub(super) fn key_modes(&self) -> KeyModes {
        self.state.in_force.key_modes.clone()
    }

    /// Starts the journal's writer; returns the journal, what it says of the emergency signer's log, and
    /// what the monitor stores.
    pub(super) fn start(
        self,
        config: &Config,
        metrics: &Arc<Metrics>,
        events: &Events,
    ) -> Result<(Journal, Heads, (Store, Stored)), StartError> {
        let Self { store, state, opened, audit_kid, registered, .. } = self;
        let required = config.trail.required().map(|trail| format!("uid {}", trail.uid));
        let identity = Identity {
            deployment: &config.deployment,
            audit_kid: audit_kid.as_str(),
            version: env!("CARGO_PKG_VERSION"),
            required_trail: required.as_deref(),
            in_force: &state.in_force,
        };
        let clock = Clock { now, wall: wall_now };
        let observer = JournalObserver::new(Arc::clone(metrics), events.clone());
        let tree = tree(config, &opened)?;
        let observer: Box<dyn Observer> = match &tree {
            Some(tree) => Box::new((observer, tree.observer())),
            None => Box::new(observer),
        };
        let journal = opened.start(&identity, config.audit.segment_bytes, clock, observer)?;
        let known = state.in_force.signer_logs.clone();
        let heads = Heads::new(journal.clone(), tree, registered, known);
        Ok((journal, heads, (store, state)))
    }
}

/// Opens the journal and compares it with what the state directory knows of it.
fn open_journal(
    config: &Config,
    audit_key: RegisteredAuditKey,
    registered: &AuditKeys,
    (stored, mut known): (Option<&Stored>, Vec<Known>),
) -> Result<(Kid, Opened), OpenError> {
    let RegisteredAuditKey { key, previous, kid } = audit_key;
    let keys = WriterKeys { key, previous };
    let witness = stored.and_then(|stored| stored.witness);
    known.extend(witness.map(|Witness { log, head }| Known::of_state((log, head))));
    let ask = |log| breakglass::emergency::known_of(config, log);
    let claims = Claims { known, ask: Some(&ask) };
    let opened = Opened::open(&config.audit.dir, keys, registered, claims)?;
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

/// The nodes of the journal's tree, where there is an emergency signer to show them to.
fn tree(config: &Config, opened: &Opened) -> Result<Option<TreeFile>, StartError> {
    if config.breakglass.signer_socket.is_none() {
        return Ok(None);
    }
    let tree = TreeFile::open(&config.state_dir).map_err(FillError::from)?;
    tree.fill(&config.audit.dir, opened.head().size)?;
    Ok(Some(tree))
}

/// When this machine last wrote one of the journal's files; None if that cannot be told.
fn newest_write(journal: &Path) -> Option<OffsetDateTime> {
    let files = fs::read_dir(journal).ok()?.filter_map(Result::ok);
    let written = files.filter_map(|file| file.metadata().ok()?.modified().ok());
    written.max().map(OffsetDateTime::from)
}

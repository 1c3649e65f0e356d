//! A reload: the configuration and its files are read again, and the rulebook, the signers,
//! the thresholds and the TLS material in them take the place of those in force.
//!
//! All or nothing: every mistake is found before anything changes, and what
//! follows cannot fail halfway.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use audit::Journal;
use configuration::{Config, ConfigError, Draft, Environment};
use host::clock::{now, rfc3339, wall_now};
use monitor::Monitor;
use mtls::ServerTls;
use server::{CallerRates, Connections};
use signing_core::Kid;
use signing_core::journal::{self, KeyId, KeyModes, KeyModesSnapshot, Record, SignersChanged};
use telemetry::metrics::Metrics;
use tokio::sync::Mutex;
use tokio::task::JoinError;

use crate::handles::Handles;
use crate::materials::{self, Materials};
use crate::signers::{Change, SignersInForce};

/// How long reading may take: a file system that hangs must not hang an operator.
const READ_MAX: Duration = Duration::from_secs(5);

/// How long it may take to make new upstreams; nothing is asked of them yet.
const PREPARE_MAX: Duration = Duration::from_secs(5);

/// How long its record may take.
const RECORD_MAX: Duration = Duration::from_secs(5);

/// What a reload needs.
#[derive(Debug)]
pub struct Reloader {
    /// The config file.
    file: PathBuf,
    /// The process's environment, which does not change.
    environment: Environment,
    /// The configuration in force, and in which mode keys were registered. One reload at a time holds them.
    running: Mutex<Running>,
    /// Where the rulebook is in force.
    monitor: Monitor,
    /// Where the TLS material is in force.
    tls: Arc<ArcSwap<ServerTls>>,
    /// The clients that are in already.
    connections: Connections,
    /// How often each caller may ask.
    rates: Arc<CallerRates>,
    /// Every room that holds something of a signer.
    signers: Arc<SignersInForce>,
    /// Where a reload is recorded before it is in force.
    journal: Journal,
    /// The key that signs its records.
    audit_key: KeyId,
    /// Counts.
    metrics: Arc<Metrics>,
    /// Why the newest reload changed nothing, if it did not.
    refusal: ArcSwapOption<String>,
    /// Why the files of `[server.tls]` that are there now are not in force, if that is to be said.
    certificates_refusal: ArcSwapOption<String>,
}

/// What the next reload is held against.
#[derive(Debug)]
struct Running {
    config: Config,
    key_modes: KeyModes,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// How many configurations were in force since the start.
    pub generation: u64,
    /// SHA-256 of the registry, in hex.
    pub registry_sha256: String,
    /// The signers about which it decides otherwise.
    pub signers_touched: Vec<Kid>,
    /// Clients that were in, and are not let in any more.
    pub connections_cut: usize,
}

/// Why nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// The configuration or one of its files is mistaken, or only a start takes it.
    #[error("nothing changed. {0}")]
    Mistakes(#[from] ConfigError),
    /// Another reload holds the configuration.
    #[error("nothing changed: another reload is under way")]
    Busy,
    /// The files cannot be read in time.
    #[error("nothing changed: reading the files took more than {} s", READ_MAX.as_secs())]
    TooSlow,
    /// It cannot be recorded.
    #[error("nothing changed: it cannot be recorded: {0}")]
    Unrecorded(String),
    /// The monitor does not answer.
    #[error("nothing changed: {0}")]
    Gone(#[from] monitor::MonitorGone),
}

impl Reloader {
    /// Reads that file again, under that environment, when it is asked to; a configuration is in force.
    #[must_use]
    pub fn new(
        handles: &Handles,
        (file, environment, config): (PathBuf, Environment, Config),
        (audit_key, key_modes): (KeyId, KeyModes),
        (tls, rates): (Arc<ArcSwap<ServerTls>>, Arc<CallerRates>),
        signers: Arc<SignersInForce>,
    ) -> Self {
        Self {
            file,
            environment,
            running: Mutex::new(Running { config, key_modes }),
            monitor: handles.monitor.clone(),
            tls,
            connections: handles.connections.clone(),
            rates,
            signers,
            journal: handles.journal.clone(),
            audit_key,
            metrics: Arc::clone(&handles.metrics),
            refusal: ArcSwapOption::empty(),
            certificates_refusal: ArcSwapOption::empty(),
        }
    }

    /// Why the newest reload changed nothing, if it did not.
    #[must_use]
    pub fn refusal(&self) -> Option<Arc<String>> {
        self.refusal.load_full()
    }

    /// Why the files of `[server.tls]` that are there now are not in force, if that is to be said.
    #[must_use]
    pub fn certificates_refusal(&self) -> Option<Arc<String>> {
        self.certificates_refusal.load_full()
    }

    /// Says so from now on; None: they are in force, or may be soon.
    pub fn certificates_refused(&self, why: Option<String>) {
        self.certificates_refusal.store(why.map(Arc::new));
    }

    /// How many configurations were in force since the start.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.monitor.gates().rulebook().generation()
    }

    /// Reloads, for `by`. Whoever asked may hang up: what began is finished.
    ///
    /// # Errors
    /// [`ReloadError`]; nothing changed then.
    pub async fn reload(self: Arc<Self>, by: String) -> Result<Reloaded, ReloadError> {
        let file = self.file.clone();
        let died = |error: JoinError| {
            ReloadError::Mistakes(ConfigError { file, mistakes: vec![error.to_string()] })
        };
        tokio::spawn(async move { self.finish(&by).await }).await.map_err(died)?
    }

    /// The files of `[server.tls]` of the configuration in force.
    ///
    /// # Errors
    /// [`ReloadError::Busy`].
    pub async fn certificate_files(&self) -> Result<mtls::Files, ReloadError> {
        let waited = tokio::time::timeout(READ_MAX, self.running.lock()).await;
        Ok(waited.map_err(|_| ReloadError::Busy)?.config.server.tls.clone())
    }

    /// Puts what was read of these files in force, and nothing else: a configuration that somebody is editing is not put
    /// in force by a certificate that renews.
    ///
    /// # Errors
    /// [`ReloadError`]; nothing changed then.
    pub async fn take_certificates(
        &self,
        files: &mtls::Files,
        read: Result<ServerTls, Vec<String>>,
        by: &str,
    ) -> Result<(), ReloadError> {
        let tls = read.map_err(|mistakes| self.mistaken(mistakes))?;
        let waited = tokio::time::timeout(READ_MAX, self.running.lock()).await;
        let running = waited.map_err(|_| ReloadError::Busy)?;
        if running.config.server.tls != *files {
            // A reload came in between, which names others and has read them.
            return Err(ReloadError::Busy);
        }
        // Dying from here on leaves nothing behind: the next start reads the files whole.
        let (generation, registry_sha256) = {
            let gates = self.monitor.gates();
            let rulebook = gates.rulebook();
            (rulebook.generation(), rulebook.registry().sha256_hex())
        };
        let signers = SignersChanged::default();
        let recorded = self.record(by, generation, None, &registry_sha256, signers).await;
        recorded.map_err(ReloadError::Unrecorded)?;
        let connections_cut = self.put_in_force(tls).await;
        self.metrics.tls(&self.tls.load());
        tracing::warn!(target: "admin", by, connections_cut, "certificates reloaded");
        Ok(())
    }

    /// Puts TLS material in force; returns how many clients were in that it does not let in.
    async fn put_in_force(&self, tls: ServerTls) -> usize {
        // In this order: whoever shakes hands in between is found on the list, or finds this.
        let tls = Arc::new(tls);
        self.tls.store(Arc::clone(&tls));
        // Many certificates take a while; the monitor shares the thread that asks.
        let connections = self.connections.clone();
        let cutting = move || connections.cut_those_not_let_in(&tls, wall_now());
        tokio::task::spawn_blocking(cutting).await.unwrap_or_default()
    }

    async fn finish(&self, by: &str) -> Result<Reloaded, ReloadError> {
        let reloaded = self.try_reload(by).await;
        match &reloaded {
            Ok(Reloaded { generation, registry_sha256, signers_touched, connections_cut }) => {
                self.refusal.store(None);
                let touched = words(signers_touched);
                tracing::warn!(target: "admin", by, generation, registry_sha256, touched, connections_cut, "reloaded");
            }
            Err(error) => {
                // The one that is under way says how it ends.
                if *error != ReloadError::Busy {
                    self.metrics.reload_refused();
                    self.refusal.store(Some(Arc::new(refusal(error, by))));
                }
                tracing::error!(target: "admin", by, %error, "not reloaded");
            }
        }
        reloaded
    }

    async fn try_reload(&self, by: &str) -> Result<Reloaded, ReloadError> {
        let waited = tokio::time::timeout(READ_MAX, self.running.lock()).await;
        let mut running = waited.map_err(|_| ReloadError::Busy)?;
        let materials = self.read(running.config.clone()).await?;
        for what in materials.registry_notes() {
            tracing::warn!(target: "config", what, "ignored in the registry");
        }
        let mut mistakes = running.config.takes_a_restart(&materials.config);
        let change = Change::between(&running.config, &materials.config);
        mistakes.extend(self.needed_by_session(&change));
        let Materials { config, registry, policy, tls, audit_key, development_keys, .. } =
            materials;
        if audit_key.key.id() != self.audit_key {
            mistakes.push(format!(
                "audit.key_file: {} holds another key than at the start, which takes a restart; \
                 put it back to reload the rest",
                config.audit.key_file.display()
            ));
        }
        let file = config.registry_file.display().to_string();
        let named = |mistake: String| format!("registry.file: {file}: {mistake}");
        let key_modes = materials::key_modes(&running.key_modes, &config, &registry);
        let key_modes = key_modes.unwrap_or_else(|changed| {
            mistakes.extend(changed);
            KeyModes::default()
        });
        let rulebook = Arc::clone(self.monitor.gates().rulebook());
        let next = match rulebook.succeeded_by(registry, policy) {
            Ok(next) if mistakes.is_empty() => next,
            Ok(_) => return Err(self.mistaken(mistakes)),
            Err(changed_keys) => {
                mistakes.extend(changed_keys.into_iter().map(named));
                return Err(self.mistaken(mistakes));
            }
        };

        let generation = next.generation();
        let of_next = (config.clone(), next.registry().clone(), (development_keys, generation));
        let preparing = self.signers.prepare(change.clone(), of_next.0, of_next.1, of_next.2);
        let prepared = tokio::time::timeout(PREPARE_MAX, preparing).await;
        let prepared = match prepared {
            Ok(prepared) => prepared.map_err(|error| {
                self.mistaken(vec![format!("signers: the upstreams cannot be made: {error}")])
            })?,
            Err(_) => {
                let seconds = PREPARE_MAX.as_secs();
                let why =
                    format!("signers: making the upstreams took more than {seconds} s; try again");
                return Err(self.mistaken(vec![why]));
            }
        };

        // Nothing below is mistaken any more. Dying in between leaves nothing behind: the
        // next start reads the files whole.
        let registry_sha256 = next.registry().sha256_hex();
        let told = key_modes.snapshot();
        // Before the record: one that fails may be on disk all the same, and these only refuse more.
        running.key_modes = key_modes;
        let named = change.recorded();
        let recorded = self.record(by, generation, told, &registry_sha256, named).await;
        recorded.map_err(ReloadError::Unrecorded)?;
        let (thresholds, probe) = (config.thresholds.clone(), config.probe.clone());
        let signers = self.signers.replace(prepared, &config);
        let touched = self.monitor.reload(Arc::new(next), thresholds, probe, signers).await?;
        self.rates.replace(&config.caller_rates);
        let mut connections_cut = self.put_in_force(tls).await;
        if !touched.is_empty() {
            // What is in flight with them is withheld; what has left does not arrive later either.
            connections_cut += self.connections.settle().await;
        }
        self.metrics.loaded(wall_now().unix_timestamp(), &self.tls.load());
        running.config = config;
        let signers_touched = touched.into_iter().collect();
        Ok(Reloaded { generation, registry_sha256, signers_touched, connections_cut })
    }

    /// One sentence for each signer that a break-glass session replaces and that would be taken out under it. A session was
    /// approved for the signers that were there.
    fn needed_by_session(&self, change: &Change) -> Vec<String> {
        let gates = self.monitor.gates();
        let Some(armed) = gates.armed(now(), wall_now()) else { return Vec::new() };
        let needed = armed.replaces.iter().filter(|kid| change.gone.contains(*kid));
        let needed = needed.map(|kid| {
            format!(
                "signers: {:?} would be taken out or get other upstreams, and the break-glass session {} replaces \
                 it; end the session first, or put the signer back to reload the rest",
                kid.as_str(),
                armed.session
            )
        });
        needed.collect()
    }

    /// Has the reload recorded: a configuration that nobody knows of is never in force.
    async fn record(
        &self,
        by: &str,
        generation: u64,
        key_modes: Option<KeyModesSnapshot>,
        registry_sha256: &str,
        signers: SignersChanged<'_>,
    ) -> Result<(), String> {
        let reload = journal::Reload { by, generation, key_modes, registry_sha256, signers };
        let record = Record::Reload(reload);
        let appending = self.journal.begin_append(&record).map_err(|error| error.to_string())?;
        match tokio::time::timeout(RECORD_MAX, appending.durable()).await {
            Ok(durable) => durable.map(|_| ()).map_err(|error| error.to_string()),
            Err(_) => Err(format!("the disk did not answer in {} s", RECORD_MAX.as_secs())),
        }
    }

    /// Reads on a thread that may block. Mistaken or not, the files also tell what
    /// takes a restart: an operator hears all of it at once.
    async fn read(&self, running: Config) -> Result<Materials, ReloadError> {
        let (file, environment) = (self.file.clone(), self.environment.clone());
        let reading = tokio::task::spawn_blocking(move || {
            Materials::reload(&file, &environment, &running).map_err(|mut error| {
                if let Ok(draft) = Draft::load(&file, &environment) {
                    error.mistakes.extend(draft.takes_a_restart(&running));
                }
                error
            })
        });
        match tokio::time::timeout(READ_MAX, reading).await {
            Ok(Ok(read)) => Ok(read?),
            // It panicked, or the process ends.
            Ok(Err(error)) => Err(self.mistaken(vec![error.to_string()])),
            Err(_) => Err(ReloadError::TooSlow),
        }
    }

    fn mistaken(&self, mistakes: Vec<String>) -> ReloadError {
        ReloadError::Mistakes(ConfigError { file: self.file.clone(), mistakes })
    }
}

/// One sentence about a reload that was refused; `signctl reload` lists every mistake.
fn refusal(error: &ReloadError, by: &str) -> String {
    let (at, why) = (rfc3339(wall_now()), error.in_short());
    format!("the reload at {at} by {by} was refused: {why}")
}

impl ReloadError {
    /// One sentence; of many mistakes the first.
    pub(crate) fn in_short(&self) -> String {
        match self {
            Self::Mistakes(ConfigError { mistakes, .. }) => match mistakes.as_slice() {
                [] => "the configuration cannot be read".to_owned(),
                [only] => only.clone(),
                [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
            },
            Self::Busy | Self::TooSlow | Self::Unrecorded(_) | Self::Gone(_) => self.to_string(),
        }
    }
}

fn words(kids: &[Kid]) -> String {
    kids.iter().map(Kid::as_str).collect::<Vec<_>>().join(", ")
}

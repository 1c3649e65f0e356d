//! What the configuration's files hold, read once at start with every mistake at once; and
//! that signing, emergency, audit and approver keys are disjoint (I4).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use approvers::{Approvers, spki};
use audit::{AuditKey, Known, WriterKeys};
use host::environment::Environment;
use host::{file_system, files};
use signing_core::key::{Batching, KeyKind, PublicKey, Purpose};
use signing_core::registry::Entry;
use signing_core::{Kid, Registry, Signer};

use crate::config::{Config, ConfigError};
use crate::history::History;
use crate::keyfile;

/// A configuration with all its files read.
#[derive(Debug)]
pub struct Materials {
    /// The configuration.
    pub config: Config,
    /// Every public key.
    pub registry: Registry,
    /// Who may approve.
    pub approvers: Arc<Approvers>,
    /// The public key of this process's records.
    pub audit_public: PublicKey,
    /// Its kid.
    pub audit_kid: Kid,
    /// The emergency keys, still sealed.
    pub keys: BTreeMap<Kid, Held>,
    /// How far the journal was on disk, as whoever starts this says.
    pub known_heads: Vec<Known>,
}

/// An emergency key in its file.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its encrypted PKCS#8 PEM.
    pub file: PathBuf,
    /// What the registry says of it.
    pub signer: Arc<Signer>,
}

impl Materials {
    /// Loads the configuration and everything it names; and the audit key, which goes to
    /// whoever writes the journal.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn load(file: &Path, environment: &Environment) -> Result<(Self, WriterKeys), ConfigError> {
        let (config, mut mistakes) = Config::draft(file, environment)?;
        mistakes.extend(file_systems(&config).mistakes);
        let mut keep = |found: Vec<String>| mistakes.extend(found);
        let registry = registry(&config).map_err(&mut keep).ok();
        let approvers = named(&config.approvers_file).and_then(|file| {
            Approvers::load("approvers", file, &config.roles).map_err(&mut keep).ok()
        });
        let mut load = |key: &str, file: &Path| {
            let loaded = AuditKey::load(file);
            loaded.map_err(|error| keep(vec![format!("audit.{key}: {error}")])).ok()
        };
        let audit_key = named(&config.audit_key_file).and_then(|file| load("key_file", file));
        let previous = config.previous_audit_key_file.as_ref();
        let previous = previous.and_then(|file| load("previous_key_file", file));
        if let Some(approvers) = &approvers {
            keep(uncovered(&config, approvers));
        }
        let (Some(registry), Some(approvers), Some(audit_key)) = (registry, approvers, audit_key)
        else {
            return Err(ConfigError { file: file.to_owned(), mistakes });
        };
        keep(shared(&registry, &approvers));
        let audit_kid = audit_kid(&config, &registry, &audit_key).map_err(&mut keep).ok();
        let keys = held(&config, &registry).map_err(&mut keep).ok();
        match (audit_kid, keys) {
            (Some(audit_kid), Some(keys)) if mistakes.is_empty() => {
                let audit_public = audit_key.public().clone();
                let keys_of_writer = WriterKeys { key: audit_key, previous };
                let known_heads = Vec::new();
                let held = Self {
                    config,
                    registry,
                    approvers: Arc::new(approvers),
                    audit_public,
                    audit_kid,
                    keys,
                    known_heads,
                };
                Ok((held, keys_of_writer))
            }
            _ => Err(ConfigError { file: file.to_owned(), mistakes }),
        }
    }

    /// Whether the configuration names the emergency key `kid`.
    #[must_use]
    pub fn holds(&self, kid: &str) -> bool {
        self.keys.keys().any(|held| held.as_str() == kid)
    }

    /// Keys that are due and that no entry names, and a sentence for each: nothing here can
    /// destroy them, and nobody is spared that by taking the entry away.
    #[must_use]
    pub fn orphans(&self, history: &History) -> BTreeMap<String, String> {
        let due = history.due.iter().filter(|(kid, _)| !self.holds(kid));
        due.map(|(kid, due)| {
            let why = format!(
                "emergency_keys: {kid} has to be destroyed by {} and no entry names it; put the entry \
                 back, destroy it (signctl breakglass destroy {kid}), then remove the entry",
                due.at
            );
            (kid.clone(), why)
        })
        .collect()
    }

    /// What deserves attention although it is no mistake.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let config = &self.config;
        let mut notes = Vec::new();
        if config.development {
            notes.push(
                "deployment.environment: is \"development\": a proxy of this signer's own user may \
                 use it, and its memory may not be locked"
                    .to_owned(),
            );
        }
        if !config.rules.hardware_required {
            notes.push(
                "approvers.hardware_required: is false: whoever copies an approver's file and its \
                 passphrase can approve"
                    .to_owned(),
            );
        }
        notes.extend(file_systems(config).notes);
        let file = config.registry_file.display();
        let of_registry = self.registry.notes().iter();
        notes.extend(of_registry.map(|note| format!("registry.file: {file}: {note}")));
        notes.extend(self.approvers.note());
        for (fingerprint, approver) in self.approvers.iter() {
            if approver.roles.is_empty() {
                notes.push(format!(
                    "approvers.file: {} ({fingerprint}) has no role, so nothing comes of their approval",
                    approver.principal
                ));
            }
        }
        for (kid, held) in &self.keys {
            if !keyfile::is_there(&held.file) {
                notes.push(format!(
                    "emergency_keys: {kid}: {} is not there; unless the key was destroyed, bring the \
                     file back",
                    held.file.display()
                ));
            }
        }
        notes
    }
}

/// What the file systems of the journal and of the state do to them.
fn file_systems(config: &Config) -> file_system::Found {
    let directories = [("audit.dir", &*config.journal_dir), ("state.dir", &*config.state_dir)];
    file_system::inspect(&directories).under_development(config.development)
}

/// None: the configuration names no file, which is its mistake already.
fn named(file: &Path) -> Option<&Path> {
    (!file.as_os_str().is_empty()).then_some(file)
}

fn registry(config: &Config) -> Result<Registry, Vec<String>> {
    let Some(file) = named(&config.registry_file) else { return Err(Vec::new()) };
    let text = files::read_text(file)
        .map_err(|why| vec![format!("registry.file: {} cannot be read: {why}", file.display())])?;
    let named = |registry: Registry| registry.of_deployment(&config.deployment);
    Registry::from_json(&text).and_then(named).map_err(|found| {
        found.into_iter().map(|what| format!("registry.file: {}: {what}", file.display())).collect()
    })
}

/// Roles that nobody could fill.
fn uncovered(config: &Config, approvers: &Approvers) -> Vec<String> {
    let filled =
        |role: &&String| approvers.iter().any(|(_, approver)| approver.roles.contains(*role));
    let empty = config.rules.required_roles.iter().filter(|role| !filled(role));
    empty
        .map(|role| {
            format!(
                "approvers.roles: nobody has the role {role:?}, which has to approve; add \
                 [[approvers.roles]] with role and principals"
            )
        })
        .collect()
}

/// Keys that are both an approver's and registered.
fn shared(registry: &Registry, approvers: &Approvers) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (fingerprint, approver) in approvers.iter() {
        let sha256 = spki::sha256_of(approver.key.key_data());
        let twin = registry.iter().find(|signer| Some(signer.public_key.sha256_hex()) == sha256);
        if let Some(signer) = twin {
            mistakes.push(format!(
                "approvers.file: the key {fingerprint} of {} is {} in the registry, which could sign an \
                 approval as somebody's message; give the approver another key",
                approver.principal, signer.kid
            ));
        }
    }
    mistakes
}

fn audit_kid(config: &Config, registry: &Registry, key: &AuditKey) -> Result<Kid, Vec<String>> {
    let (file, der) = (config.audit_key_file.display(), key.public().spki_der());
    match registry.iter().find(|signer| signer.public_key.spki_der() == der) {
        Some(signer) if signer.purpose == Purpose::Audit => Ok(signer.kid.clone()),
        Some(signer) => Err(vec![format!(
            "audit.key_file: {file} holds the key of {}, which the registry has for another purpose; \
             make another one: openssl genpkey -algorithm ed25519",
            signer.kid
        )]),
        None => Err(vec![format!(
            "audit.key_file: the public key of {file} is not in {}; add it with \"purpose\": \"audit\", \
             \"algorithm\": \"ed25519\" and \"public_key_pem\" of: openssl pkey -in {file} -pubout{}",
            config.registry_file.display(),
            entry(key).map_or(String::new(), |entry| format!(
                "; that is, as one of \"signers\": {entry}"
            ))
        )]),
    }
}

/// The registry's entry of a key that is not in it, for whoever has no openssl at hand.
fn entry(key: &AuditKey) -> Option<String> {
    let public_key = key.public().clone();
    let name = format!("breakglass-audit-{}", public_key.sha256_hex().get(..8)?);
    let kid = Kid::parse(&name).ok()?;
    let purpose = Purpose::Audit;
    let batch = Batching::No;
    let signer = Signer { kid, public_key, purpose, batch, not_after: None, revoked_at: None };
    serde_json::to_string(&Entry::publish(&signer)).ok()
}

fn held(config: &Config, registry: &Registry) -> Result<BTreeMap<Kid, Held>, Vec<String>> {
    let (mut keys, mut mistakes) = (BTreeMap::new(), Vec::new());
    for (kid, file) in &config.keys {
        let mut mistake = |what: String| mistakes.push(format!("emergency_keys: {kid}: {what}"));
        match registry.get(kid.as_str()) {
            None => mistake(format!(
                "is not in {}; add the entry that breakglass-signer keygen printed",
                config.registry_file.display()
            )),
            Some(signer) if signer.purpose != Purpose::Breakglass => mistake(
                "is registered for another purpose than \"breakglass\"; keys of different purposes \
                 are disjoint, so make another one: breakglass-signer keygen"
                    .to_owned(),
            ),
            Some(signer) => {
                let kind = signer.public_key.kind();
                if !matches!(kind, KeyKind::Ed25519 | KeyKind::P256 | KeyKind::Rsa) {
                    mistake(format!(
                        "is registered with a key of kind {}; emergency keys are Ed25519, P-256 or RSA",
                        kind.name()
                    ));
                }
                // One that was destroyed is not there, and stays registered.
                if keyfile::is_there(file)
                    && let Err(error) = keyfile::load(file)
                {
                    mistake(error.to_string());
                }
                let held = Held { file: file.clone(), signer: Arc::clone(signer) };
                keys.insert(kid.clone(), held);
            }
        }
    }
    if mistakes.is_empty() { Ok(keys) } else { Err(mistakes) }
}

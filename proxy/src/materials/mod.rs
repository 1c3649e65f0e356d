//! What the configuration's files hold: registry, policy, TLS, development
//! keys. Read before anything is started, with every mistake at once.

mod breakglass;
mod notes;
mod room;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use approvers::{Approvers, Settings};
use audit::{AuditKey, Known};
use development::DevelopmentKey;
use host::clock::wall_now;
use host::limits::Limits;
use mtls::ServerTls;
use signing_core::journal::KeyModes;
use signing_core::key::{Purpose, names_of};
use signing_core::registry::Document;
use signing_core::{Algorithm, Kid, Policy, Registry, json};
use time::OffsetDateTime;

use crate::admin::Fleet;
use configuration::{Config, ConfigError, Draft, Environment, FLEET_APPROVERS, Setting, Upstream};
use host::{file_system, files};
use server::LocalDoor;

/// A configuration with all its files read.
#[derive(Debug)]
pub struct Materials {
    /// The configuration.
    pub config: Config,
    /// Every public key.
    pub registry: Registry,
    /// Who may use which.
    pub policy: Policy,
    /// The data plane's TLS.
    pub tls: ServerTls,
    /// The local doors, with the secrets of their callers.
    pub local_doors: Vec<Arc<LocalDoor>>,
    /// The key that signs the journal's records.
    pub audit_key: RegisteredAuditKey,
    /// Who may end the fleet's freezes, if there is a fleet.
    pub fleet: Option<Fleet>,
    /// The development provider's keys, if there are any.
    pub development_keys: BTreeMap<Kid, DevelopmentKey>,
    /// How far the journal was on disk, as whoever starts this says.
    pub known_heads: Vec<Known>,
}

/// The audit key, and the name that the registry gives it.
#[derive(Debug)]
pub struct RegisteredAuditKey {
    /// The key.
    pub key: AuditKey,
    /// The one before it, for the first start with a new one.
    pub previous: Option<AuditKey>,
    /// Its kid.
    pub kid: Kid,
}

impl Materials {
    /// Loads the configuration and everything it names.
    ///
    /// # Errors
    /// Every mistake at once: those of the configuration itself, then those of
    /// the files that it names.
    pub fn load(file: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        Self::load_beside(file, environment, None)
    }

    /// As [`Self::load`], for a proxy that serves by `running`: a key of the development provider that it
    /// holds already may be away, as a key of KMS may be out of reach.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn reload(
        file: &Path,
        environment: &Environment,
        running: &Config,
    ) -> Result<Self, ConfigError> {
        Self::load_beside(file, environment, Some(running))
    }

    fn load_beside(
        file: &Path,
        environment: &Environment,
        running: Option<&Config>,
    ) -> Result<Self, ConfigError> {
        let Draft { config, kids, mut mistakes } = Draft::load(file, environment)?;
        let registry = registry((&config.registry_file, &config.deployment), kids.iter());
        if let Ok(registry) = &registry {
            mistakes.extend(ungrantable(&config, registry));
            mistakes.extend(not_on_a_token(&config, registry));
            mistakes.extend(too_long_to_answer(&config, registry));
        }
        mistakes.extend(file_systems(&config).mistakes);
        let tls = tls(&config.server.tls, wall_now());
        let development_keys = development_keys(&config, running);
        let local_doors = LocalDoor::load(&config.server.local);
        let audit_key = audit_key(&config, registry.as_ref().ok());
        let fleet = fleet(&config).map_err(|found| mistakes.extend(found)).unwrap_or_default();
        match (registry, tls, development_keys, audit_key, local_doors) {
            (Ok(registry), Ok(tls), Ok(development_keys), Ok(Some(audit_key)), Ok(local_doors))
                if mistakes.is_empty() =>
            {
                Ok(Self {
                    policy: Policy::new(config.callers.clone(), config.aliases.clone()),
                    registry,
                    tls,
                    local_doors,
                    audit_key,
                    fleet,
                    development_keys,
                    known_heads: Vec::new(),
                    config,
                })
            }
            (registry, tls, development_keys, audit_key, local_doors) => {
                let (keys, doors) = (development_keys.err(), local_doors.err());
                let found = [registry.err(), tls.err(), audit_key.err(), keys, doors];
                mistakes.extend(found.into_iter().flatten().flatten());
                Err(ConfigError { file: file.to_owned(), mistakes })
            }
        }
    }

    /// What it may need, and these limits do not give it.
    #[must_use]
    pub fn too_little(&self, limits: Limits) -> Vec<String> {
        room::notes(&self.config, limits)
    }

    /// What the file systems of the journal and of the state may do to them.
    #[must_use]
    pub fn file_system_notes(&self) -> Vec<String> {
        file_systems(&self.config).notes
    }

    /// What keys of others in the registry may say, which nothing obeys.
    #[must_use]
    pub fn registry_notes(&self) -> Vec<String> {
        let file = self.config.registry_file.display();
        let notes = self.registry.notes().iter();
        notes.map(|note| format!("registry.file: {file}: {note}")).collect()
    }

    /// What deserves attention although it is no mistake, one sentence each:
    /// the key, the value, what it leads to.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        notes::notes(self, wall_now())
    }
}

/// In which mode keys were registered, once `registry` is in force too; `known` is what the journal tells.
///
/// # Errors
/// One sentence for each signer whose key had the other mode before.
pub fn key_modes(
    known: &KeyModes,
    config: &Config,
    registry: &Registry,
) -> Result<KeyModes, Vec<String>> {
    let file = config.registry_file.display();
    let named = |mistake: String| format!("registry.file: {file}: {mistake}");
    known.with(registry).map_err(|changed| changed.into_iter().map(named).collect())
}

/// What the file systems of the journal and of the state do to them.
fn file_systems(config: &Config) -> file_system::Found {
    let directories = [("audit.dir", &*config.audit.dir), ("state.dir", &*config.state_dir)];
    let found = file_system::inspect(&directories);
    found.under_development(config.setting == Setting::Development)
}

/// Reads the registry, in which every one of `kids` has to be. An empty list of
/// mistakes: the configuration names no file, which is its mistake.
fn registry<'k>(
    (file, deployment): (&Path, &str),
    kids: impl Iterator<Item = &'k Kid>,
) -> Result<Registry, Vec<String>> {
    if file.as_os_str().is_empty() {
        return Err(Vec::new());
    }
    let text = files::read_text(file).map_err(|why| {
        vec![format!(
            "registry.file: {} cannot be read: {why}; name a file that the proxy's user may read",
            file.display()
        )]
    })?;
    let mut mistakes = Vec::new();
    let registry = Registry::from_json(&text)
        .and_then(|registry| registry.of_deployment(deployment))
        .map_err(|found| {
            let named = |mistake| format!("registry.file: {}: {mistake}", file.display());
            mistakes.extend(found.into_iter().map(named));
        })
        .ok();
    // A registry with mistakes still names its entries; what is no registry names none.
    if let Ok(document) = json::from_str::<Document>(&text) {
        mistakes.extend(kids.filter_map(|kid| unusable(kid, &document, file)));
    }
    match registry {
        Some(registry) if mistakes.is_empty() => Ok(registry),
        _ => Err(mistakes),
    }
}

/// Why `kid` cannot sign by that registry.
fn unusable(kid: &Kid, registry: &Document, file: &Path) -> Option<String> {
    let (name, file) = (kid.as_str(), file.display());
    let Some(entry) = registry.signers.iter().find(|entry| entry.signer_kid == name) else {
        return Some(format!("signers: {name:?} is not registered in {file}; add its public key"));
    };
    if Algorithm::parse(&entry.algorithm).is_none() {
        return Some(format!(
            "signers: {name:?} is registered in {file} with algorithm {:?}, which is not \
             supported; supported are {}",
            entry.algorithm,
            Algorithm::all_names()
        ));
    }
    // Another word is no purpose at all, which the registry has reported.
    let purpose = entry.purpose.as_deref().filter(|word| ["breakglass", "audit"].contains(word))?;
    Some(format!(
        "signers: {name:?} is registered in {file} for another purpose than signing, {purpose:?}; \
         keys of different purposes are disjoint, so name another key"
    ))
}

/// Signers on a token whose keys no token is asked for.
fn not_on_a_token(config: &Config, registry: &Registry) -> Vec<String> {
    let on_tokens = config.signers.iter().filter(|(_, signer)| {
        signer.upstreams.iter().any(|reached| matches!(reached.upstream, Upstream::Pkcs11(_)))
    });
    let mistake = |(kid, _): (&Kid, _)| {
        let kind = registry.get(kid.as_str())?.public_key.kind();
        kind.signs_on_tokens().err().map(|why| format!("signers: {:?}: {why}", kid.as_str()))
    };
    on_tokens.filter_map(mistake).collect()
}

/// Grants of algorithms with which the signer's key does not sign.
fn ungrantable(config: &Config, registry: &Registry) -> Vec<String> {
    let grants = config.callers.iter().flat_map(|(caller, rules)| {
        rules.signers.iter().map(move |(kid, algorithms)| (caller, kid, algorithms))
    });
    let mistakes = grants.flat_map(|(caller, kid, algorithms)| {
        let signer = registry.get(kid.as_str());
        let mistake = move |algorithm: &Algorithm| {
            let signer = signer?;
            signer.signs_with(*algorithm).err()?;
            let known: Vec<_> = signer.public_key.algorithms().collect();
            Some(format!(
                "callers: {:?} is granted {algorithm} with {:?}, whose key signs with {}; name \
                 some of these",
                caller.as_str(),
                kid.as_str(),
                names_of(&known)
            ))
        };
        algorithms.iter().filter_map(mistake)
    });
    mistakes.collect()
}

/// A registry that no caller could be answered.
fn too_long_to_answer(config: &Config, registry: &Registry) -> Option<String> {
    let bytes = registry.to_json().len();
    let server = &config.server;
    let (key, max) = [
        ("answers_per_connection_max_bytes", server.answers_per_connection_max_bytes),
        ("answers_per_caller_max_bytes", server.answers_per_caller_max_bytes),
        ("answers_max_bytes", server.answers_max_bytes),
    ]
    .into_iter()
    .find(|(_, max)| *max < bytes)?;
    Some(format!(
        "server.{key}: is {max}, and the answer to GET /v1/signers with all of {} has {bytes} bytes; \
         raise it to several times that",
        config.registry_file.display()
    ))
}

/// Reads certificates, key, authorities and revocation lists. What the
/// configuration does not name is its mistake, and not reported again.
fn tls(tls: &mtls::Files, now: OffsetDateTime) -> Result<ServerTls, Vec<String>> {
    let files = [
        ("server.tls.certificate_file:", &tls.certificate_file),
        ("server.tls.private_key_file:", &tls.private_key_file),
        ("server.tls.client_ca_file:", &tls.client_ca_file),
    ];
    let named = |mistake: &String| {
        !files.iter().any(|(key, file)| file.as_os_str().is_empty() && mistake.starts_with(key))
    };
    ServerTls::load(tls, now).map_err(|mistakes| mistakes.into_iter().filter(named).collect())
}

/// Reads the audit key and looks it up in the registry. None: something that it needs
/// is missing, which is reported already.
fn audit_key(
    config: &Config,
    registry: Option<&Registry>,
) -> Result<Option<RegisteredAuditKey>, Vec<String>> {
    let file = &config.audit.key_file;
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let key = AuditKey::load(file).map_err(|error| vec![format!("audit.key_file: {error}")])?;
    let Some(registry) = registry else { return Ok(None) };
    let mut signers = registry.iter();
    let registered = signers.find(|signer| signer.public_key.spki_der() == key.public().spki_der());
    let (file, registry) = (file.display(), config.registry_file.display());
    match registered {
        Some(signer) if signer.purpose == Purpose::Audit => {
            let previous = config.audit.previous_key_file.as_ref().map(|file| {
                AuditKey::load(file)
                    .map_err(|error| vec![format!("audit.previous_key_file: {error}")])
            });
            let previous = previous.transpose()?;
            Ok(Some(RegisteredAuditKey { key, previous, kid: signer.kid.clone() }))
        }
        Some(signer) => Err(vec![format!(
            "audit.key_file: {file} holds the key of {:?}, which {registry} has for another \
             purpose; keys of different purposes are disjoint, so make another one: openssl \
             genpkey -algorithm ed25519",
            signer.kid.as_str()
        )]),
        None => Err(vec![format!(
            "audit.key_file: the public key of {file} is not in {registry}; add it with \
             \"purpose\": \"audit\", \"algorithm\": \"ed25519\" and \"public_key_pem\" of: openssl \
             pkey -in {file} -pubout"
        )]),
    }
}

/// Reads who may end the fleet's freezes. A file that is not named is the configuration's mistake.
fn fleet(config: &Config) -> Result<Option<Fleet>, Vec<String>> {
    let Some(configuration::Fleet { name, approvers: Settings { file, roles, rules }, .. }) =
        &config.fleet
    else {
        return Ok(None);
    };
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let approvers = Approvers::load(FLEET_APPROVERS, file, roles)?;
    let is_filled = |role: &&String| approvers.iter().any(|(_, one)| one.roles.contains(*role));
    if !rules.required_roles.iter().any(|role| is_filled(&role)) {
        let roles: Vec<_> = rules.required_roles.iter().map(String::as_str).collect();
        return Err(vec![format!(
            "{FLEET_APPROVERS}.roles: nobody has the role {}, so a freeze of the fleet would never end; add \
             [[{FLEET_APPROVERS}.roles]] with role and principals",
            roles.join(" or ")
        )]);
    }
    Ok(Some(Fleet { name: name.clone(), approvers, rules: rules.clone() }))
}

/// The keys in files. One that is away is left out if the proxy that serves by `running` holds it: its
/// upstreams stay, and nothing is made of the file.
fn development_keys(
    config: &Config,
    running: Option<&Config>,
) -> Result<BTreeMap<Kid, DevelopmentKey>, Vec<String>> {
    let mut keys = BTreeMap::new();
    let mut mistakes = Vec::new();
    let upstreams = config.signers.iter().flat_map(|(kid, signer)| {
        signer.upstreams.iter().map(move |reached| (kid, &reached.upstream))
    });
    for (kid, upstream) in upstreams {
        let Upstream::Development { key_file } = upstream else { continue };
        let is_away = || !key_file.exists() && is_held(kid, config, running);
        if key_file.as_os_str().is_empty() || is_away() {
            continue;
        }
        match DevelopmentKey::load(key_file) {
            Ok(key) => {
                keys.insert(kid.clone(), key);
            }
            Err(error) => mistakes.push(format!(
                "signers {:?}: key_file: {error}; name the PKCS#8 PEM of a key",
                kid.as_str()
            )),
        }
    }
    if mistakes.is_empty() { Ok(keys) } else { Err(mistakes) }
}

/// Whether a reload from `running` leaves the upstreams of `kid` as they are.
fn is_held(kid: &Kid, config: &Config, running: Option<&Config>) -> bool {
    let upstreams = |config: &Config| -> Option<Vec<Upstream>> {
        let reached = config.signers.get(kid)?.upstreams.iter();
        Some(reached.map(|reached| reached.upstream.clone()).collect())
    };
    running.is_some_and(|running| {
        let before = upstreams(running);
        before.is_some() && before == upstreams(config)
    })
}

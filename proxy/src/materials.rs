//! What the configuration's files hold: registry, policy, TLS, development
//! keys. Read before anything is started, with every mistake at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use development::DevelopmentKey;
use signing_core::key::Purpose;
use signing_core::{Algorithm, Kid, Policy, Registry};

use crate::config::{Config, ConfigError, Environment, Upstream};
use crate::server::ServerTls;

/// A configuration with all its files read.
#[derive(Debug)]
pub struct Materials {
    /// The configuration.
    pub config: Config,
    /// Every public key.
    pub registry: Arc<Registry>,
    /// Who may use which.
    pub policy: Policy,
    /// The data plane's TLS.
    pub tls: ServerTls,
    /// The development provider's keys, if there are any.
    pub development_keys: BTreeMap<Kid, DevelopmentKey>,
}

impl Materials {
    /// Loads the configuration and everything it names: what `check` does.
    ///
    /// # Errors
    /// Every mistake at once. Files are looked at once the configuration itself
    /// has no mistake.
    pub fn load(file: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let config = Config::load(file, environment)?;
        Self::of(config).map_err(|mistakes| ConfigError { file: file.to_owned(), mistakes })
    }

    /// Loads what `config` names.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn of(config: Config) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let registry = keep(registry(&config), &mut mistakes);
        let tls = keep(ServerTls::load(&config.server.tls), &mut mistakes);
        let development_keys = keep(development_keys(&config), &mut mistakes);
        if let Some(registry) = &registry {
            mistakes.extend(unregistered(&config, registry));
        }
        match (registry, tls, development_keys) {
            (Some(registry), Some(tls), Some(development_keys)) if mistakes.is_empty() => {
                Ok(Self {
                    policy: Policy::new(config.callers.clone(), config.aliases.clone()),
                    registry: Arc::new(registry),
                    tls,
                    development_keys,
                    config,
                })
            }
            _ => Err(mistakes),
        }
    }
}

fn keep<T>(loaded: Result<T, Vec<String>>, mistakes: &mut Vec<String>) -> Option<T> {
    loaded.map_err(|more| mistakes.extend(more)).ok()
}

fn registry(config: &Config) -> Result<Registry, Vec<String>> {
    let file = &config.registry_file;
    let text = std::fs::read_to_string(file)
        .map_err(|why| vec![format!("registry.file: {} can not be read: {why}", file.display())])?;
    Registry::from_json(&text).map_err(|mistakes| {
        let named = |mistake| format!("registry.file: {}: {mistake}", file.display());
        mistakes.into_iter().map(named).collect()
    })
}

fn unregistered(config: &Config, registry: &Registry) -> Vec<String> {
    let mistake = |kid: &Kid| {
        let file = config.registry_file.display();
        match registry.get(kid.as_str()).map(|signer| signer.purpose) {
            Some(Purpose::Signing) => None,
            Some(Purpose::Breakglass | Purpose::Audit) => Some(format!(
                "signers: {:?} is registered in {file} for another purpose than signing; \
                 keys of different purposes are disjoint",
                kid.as_str()
            )),
            None => Some(match registry.unsupported(kid) {
                Some(algorithm) => format!(
                    "signers: {:?} is registered in {file} with algorithm {algorithm:?}, which is not \
                     supported; supported are {}",
                    kid.as_str(),
                    Algorithm::all_names()
                ),
                None => format!(
                    "signers: {:?} is not registered in {file}; add its public key",
                    kid.as_str()
                ),
            }),
        }
    };
    config.signers.keys().filter_map(mistake).collect()
}

fn development_keys(config: &Config) -> Result<BTreeMap<Kid, DevelopmentKey>, Vec<String>> {
    let mut keys = BTreeMap::new();
    let mut mistakes = Vec::new();
    for (kid, upstream) in &config.signers {
        let Upstream::Development { key_file } = upstream else { continue };
        match DevelopmentKey::load(key_file) {
            Ok(key) => {
                keys.insert(kid.clone(), key);
            }
            Err(error) => mistakes.push(format!("signers {:?}: key_file: {error}", kid.as_str())),
        }
    }
    if mistakes.is_empty() { Ok(keys) } else { Err(mistakes) }
}

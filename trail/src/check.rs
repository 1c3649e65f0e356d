//! What `serve` needs of its configuration and of the files that it names, every mistake at once.

use std::path::Path;
use std::sync::Arc;

use host::environment::Environment;
use host::files;
use host::mistakes::ConfigError;
use signing_core::Registry;
use signing_core::journal::AuditKeys;
use signing_core::key::{PublicKey, Purpose};

use crate::config::Config;
use crate::key::RowKey;
use crate::notify::check as notify;
use crate::source;

/// What serves.
#[derive(Debug)]
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// The trail's audit key.
    pub key: Arc<RowKey>,
    /// Its name in the registry.
    pub kid: String,
    /// The registry, as it was at the start.
    registry: Registry,
}

/// A configuration that was looked at.
#[derive(Debug)]
pub struct Found {
    /// What has to be mended.
    pub mistakes: Vec<String>,
    /// What deserves attention.
    pub notes: Vec<String>,
    /// How many journals it names.
    pub journals: usize,
}

impl Parts {
    /// Reads a configuration and its files.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake.
    pub fn load(file: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let (config, mut mistakes) = Config::draft(file, environment)?;
        let registry = registry(&config.registry_file)
            .map_err(|why| mistakes.push(format!("registry.file: {why}")));
        let key = RowKey::load(&config.key_file)
            .map_err(|error| mistakes.push(format!("audit.key_file: {error}")));
        let error = |mistakes| ConfigError { file: file.to_owned(), mistakes };
        let (Ok(registry), Ok(key)) = (registry, key) else { return Err(error(mistakes)) };
        let kid = kid_of(&registry, key.public());
        if kid.is_none() {
            mistakes.push(format!(
                "audit.key_file: {} has no entry in {} with the purpose audit; put its public key there \
                 (openssl pkey -in FILE -pubout), since verifiers look there",
                config.key_file.display(),
                config.registry_file.display()
            ));
        }
        mistakes.extend(notify::mistakes(&config));
        match kid {
            Some(kid) if mistakes.is_empty() => {
                Ok(Self { config, key: Arc::new(key), kid, registry })
            }
            _ => Err(error(mistakes)),
        }
    }

    /// The keys under which journals' checkpoints verify: of the registry as it is now, since a
    /// journal's key may have been renewed. One that cannot be read now is as it was at the start.
    pub(crate) fn audit_keys(&self) -> AuditKeys {
        match registry(&self.config.registry_file) {
            Ok(registry) => AuditKeys::of_registry(&registry),
            Err(_) => AuditKeys::of_registry(&self.registry),
        }
    }
}

/// Looks at a configuration without serving.
#[must_use]
pub fn inspect(file: &Path, environment: &Environment) -> Found {
    match Parts::load(file, environment) {
        Err(error) => Found { mistakes: error.mistakes, notes: Vec::new(), journals: 0 },
        Ok(parts) => {
            let journals = &parts.config.journals;
            let note = |(owner, path): &(crate::event::Owner, std::path::PathBuf)| {
                let error = source::identify(path).err()?;
                Some(format!("journals: {}: {error}", owner.word()))
            };
            let notes = journals.iter().filter_map(note).collect();
            Found { mistakes: Vec::new(), notes, journals: journals.len() }
        }
    }
}

fn registry(file: &Path) -> Result<Registry, String> {
    let text = files::read_text(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Registry::from_json(&text)
        .map_err(|mistakes| format!("{}: {}", file.display(), mistakes.join("; ")))
}

fn kid_of(registry: &Registry, key: &PublicKey) -> Option<String> {
    let mut audit = registry.iter().filter(|signer| signer.purpose == Purpose::Audit);
    let found = audit.find(|signer| signer.public_key.spki_der() == key.spki_der());
    found.map(|signer| signer.kid.to_string())
}

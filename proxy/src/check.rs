//! `signing-proxy check`: every mistake of a configuration and of its files, and what only a look at the
//! machine shows. It changes nothing.

use std::path::Path;

use audit::Presence;
use configuration::{
    Config, ConfigError, Draft, Environment, LocalListen, Members, Proof, Setting, Upstream,
};
use host::access::{self, Allowed};
use host::modes::{self, Place, PlaceKind};
use monitor::{Store, StoreError};
use signing_core::journal::InForce;

use crate::log;
use crate::materials::{self, Materials};

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// What has to be mended.
    pub mistakes: Vec<String>,
    /// What deserves attention.
    pub notes: Vec<String>,
    /// Whether there is a journal; none: the configuration cannot be read at all.
    pub journal: Option<Presence>,
    /// How many signers it names.
    pub signers: usize,
    /// How many callers.
    pub callers: usize,
}

/// Looks.
#[must_use]
pub fn inspect(file: &Path, environment: &Environment) -> Found {
    let mut found =
        Found { notes: configuration::environment_notes(environment), ..Found::default() };
    found.notes.extend(log::note(environment));
    match Materials::load(file, environment) {
        Ok(materials) => {
            found.notes.extend(materials.notes());
            found.compare_key_modes(&materials);
            found.look_at_state(&materials.config.state_dir);
        }
        Err(ConfigError { mistakes, .. }) => found.mistakes = mistakes,
    }
    // Also of a configuration with mistakes: all of them at once.
    let Ok(Draft { config, .. }) = Draft::load(file, environment) else { return found };
    (found.signers, found.callers) = (config.signers.len(), config.callers.len());
    let modes = open(file, &config);
    match config.setting {
        Setting::Production => found.mistakes.extend(modes.open),
        Setting::Test | Setting::Development => found.notes.extend(modes.open),
    }
    found.notes.extend(modes.unknown);
    for (uids_key, gids_key, Members { uids, gids }) in config.admin.everybody() {
        let socket = config.admin.socket.as_path();
        let keys = (&*format!("admin.{uids_key}"), &*format!("admin.{gids_key}"));
        found.notes.extend(access::kept_out(&Allowed { keys, socket, uids, gids }));
    }
    let init = format!("signing-proxy init --config {}", file.display());
    found.journal = Some(Presence::inspect(&config.audit.dir, &init));
    found
}

impl Found {
    /// A file of the freeze and the seals that a start would refuse. That it is gone is said by `journal`.
    fn look_at_state(&mut self, directory: &Path) {
        match Store::peek(directory) {
            Ok(_) => {}
            Err(StoreError::Io { file, error }) => self.notes.push(format!(
                "state.dir: {}: {error}; so check cannot read it as a start does: run check as root or as the user of \
                 the process",
                file.display()
            )),
            Err(error) => self.mistakes.push(error.to_string()),
        }
    }

    /// Keys that had the other mode before, by the journal: a start would refuse them.
    fn compare_key_modes(&mut self, materials: &Materials) {
        let config = &materials.config;
        match audit::in_force_unchecked(&config.audit.dir) {
            Ok(InForce { key_modes, .. }) => {
                let kept = materials::key_modes(&key_modes, config, &materials.registry);
                self.mistakes.extend(kept.err().unwrap_or_default());
            }
            // That there is no journal is said elsewhere.
            Err(_) if Presence::inspect(&config.audit.dir, "").is_there != Some(true) => {}
            Err(error) => self.notes.push(format!(
                "audit.dir {error}; so check cannot compare the modes of the registry's keys (\"mode\": \"batch\") with \
                 those of the journal, as a start does: run check as root or as the user of the process"
            )),
        }
    }
}

/// What of the configuration, its secrets and its directories is open to others.
#[must_use]
pub fn open(file: &Path, config: &Config) -> modes::Found {
    modes::inspect(&places(file, config))
}

/// Everything that the proxy believes, keeps secret or writes into.
fn places(file: &Path, config: &Config) -> Vec<Place> {
    let tls = &config.server.tls;
    let mut places = vec![
        Place::new("--config", file, PlaceKind::File),
        Place::new("server.tls.private_key_file", &tls.private_key_file, PlaceKind::Secret),
        Place::new("server.tls.certificate_file", &tls.certificate_file, PlaceKind::File),
        Place::new("server.tls.client_ca_file", &tls.client_ca_file, PlaceKind::File),
        Place::new("registry.file", &config.registry_file, PlaceKind::File),
        Place::new("audit.key_file", &config.audit.key_file, PlaceKind::Secret),
        Place::new("audit.dir", &config.audit.dir, PlaceKind::Directory),
        Place::new("state.dir", &config.state_dir, PlaceKind::Directory),
        Place::new("admin.socket", directory_of(&config.admin.socket), PlaceKind::Directory),
    ];
    let previous = config.audit.previous_key_file.iter();
    places.extend(
        previous.map(|file| Place::new("audit.previous_key_file", file, PlaceKind::Secret)),
    );
    let lists = tls.client_crl_files.iter();
    places
        .extend(lists.map(|list| Place::new("server.tls.client_crl_files", list, PlaceKind::File)));
    if let Some(socket) = &config.breakglass.signer_socket {
        places.push(Place::new(
            "breakglass.signer_socket",
            directory_of(socket),
            PlaceKind::Directory,
        ));
    }
    if let Some(socket) = &config.trail.required_socket {
        places.push(Place::new(
            "trail.required_socket",
            directory_of(socket),
            PlaceKind::Directory,
        ));
    }
    for door in &config.server.local {
        if let LocalListen::Unix(path) = &door.listen {
            places.push(Place::new(
                "server.local.listen",
                directory_of(path),
                PlaceKind::Directory,
            ));
        }
        for local in &door.callers {
            if let Proof::KeyPair { secret_file, .. } = &local.proof {
                let key = "server.local.callers.secret_access_key_file";
                places.push(Place::new(key, secret_file, PlaceKind::Secret));
            }
        }
    }
    if let Some(fleet) = &config.fleet {
        places.push(Place::new("fleet.approvers.file", &fleet.approvers.file, PlaceKind::File));
    }
    for (kid, signer) in &config.signers {
        let key = |key: &str| format!("signers {:?}: {key}", kid.as_str());
        for reached in &signer.upstreams {
            match &reached.upstream {
                Upstream::AwsKms(_) => {}
                Upstream::Development { key_file } => {
                    places.push(Place::new(key("key_file"), key_file, PlaceKind::Secret));
                }
                Upstream::Pkcs11(token) => {
                    places.push(Place::new(key("pin_file"), &token.pin_file, PlaceKind::Secret));
                    // Code that is loaded, and run.
                    places.push(Place::new(key("module"), &token.module, PlaceKind::File));
                    let worker = token.worker().unwrap_or_default();
                    places.push(Place::new(key("worker"), &worker, PlaceKind::File));
                }
            }
        }
    }
    places
}

fn directory_of(socket: &Path) -> &Path {
    match socket.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

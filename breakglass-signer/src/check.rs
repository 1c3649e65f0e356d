//! `breakglass-signer check`: what only a look at the machine shows, beside the mistakes of the
//! configuration's files. It changes nothing.

use std::path::Path;

use audit::Presence;
use host::access::{self, Allowed};
use host::clock::wall_now;
use host::environment::Environment;
use host::modes::{self, Place, PlaceKind};
use signing_core::breakglass::room_bytes;

use crate::arming;
use crate::config::{self, Config};
use crate::history::History;
use crate::keyfile;
use crate::materials::Materials;
use crate::memory::{self, Room};
use crate::store::Store;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// What has to be mended.
    pub mistakes: Vec<String>,
    /// What deserves attention.
    pub notes: Vec<String>,
    /// Whether there is a journal; none: the configuration cannot be read at all.
    pub journal: Option<Presence>,
    /// How many emergency keys it names.
    pub keys: usize,
    /// How many approvers there are.
    pub approvers: usize,
}

/// Looks.
#[must_use]
pub fn inspect(file: &Path, environment: &Environment) -> Found {
    let mut found = Found::default();
    match Materials::load(file, environment) {
        Ok((materials, _)) => loaded(&materials, &mut found),
        Err(error) => found.mistakes = error.mistakes,
    }
    found.notes.extend(config::environment_notes(environment));
    // Also of a configuration with mistakes: all of them at once.
    let Ok((config, _)) = Config::draft(file, environment) else { return found };
    let modes = open(file, &config);
    let open = if config.development { &mut found.notes } else { &mut found.mistakes };
    open.extend(modes.open);
    found.notes.extend(modes.unknown);
    for (section, socket) in [("signer", &config.signer), ("operator", &config.operator)] {
        let uids = &socket.allowed_uids;
        let keys = (&*format!("{section}.allowed_uids"), "");
        let allowed = Allowed { keys, socket: &socket.path, uids, gids: &[] };
        found.notes.extend(access::kept_out(&allowed));
    }
    let init = format!("breakglass-signer init --config {}", file.display());
    found.journal = Some(Presence::inspect(&config.journal_dir, &init));
    found
}

/// What of the configuration, its secrets and its directories is open to others.
#[must_use]
pub fn open(file: &Path, config: &Config) -> modes::Found {
    let of_socket = |socket: &'_ Path| {
        let parent = socket.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).to_owned()
    };
    let mut places = vec![
        Place::new("--config", file, PlaceKind::File),
        Place::new("signer.socket", &of_socket(&config.signer.path), PlaceKind::Directory),
        // Who stands in its place is brought the passphrase.
        Place::new("operator.socket", &of_socket(&config.operator.path), PlaceKind::Directory),
        Place::new("state.dir", &config.state_dir, PlaceKind::Directory),
        Place::new("audit.dir", &config.journal_dir, PlaceKind::Directory),
        Place::new("audit.key_file", &config.audit_key_file, PlaceKind::Secret),
        Place::new("registry.file", &config.registry_file, PlaceKind::File),
        Place::new("approvers.file", &config.approvers_file, PlaceKind::File),
    ];
    let previous = config.previous_audit_key_file.iter();
    places.extend(
        previous.map(|file| Place::new("audit.previous_key_file", file, PlaceKind::Secret)),
    );
    // Sealed; but whoever reads it tries passphrases for as long as they like.
    let keys = config.keys.iter();
    places.extend(
        keys.map(|(kid, file)| {
            Place::new(format!("emergency_keys: {kid}"), file, PlaceKind::Secret)
        }),
    );
    modes::inspect(&places)
}

fn loaded(materials: &Materials, found: &mut Found) {
    found.keys = materials.keys.len();
    found.approvers = materials.approvers.iter().count();
    found.notes.extend(materials.notes());
    let history = history(materials, found);
    // Keys that have to be destroyed and that no entry names any more.
    found.mistakes.extend(materials.orphans(&history).into_values());
    let unreadable = arming::probe(&materials.keys);
    let arming = arming::inspect(materials, &history, &unreadable, wall_now());
    found.mistakes.extend(arming.mistakes);
    found.notes.extend(arming.notes);
    found.notes.extend(ends(materials));
    found.notes.extend(room(&materials.config));
    found.notes.extend(memory::notes(&materials.keys, Room::of_process()));
}

/// Emergency keys that nothing but a revocation ends, or that end before a session could.
fn ends(materials: &Materials) -> Vec<String> {
    let (now, config) = (wall_now(), &materials.config);
    let keys = materials.keys.values().filter(|held| keyfile::is_there(&held.file));
    let usable = keys.filter(|held| held.signer.usable_at(now).is_ok());
    usable
        .filter_map(|held| {
            let why = match held.signer.not_after {
                None => "has no \"notAfter\", so that only its revocation ends it; give it one",
                Some(end) if end < now + config.caps.session_max => {
                    "ends (\"notAfter\") before the longest session would; make another key"
                }
                Some(_) => return None,
            };
            let (kid, file) = (&held.signer.kid, config.registry_file.display());
            Some(format!("emergency_keys: {kid}: its entry in {file} {why}"))
        })
        .collect()
}

/// A disk on which the largest session has no room.
fn room(config: &Config) -> Option<String> {
    let needed = room_bytes(config.caps.signatures_max);
    // Before `init` there is no directory yet.
    let there = config.journal_dir.ancestors().find(|directory| directory.is_dir())?;
    let found = nix::sys::statvfs::statvfs(there).ok()?;
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    (free < needed).then(|| {
        format!(
            "audit.dir: {} has {} MiB free, and {} MiB are needed for the {} signatures of caps.signatures_max; \
             make room",
            there.display(),
            free >> 20,
            needed >> 20,
            config.caps.signatures_max
        )
    })
}

/// What is known of earlier runs, as far as whoever runs the check may read it.
fn history(materials: &Materials, found: &mut Found) -> History {
    let config = &materials.config;
    let mut history = match Store::peek(&config.state_dir) {
        Ok(stored) => stored.history,
        Err(error) => {
            let dir = config.state_dir.display();
            found.notes.push(format!(
                "state.dir: {dir}: what is in it cannot be read ({error}), so which keys are due is \
                 not known; run check as the signer's user"
            ));
            return History::default();
        }
    };
    if config.journal_dir.is_dir()
        && let Err(error) = history.read(&config.journal_dir, None)
    {
        found.notes.push(error.to_string());
    }
    history
}

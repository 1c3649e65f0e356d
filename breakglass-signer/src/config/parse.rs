//! From a file's text and the environment to a [`Config`], mistake by mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use approvers::Settings;
use host::environment::Environment;
use host::section::{Mistakes, Section};
use signing_core::Kid;
use signing_core::breakglass::Caps;
use toml::Table;

use super::{Config, Socket};

/// `BREAKGLASS_SIGNER__SECTION__KEY` overrides `key` in `[section]`.
pub(super) const PREFIX: &str = "BREAKGLASS_SIGNER__";
/// The longest path of a unix socket, in bytes (unix(7)).
const SOCKET_PATH_MAX_BYTES: usize = 107;
/// Copies of one emergency key.
const COPIES_MAX: usize = 16;
/// Longest name of a copy.
const COPY_MAX_BYTES: usize = 64;
/// A shorter outage is none, but under development.
const MIN_OUTAGE_S: u64 = 300;

pub(super) fn parse(
    mut table: Table,
    directory: &Path,
    environment: &Environment,
) -> (Config, Vec<String>) {
    let mistakes = Mistakes::default();
    environment.override_keys(PREFIX, &mut table, &mistakes);
    let mut root = Section::root(table, &mistakes);
    let (deployment, development) = deployment(root.section("deployment"), environment);
    let signer = socket(root.section("signer"), directory, "signer.sock", None);
    let operator = socket(root.section("operator"), directory, "operator.sock", Some(&[0]));
    let mut state = root.section("state");
    let state_dir =
        directory.join(state.text_or("dir", "/var/lib/breakglass-signer", "name a directory"));
    state.finish();
    let mut audit = root.section("audit");
    let journal = audit.text_or("dir", "/var/lib/breakglass-signer/journal", "name a directory");
    let audit_key_file = file(
        &mut audit,
        directory,
        "key_file",
        "name the PKCS#8 PEM of this signer's own audit key: openssl genpkey -algorithm ed25519",
    );
    let previous_audit_key_file = audit.text("previous_key_file").map(|file| directory.join(file));
    let segment_bytes = audit.number("segment_bytes", 64 << 20, 1 << 20..=1 << 30);
    let reader_group = audit.id("reader_group");
    audit.finish();
    let mut registry = root.section("registry");
    let fix = "name the signers.json that holds every public key";
    let registry_file = file(&mut registry, directory, "file", fix);
    registry.finish();
    let Settings { file: approvers_file, roles, rules } =
        Settings::of_breakglass(root.section("approvers"), directory);
    let (keys, copies) = keys(root.sections("emergency_keys"), directory, &mistakes);
    let caps = caps(root.section("caps"));
    let min_outage = min_outage(root.section("outage"), development);
    let mut destruction = root.section("destruction");
    let within_s = destruction.number("within_s", 86_400, 60..=30 * 86_400);
    destruction.finish();
    root.finish();
    if signer.path == operator.path {
        mistakes.add(format!(
            "operator.socket: is {}, which signer.socket is too; the passphrase must not come by the \
             proxy's way: name another path",
            operator.path.display()
        ));
    }
    // Root is everywhere. Under development one user is all there is.
    let both = operator.allowed_uids.iter().filter(|uid| signer.allowed_uids.contains(uid));
    for uid in both.filter(|uid| **uid != 0 && !development) {
        mistakes.add(format!(
            "operator.allowed_uids: names {uid}, which signer.allowed_uids names too: a proxy that is \
             taken over could bring passphrases and destroy keys; give operators another user"
        ));
    }
    let config = Config {
        deployment,
        development,
        signer,
        operator,
        state_dir,
        journal_dir: directory.join(journal),
        reader_group,
        audit_key_file,
        previous_audit_key_file,
        segment_bytes,
        registry_file,
        approvers_file,
        roles,
        rules,
        keys,
        copies,
        caps,
        min_outage,
        destruction_within: Duration::from_secs(within_s),
    };
    (config, mistakes.take())
}

fn file(section: &mut Section, directory: &Path, key: &'static str, fix: &str) -> PathBuf {
    let text = section.required(key, fix);
    if text.is_empty() { PathBuf::new() } else { directory.join(text) }
}

fn deployment(mut section: Section, environment: &Environment) -> (String, bool) {
    let name = section.required("name", "name the deployment as the proxy's configuration does");
    let word = section.text("environment").unwrap_or_else(|| "production".to_owned());
    let development = match word.as_str() {
        "production" => false,
        "development" => true,
        other => {
            let fix = format!("is {other:?}, expected production or development");
            section.mistake("environment", fix);
            false
        }
    };
    let asking = environment.asks_for_the_real_thing();
    if development && !asking.is_empty() {
        let why = format!("is {word:?}, but {} asks for the real thing", asking.join(" and "));
        section.mistake("environment", why);
    }
    section.finish();
    (name, development)
}

fn socket(mut section: Section, directory: &Path, name: &str, default: Option<&[u32]>) -> Socket {
    let path = format!("/run/breakglass-signer/{name}");
    let path = directory.join(section.text_or("socket", &path, "name the socket's path"));
    let bytes = path.as_os_str().len();
    if bytes > SOCKET_PATH_MAX_BYTES {
        let what = format!(
            "is {:?} with {bytes} bytes, expected at most {SOCKET_PATH_MAX_BYTES}, the limit of a \
             unix socket's path; name a shorter one",
            path.display().to_string()
        );
        section.mistake("socket", what);
    }
    let given = section.ids("allowed_uids");
    let allowed_uids = given.unwrap_or_else(|| default.unwrap_or_default().to_vec());
    if allowed_uids.is_empty() && section.sound(&["allowed_uids"]) {
        section.mistake(
            "allowed_uids",
            "names nobody; name the numeric user id of whoever connects: [999]",
        );
    }
    section.finish();
    Socket { path, allowed_uids }
}

/// The keys' files, and the names of their copies.
type Keys = (BTreeMap<Kid, PathBuf>, BTreeMap<Kid, Vec<String>>);

fn keys(sections: Vec<Section>, directory: &Path, mistakes: &Mistakes) -> Keys {
    let (mut keys, mut copies) = (BTreeMap::new(), BTreeMap::new());
    for mut section in sections {
        let named = named_copies(&mut section);
        let kid = section.required("kid", "name the key as the registry does");
        let path = file(
            &mut section,
            directory,
            "file",
            "name its encrypted PKCS#8 PEM: breakglass-signer keygen",
        );
        match Kid::parse(&kid) {
            Ok(kid) if keys.contains_key(&kid) => {
                section.mistake("kid", format!("is {kid}, which another entry is too; keep one"));
            }
            Ok(kid) => {
                copies.insert(kid.clone(), named);
                keys.insert(kid, path);
            }
            Err(error) if !kid.is_empty() => section.mistake("kid", format!("is {kid:?}: {error}")),
            Err(_) => {}
        }
        section.finish();
    }
    if keys.is_empty() {
        mistakes.add("emergency_keys: the list is empty; add [[emergency_keys]] with kid and file");
    }
    (keys, copies)
}

/// Somebody has to write each name on a command line, before `=`.
fn named_copies(section: &mut Section) -> Vec<String> {
    let copies = section.texts("copies");
    let is_odd = |copy: &&String| {
        copy.trim() != copy.as_str()
            || !(1..=COPY_MAX_BYTES).contains(&copy.len())
            || copy.contains(['=', ',', ';'])
            || copy.contains(char::is_control)
    };
    if let Some(odd) = copies.iter().find(is_odd) {
        let what = format!(
            "holds {odd:?}, expected names of 1 to {COPY_MAX_BYTES} bytes without = , ; such as \"laptop in the safe of Security\""
        );
        section.mistake("copies", what);
    }
    let different: BTreeSet<_> = copies.iter().collect();
    if different.len() < copies.len() {
        section.mistake("copies", "names a copy twice; give each copy a name of its own");
    }
    if copies.len() > COPIES_MAX {
        let what = format!("holds {}, expected at most {COPIES_MAX}", copies.len());
        section.mistake("copies", what);
    }
    copies
}

fn caps(mut section: Section) -> Caps {
    let caps = Caps {
        session_max: Duration::from_secs(section.number("session_max_s", 14_400, 60..=7 * 86_400)),
        signatures_max: section.number("signatures_max", 100_000, 1..=100_000_000),
        signatures_per_second_max: u32::try_from(section.number(
            "signatures_per_second_max",
            1_000,
            1..=100_000,
        ))
        .unwrap_or(1),
    };
    section.finish();
    caps
}

fn min_outage(mut section: Section, development: bool) -> Duration {
    let seconds = section.number("min_s", 1_800, 1..=7 * 86_400);
    if seconds < MIN_OUTAGE_S && !development && section.sound(&["min_s"]) {
        let what = format!(
            "is {seconds}, expected at least {MIN_OUTAGE_S} unless deployment.environment is development"
        );
        section.mistake("min_s", what);
    }
    section.finish();
    Duration::from_secs(seconds)
}

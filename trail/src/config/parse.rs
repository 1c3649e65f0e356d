//! From a file's text and the environment to a [`Config`], mistake by mistake.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use host::environment::Environment;
use host::section::{Mistakes, Section};
use signing_core::replica::ReplicaName;
use toml::Table;

use super::{Config, Fleet, RequiredSocket, notify};
use crate::archive::place;
use crate::event::Owner;
use crate::postgres::{Place, TableName};

/// `SIGNING_TRAIL__SECTION__KEY` overrides `key` in `[section]`.
const PREFIX: &str = "SIGNING_TRAIL__";
const LABEL_MAX_BYTES: usize = 128;
const SCHEMA: &str = "signing_proxy";
const LISTEN: &str = "127.0.0.1:9465";
/// `signtrai` in ASCII, as a number: a lock that nobody else takes by chance.
const LOCK_KEY: u64 = 0x7369_676e_7472_6169;

pub(super) fn parse(
    mut table: Table,
    directory: &Path,
    environment: &Environment,
) -> (Config, Vec<String>) {
    let mistakes = Mistakes::default();
    environment.override_keys(PREFIX, &mut table, &mistakes);
    let mut root = Section::root(table, &mistakes);
    let journals = journals(root.section("journals"), directory, &mistakes);
    let mut audit = root.section("audit");
    let key_file = file(
        &mut audit,
        directory,
        "key_file",
        "name the PKCS#8 PEM of the trail's own audit key: openssl genpkey -algorithm ed25519",
    );
    audit.finish();
    let mut registry = root.section("registry");
    let fix = "name the signers.json that holds every public key";
    let registry_file = file(&mut registry, directory, "file", fix);
    registry.finish();
    let mut section = root.section("postgres");
    let batch_rows = section.number("batch_rows", 1_000, 1..=10_000);
    let postgres = postgres(section, directory);
    let archive = place::settings(root.section("archive"), directory, environment);
    let listen = listen(root.section("metrics"));
    let fleet = fleet(root.section("fleet"), directory);
    let required = required(root.section("required"), directory);
    let replica = replica(root.section("replica"));
    let notify = notify::notify(root.section("notify"), directory);
    let policy = notify::policy(root.section("policy"), directory);
    root.finish();
    let config = Config {
        journals,
        key_file,
        registry_file,
        postgres,
        batch_rows: usize::try_from(batch_rows).unwrap_or(1),
        archive,
        listen,
        fleet,
        required,
        replica,
        notify,
        policy,
    };
    (config, mistakes.take())
}

fn journals(mut section: Section, directory: &Path, mistakes: &Mistakes) -> Vec<(Owner, PathBuf)> {
    let named = [(Owner::Proxy, section.text("proxy")), (Owner::Signer, section.text("signer"))];
    let found: Vec<_> =
        named.into_iter().filter_map(|(owner, dir)| Some((owner, directory.join(dir?)))).collect();
    if found.is_empty() && section.sound(&["proxy", "signer"]) {
        mistakes.add("journals: no journal is named; name the journal's directory, as audit.dir of the daemon that writes it does, in proxy or signer");
    }
    section.finish();
    found
}

fn file(section: &mut Section, directory: &Path, key: &'static str, fix: &str) -> PathBuf {
    let text = section.required(key, fix);
    if text.is_empty() { PathBuf::new() } else { directory.join(text) }
}

fn postgres(mut section: Section, directory: &Path) -> Place {
    let url = section.required("url", "write postgres://USER@HOST:PORT/DATABASE");
    let password_file = section.text("password_file").map(|file| directory.join(file));
    let ca_file = section.text("ca_file").map(|file| directory.join(file));
    let schema = section.text_or("schema", SCHEMA, "name the schema that is the trail's own");
    let fix = "name the table as schema.table";
    let default = format!("{schema}.audit_events");
    let named = section.text_or("table", &default, fix);
    let table = TableName::parse(&named).unwrap_or_else(|| {
        if section.sound(&["table"]) {
            section.mistake("table", format!("is {named:?}; {fix}"));
        }
        TableName { schema: schema.clone(), table: "audit_events".to_owned() }
    });
    let key = section.number("lock_key", LOCK_KEY, 0..=i64::MAX.unsigned_abs());
    let timeout = section.millis("timeout_ms", 10_000);
    let lock_key = i64::try_from(key).unwrap_or(i64::MAX);
    let place = Place { url, password_file, ca_file, table, schema, lock_key, timeout };
    if !place.url.is_empty()
        && let Err(error) = place.config()
    {
        let text = error.to_string();
        match text.split_once(": ") {
            Some(("postgres.password_file", what)) => section.mistake("password_file", what),
            Some((_, what)) => section.mistake("url", what),
            None => section.mistake("url", text),
        }
    }
    section.finish();
    place
}

/// None: no socket is named, so the proxy is of no fleet.
fn fleet(mut section: Section, directory: &Path) -> Option<Fleet> {
    let socket = section.text("socket").map(|socket| directory.join(socket));
    let labels: BTreeSet<String> = section.texts("labels").into_iter().collect();
    let is_label = |label: &&String| match label.split_once('=') {
        Some((name, value)) => {
            !name.is_empty()
                && !value.is_empty()
                && label.len() <= LABEL_MAX_BYTES
                && !["deployment", "fleet"].contains(&name)
        }
        None => false,
    };
    if let Some(label) = labels.iter().find(|label| !is_label(label)) {
        section.mistake(
            "labels",
            format!(
                "has {label:?}, expected NAME=VALUE of at most {LABEL_MAX_BYTES} bytes; deployment=NAME and \
                 fleet=NAME are there by themselves"
            ),
        );
    }
    section.finish();
    Some(Fleet { socket: socket?, labels })
}

/// None: no socket is named, so no signature waits for the trail.
fn required(mut section: Section, directory: &Path) -> Option<RequiredSocket> {
    let socket = section.text("socket").map(|socket| directory.join(socket));
    let uids = section.ids("uids").unwrap_or_default();
    if socket.is_some() && uids.is_empty() && section.sound(&["uids"]) {
        section.mistake(
            "uids",
            "names nobody; write the numeric id of the user that signing-proxy runs as (id -u signing-proxy)",
        );
    }
    section.finish();
    Some(RequiredSocket { socket: socket?, uids })
}

/// None: no name is set.
fn replica(mut section: Section) -> Option<ReplicaName> {
    let name = section.text("name").and_then(|text| {
        let parsed = ReplicaName::parse(&text);
        parsed.map_err(|why| section.mistake("name", format!("is {text:?}, but {why}"))).ok()
    });
    section.finish();
    name
}

fn listen(mut section: Section) -> SocketAddr {
    let text = section.text_or("listen", LISTEN, "name an address and a port");
    let listen = text.parse().unwrap_or_else(|_| {
        if section.sound(&["listen"]) {
            section.mistake(
                "listen",
                format!("is {text:?}, expected an address and a port such as {LISTEN}"),
            );
        }
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    });
    section.finish();
    listen
}

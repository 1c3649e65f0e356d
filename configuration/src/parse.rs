//! From a file's text and the environment to a [`Config`], mistake by mistake.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use signing_core::admin::Role;
use toml::Table;

use super::dialects;
use super::fleet;
use super::gate;
use super::grants;
use super::local;
use super::places::{clash, too_long_for_a_socket};
use super::upstreams::Upstreams;
use super::{Admin, Audit, Breakglass, Config, Draft, Members, Server, Setting};
use super::{traces, trail};
use host::environment::Environment;
use host::section::{Mistakes, Section};

/// `SIGNING_PROXY__SECTION__KEY` overrides `key` in `[section]`.
pub(super) const PREFIX: &str = "SIGNING_PROXY__";

/// The smallest body that asks for anything: `{"message":"AA=="}`.
const BODY_MIN_BYTES: usize = 18;

pub(super) fn parse(mut table: Table, directory: &Path, environment: &Environment) -> Draft {
    let mistakes = Mistakes::default();
    environment.override_keys(PREFIX, &mut table, &mistakes);
    let mut root = Section::root(table, &mistakes);
    let asking = environment.asks_for_the_real_thing();
    let reader = Reader { directory, environment, asking: &asking };

    let (deployment, setting) = reader.deployment(root.section("deployment"));
    let server = reader.server(root.section("server"), root.sections("dialects"));
    let metrics_listen = metrics(root.section("metrics"), &server);
    let admin = reader.admin(root.section("admin"));
    let state_dir = {
        let mut state = root.section("state");
        let dir = state.text_or("dir", "/var/lib/signing-proxy", "name a directory");
        state.finish();
        reader.directory.join(dir)
    };
    let audit = reader.audit(root.section("audit"));
    let registry_file = {
        let mut registry = root.section("registry");
        let fix = "name the signers.json that holds every public key";
        let file = reader.file(&mut registry, "file", fix);
        registry.finish();
        file
    };
    let (thresholds, probe) = gate::read(root.section("gate"));
    let breakglass = breakglass(root.section("breakglass"), directory);
    let fleet = fleet::read(root.section("fleet"), directory);
    let traces = traces::read(root.section("traces"));
    let trail = trail::read(root.section("trail"), directory, server.request_timeout);
    let upstreams = Upstreams { directory, environment, setting, asking: &asking };
    let (signers, kids) = upstreams.signers(root.sections("signers"), &mistakes);
    let callers = grants::callers(root.sections("callers"), &kids);
    let aliases = grants::aliases(root.section("aliases"), &kids, &mistakes);
    root.finish();

    let config = Config {
        deployment,
        setting,
        server,
        metrics_listen,
        admin,
        state_dir,
        audit,
        registry_file,
        thresholds,
        probe,
        signers,
        breakglass,
        fleet,
        trail,
        traces,
        callers: callers.rules,
        caller_rates: callers.rates,
        aliases,
    };
    Draft { config, kids, mistakes: mistakes.take() }
}

struct Reader<'a> {
    directory: &'a Path,
    environment: &'a Environment,
    /// What in the environment asks for the real thing.
    asking: &'a [String],
}

impl Reader<'_> {
    /// A file that has to be named; an empty path if it is not.
    fn file(&self, section: &mut Section, key: &'static str, fix: &str) -> PathBuf {
        let text = section.required(key, fix);
        if text.is_empty() { PathBuf::new() } else { self.directory.join(text) }
    }

    fn deployment(&self, mut section: Section) -> (String, Setting) {
        let name = section.required("name", "name this deployment, such as \"payments-eu\"");
        let environment = section.text("environment").unwrap_or_else(|| "production".into());
        let setting = match environment.as_str() {
            "production" => Setting::Production,
            "test" => Setting::Test,
            "development" => Setting::Development,
            other => {
                section.mistake(
                    "environment",
                    format!("is {other:?}, expected production, test or development"),
                );
                Setting::Production
            }
        };
        if setting != Setting::Production && !self.asking.is_empty() {
            section.mistake(
                "environment",
                format!(
                    "is {environment:?}, but {} asks for the real thing; \
                     set \"production\" and a real provider",
                    self.asking.join(" and ")
                ),
            );
        }
        section.finish();
        (name, setting)
    }

    fn server(&self, mut section: Section, added: Vec<Section>) -> Server {
        let tls = self.tls(section.section("tls"));
        let bodies_max_bytes = count(&mut section, "bodies_max_bytes", 64 << 20, 16 << 30);
        let body_max_bytes = count(&mut section, "body_max_bytes", 262_144, 16 << 20);
        let requests_max = count(&mut section, "requests_in_flight_max", 512, 100_000);
        let listen = address(&mut section, "listen", "0.0.0.0:8443");
        let doors = section.sections("local");
        let server = Server {
            listen,
            tls,
            local: local::doors(doors, (self.directory, self.environment), self.asking, listen),
            dialects: dialects::dialects(added),
            connections_max: count(&mut section, "connections_max", 1024, 100_000),
            connections_per_caller_max: count(
                &mut section,
                "connections_per_caller_max",
                256,
                100_000,
            ),
            handshakes_max: count(&mut section, "handshakes_max", 512, 100_000),
            handshakes_per_address_max: count(
                &mut section,
                "handshakes_per_address_max",
                256,
                100_000,
            ),
            bodies_max_bytes,
            // A share that always holds the largest body.
            bodies_per_caller_max_bytes: count(
                &mut section,
                "bodies_per_caller_max_bytes",
                (bodies_max_bytes / 4).max(body_max_bytes) as u64,
                16 << 30,
            ),
            answers_max_bytes: answers(&mut section, "answers_max_bytes", 64 << 20),
            answers_per_caller_max_bytes: answers(
                &mut section,
                "answers_per_caller_max_bytes",
                16 << 20,
            ),
            // Room for http2_streams_max signatures at once, with the longest: of ML-DSA-87.
            answers_per_connection_max_bytes: answers(
                &mut section,
                "answers_per_connection_max_bytes",
                5 << 18,
            ),
            requests_in_flight_max: requests_max,
            requests_in_flight_per_caller_max: count(
                &mut section,
                "requests_in_flight_per_caller_max",
                requests_max.div_ceil(2) as u64,
                100_000,
            ),
            http2_streams_max: u32::try_from(section.number("http2_streams_max", 128, 1..=10_000))
                .unwrap_or(128),
            handshake_timeout: section.millis("handshake_timeout_ms", 5_000),
            header_read_timeout: section.millis("header_read_timeout_ms", 30_000),
            body_read_timeout: section.millis("body_read_timeout_ms", 5_000),
            write_timeout: section.millis("write_timeout_ms", 5_000),
            request_timeout: section.millis("request_timeout_ms", 5_000),
            connection_age_max: section.millis("connection_age_max_ms", 3_600_000),
            headers_max_bytes: count(&mut section, "headers_max_bytes", 16_384, 1 << 20),
            body_max_bytes,
            drain_timeout: section.millis("drain_timeout_ms", 20_000),
        };
        if server.body_max_bytes < BODY_MIN_BYTES {
            section.mistake(
                "body_max_bytes",
                format!(
                    "is {}, expected at least {BODY_MIN_BYTES}, or no request to sign ever fits",
                    server.body_max_bytes
                ),
            );
        }
        limits_that_fit(&section, &server);
        section.finish();
        server
    }

    fn tls(&self, mut section: Section) -> mtls::Files {
        let tls = mtls::Files {
            certificate_file: self.file(
                &mut section,
                "certificate_file",
                "name the server's PEM chain",
            ),
            private_key_file: self.file(
                &mut section,
                "private_key_file",
                "name the server's PEM private key",
            ),
            client_ca_file: self.file(
                &mut section,
                "client_ca_file",
                "name the PEM of the authorities that issue client certificates",
            ),
            client_crl_files: section
                .texts("client_crl_files")
                .iter()
                .map(|file| self.directory.join(file))
                .collect(),
            tls12: section.flag("tls12", false),
            watch: section.flag("watch", true),
        };
        section.finish();
        tls
    }

    fn admin(&self, mut section: Section) -> Admin {
        let socket =
            section.text_or("socket", "/run/signing-proxy/admin.sock", "name the socket's path");
        let socket = self.directory.join(socket);
        if let Some(mistake) = too_long_for_a_socket(&socket) {
            section.mistake("socket", mistake);
        }
        let allowed = Members {
            uids: section.ids("allowed_uids").unwrap_or_else(|| vec![0]),
            gids: section.ids("allowed_gids").unwrap_or_default(),
        };
        let mut roles = BTreeMap::new();
        for role in Role::ALL {
            let (uids, gids) = Admin::keys(role);
            let mut ids = |key| section.ids(key).unwrap_or_default();
            roles.insert(role, Members { uids: ids(uids), gids: ids(gids) });
        }
        let admin = Admin { socket, allowed, roles };
        section.finish();
        admin
    }

    fn audit(&self, mut section: Section) -> Audit {
        let dir = section.text_or("dir", "/var/lib/signing-proxy/journal", "name a directory");
        let audit = Audit {
            dir: self.directory.join(dir),
            key_file: self.file(
                &mut section,
                "key_file",
                "name the PKCS#8 PEM of the audit key: openssl genpkey -algorithm ed25519",
            ),
            previous_key_file: section
                .text("previous_key_file")
                .map(|file| self.directory.join(file)),
            segment_bytes: section.number("segment_bytes", 64 << 20, 1 << 20..=1 << 30),
            reader_group: section.id("reader_group"),
        };
        section.finish();
        audit
    }
}

/// What one caller takes fits into what all take, and the largest body into both.
fn limits_that_fit(section: &Section, server: &Server) {
    let Server { body_max_bytes, bodies_max_bytes, bodies_per_caller_max_bytes, .. } = *server;
    for (key, value) in [
        ("bodies_max_bytes", bodies_max_bytes),
        ("bodies_per_caller_max_bytes", bodies_per_caller_max_bytes),
    ] {
        if section.sound(&[key, "body_max_bytes"]) && value < body_max_bytes {
            section.mistake(
                key,
                format!(
                    "is {value}, expected at least body_max_bytes {body_max_bytes}, or the largest \
                     body never fits"
                ),
            );
        }
    }
    let at_most = |key, value, (all, all_value): (&str, usize)| {
        if section.sound(&[key, all]) && value > all_value {
            section.mistake(key, format!("is {value}, expected at most {all} {all_value}"));
        }
    };
    // Its default follows from the largest body too.
    if section.sound(&["body_max_bytes"]) {
        let all = ("bodies_max_bytes", bodies_max_bytes);
        at_most("bodies_per_caller_max_bytes", bodies_per_caller_max_bytes, all);
    }
    at_most(
        "requests_in_flight_per_caller_max",
        server.requests_in_flight_per_caller_max,
        ("requests_in_flight_max", server.requests_in_flight_max),
    );
}

/// Where metrics are served, which is not where a door is.
fn metrics(mut section: Section, server: &Server) -> SocketAddr {
    let listen = address(&mut section, "listen", "127.0.0.1:9464");
    let local = server.local.iter().filter_map(|door| match door.listen {
        local::LocalListen::Loopback(address) => Some(("server.local", address)),
        local::LocalListen::Unix(_) => None,
    });
    let mut taken = [("server.listen", server.listen)].into_iter().chain(local);
    if let Some((key, taken)) = taken.find(|(_, taken)| clash(listen, *taken)) {
        section.mistake(
            "listen",
            format!(
                "is {listen}, which {key} {taken} takes already; give one of them another port"
            ),
        );
    }
    section.finish();
    listen
}

fn breakglass(mut section: Section, directory: &Path) -> Breakglass {
    let min_outage = Duration::from_secs(section.number("min_outage_s", 1_800, 1..=604_800));
    let signer_socket = section.text("signer_socket").filter(|path| !path.is_empty());
    let signer_socket = signer_socket.map(|path| directory.join(path));
    let sign_timeout = section.millis("sign_timeout_ms", 2_000);
    section.finish();
    Breakglass { min_outage, signer_socket, sign_timeout }
}

fn address(section: &mut Section, key: &'static str, default: &str) -> SocketAddr {
    let text = section.text(key).unwrap_or_else(|| default.to_owned());
    text.parse().unwrap_or_else(|_| {
        section.mistake(key, format!("{text:?} is not an address and port such as {default}"));
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

/// Room for the answers that clients have not taken; below the range a signature has none.
fn answers(section: &mut Section, key: &'static str, default: u64) -> usize {
    let bytes = section.number(key, default, 65_536..=16 << 30);
    usize::try_from(bytes).unwrap_or(65_536)
}

fn count(section: &mut Section, key: &'static str, default: u64, max: u64) -> usize {
    usize::try_from(section.number(key, default, 1..=max)).unwrap_or(1)
}

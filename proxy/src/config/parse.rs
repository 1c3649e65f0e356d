//! From a file's text and the environment to a [`Config`], mistake by mistake.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use signing_core::gate::Thresholds;
use toml::Table;

use super::environment::Environment;
use super::grants;
use super::section::{Mistakes, Section};
use super::upstreams::Upstreams;
use super::{Admin, Config, Probe, Server, Setting, Tls};

/// What the lease needs on top of probe interval and time-out, so that one
/// slow probe does not shut a healthy gate.
const LEASE_SLACK_MS: u64 = 1000;

pub(super) fn parse(
    text: &str,
    directory: &Path,
    environment: &Environment,
) -> Result<Config, Vec<String>> {
    let mut table: Table = text.parse().map_err(|error| vec![format!("is not TOML: {error}")])?;
    let mistakes = Mistakes::default();
    environment.override_keys(&mut table, &mistakes);
    let mut root = Section::root(table, &mistakes);
    let reader = Reader { directory, environment };

    let (deployment, setting) = reader.deployment(root.section("deployment"));
    let server = reader.server(root.section("server"));
    let metrics_listen = {
        let mut metrics = root.section("metrics");
        let listen = address(&mut metrics, "listen", "127.0.0.1:9464");
        metrics.finish();
        listen
    };
    let admin = reader.admin(root.section("admin"));
    let state_dir = {
        let mut state = root.section("state");
        let dir = state.text("dir").unwrap_or_else(|| "/var/lib/signing-proxy".into());
        state.finish();
        reader.path(&dir)
    };
    let registry_file = {
        let mut registry = root.section("registry");
        let file = registry.required("file", "name the signers.json that holds every public key");
        registry.finish();
        reader.path(&file)
    };
    let (thresholds, probe) = gate(root.section("gate"));
    let upstreams = Upstreams { directory, environment, setting };
    let signers = upstreams.signers(root.sections("signers"), &mistakes);
    let callers = grants::callers(root.sections("callers"), &signers);
    let aliases = grants::aliases(root.section("aliases"), &signers, &mistakes);
    root.finish();

    match mistakes.take() {
        none if none.is_empty() => Ok(Config {
            deployment,
            setting,
            server,
            metrics_listen,
            admin,
            state_dir,
            registry_file,
            thresholds,
            probe,
            signers,
            callers,
            aliases,
        }),
        mistakes => Err(mistakes),
    }
}

struct Reader<'a> {
    directory: &'a Path,
    environment: &'a Environment,
}

impl Reader<'_> {
    fn path(&self, text: &str) -> PathBuf {
        self.directory.join(text)
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
        let asking = self.environment.asks_for_the_real_thing();
        if setting != Setting::Production && !asking.is_empty() {
            section.mistake(
                "environment",
                format!(
                    "is {environment:?}, but {} asks for the real thing; \
                     set \"production\" and a real provider",
                    asking.join(" and ")
                ),
            );
        }
        section.finish();
        (name, setting)
    }

    fn server(&self, mut section: Section) -> Server {
        let tls = self.tls(section.section("tls"));
        let server = Server {
            listen: address(&mut section, "listen", "0.0.0.0:8443"),
            tls,
            connections_max: count(&mut section, "connections_max", 1024, 100_000),
            connections_per_caller_max: count(
                &mut section,
                "connections_per_caller_max",
                256,
                100_000,
            ),
            handshakes_max: count(&mut section, "handshakes_max", 256, 100_000),
            bodies_max_bytes: count(&mut section, "bodies_max_bytes", 64 << 20, 16 << 30),
            requests_in_flight_max: count(&mut section, "requests_in_flight_max", 512, 100_000),
            http2_streams_max: u32::try_from(section.number("http2_streams_max", 128, 1..=10_000))
                .unwrap_or(128),
            handshake_timeout: section.millis("handshake_timeout_ms", 5_000),
            header_read_timeout: section.millis("header_read_timeout_ms", 30_000),
            body_read_timeout: section.millis("body_read_timeout_ms", 5_000),
            write_timeout: section.millis("write_timeout_ms", 5_000),
            request_timeout: section.millis("request_timeout_ms", 5_000),
            connection_age_max: section.millis("connection_age_max_ms", 3_600_000),
            headers_max_bytes: count(&mut section, "headers_max_bytes", 16_384, 1 << 20),
            body_max_bytes: count(&mut section, "body_max_bytes", 262_144, 16 << 20),
            drain_timeout: section.millis("drain_timeout_ms", 20_000),
        };
        if server.bodies_max_bytes < server.body_max_bytes {
            section.mistake(
                "bodies_max_bytes",
                format!(
                    "is {}, expected at least body_max_bytes {}, or the largest body never fits",
                    server.bodies_max_bytes, server.body_max_bytes
                ),
            );
        }
        section.finish();
        server
    }

    fn tls(&self, mut section: Section) -> Tls {
        let tls = Tls {
            certificate_file: self
                .path(&section.required("certificate_file", "name the server's PEM chain")),
            private_key_file: self
                .path(&section.required("private_key_file", "name the server's PEM private key")),
            client_ca_file: self.path(&section.required(
                "client_ca_file",
                "name the PEM of the authorities that issue client certificates",
            )),
            client_crl_files: section
                .texts("client_crl_files")
                .iter()
                .map(|file| self.path(file))
                .collect(),
            tls12: section.flag("tls12", false),
        };
        section.finish();
        tls
    }

    fn admin(&self, mut section: Section) -> Admin {
        let socket =
            section.text("socket").unwrap_or_else(|| "/run/signing-proxy/admin.sock".into());
        let admin = Admin {
            socket: self.path(&socket),
            allowed_uids: section.ids("allowed_uids").unwrap_or_else(|| vec![0]),
            allowed_gids: section.ids("allowed_gids").unwrap_or_default(),
        };
        section.finish();
        admin
    }
}

fn gate(mut section: Section) -> (Thresholds, Probe) {
    let lease_ms = section.number("lease_ms", 8_000, 100..=600_000);
    let interval_ms = section.number("probe_interval_ms", 5_000, 10..=300_000);
    let timeout_ms = section.number("probe_timeout_ms", 2_000, 10..=60_000);
    let needed_ms = interval_ms + timeout_ms + LEASE_SLACK_MS;
    if lease_ms < needed_ms {
        section.mistake(
            "lease_ms",
            format!(
                "is {lease_ms}, expected at least {needed_ms} = probe_interval_ms {interval_ms} \
                 + probe_timeout_ms {timeout_ms} + {LEASE_SLACK_MS}, or one slow probe shuts the gate"
            ),
        );
    }
    let successes_to_open = small(&mut section, "successes_to_open", 3);
    let thresholds = Thresholds {
        lease: Duration::from_millis(lease_ms),
        failures_to_shut: small(&mut section, "failures_to_shut", 3),
        successes_to_open,
        recovery_min: Duration::from_millis(section.number("recovery_min_ms", 1_000, 0..=600_000)),
    };
    let recovery_ms = section.number("recovery_probe_interval_ms", 500, 10..=60_000);
    if recovery_ms + timeout_ms >= lease_ms {
        section.mistake(
            "recovery_probe_interval_ms",
            format!(
                "is {recovery_ms}; with probe_timeout_ms {timeout_ms} it must stay below \
                 lease_ms {lease_ms}, or a gate never opens again"
            ),
        );
    }
    section.finish();
    let probe = Probe {
        interval: Duration::from_millis(interval_ms),
        recovery_interval: Duration::from_millis(recovery_ms),
        timeout: Duration::from_millis(timeout_ms),
    };
    (thresholds, probe)
}

fn address(section: &mut Section, key: &'static str, default: &str) -> SocketAddr {
    let text = section.text(key).unwrap_or_else(|| default.to_owned());
    text.parse().unwrap_or_else(|_| {
        section.mistake(key, format!("{text:?} is not an address and port such as {default}"));
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

fn count(section: &mut Section, key: &'static str, default: u64, max: u64) -> usize {
    usize::try_from(section.number(key, default, 1..=max)).unwrap_or(1)
}

fn small(section: &mut Section, key: &'static str, default: u64) -> u32 {
    u32::try_from(section.number(key, default, 1..=1_000)).unwrap_or(1)
}

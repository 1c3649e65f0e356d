//! From a file's text and the environment to a [`Config`], mistake by mistake.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use signing_core::gate::Thresholds;
use signing_core::policy::Rules;
use signing_core::{Algorithm, Caller, Kid};
use toml::Table;

use super::environment::Environment;
use super::section::{Mistakes, Section};
use super::{Admin, AwsKms, Config, Probe, Server, Setting, Tls, Upstream};

/// What the lease needs on top of probe interval and time-out, so that one
/// slow probe does not shut a healthy gate.
const LEASE_SLACK_MS: u64 = 1000;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

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
    let signers = reader.signers(root.sections("signers"), setting, &mistakes);
    let callers = callers(root.sections("callers"), &signers);
    let aliases = aliases(root.section("aliases"), &signers, &mistakes);
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
            requests_in_flight_max: count(&mut section, "requests_in_flight_max", 512, 100_000),
            http2_streams_max: u32::try_from(section.number("http2_streams_max", 128, 1..=10_000))
                .unwrap_or(128),
            handshake_timeout: millis(&mut section, "handshake_timeout_ms", 5_000),
            header_read_timeout: millis(&mut section, "header_read_timeout_ms", 30_000),
            body_read_timeout: millis(&mut section, "body_read_timeout_ms", 5_000),
            request_timeout: millis(&mut section, "request_timeout_ms", 5_000),
            connection_age_max: millis(&mut section, "connection_age_max_ms", 3_600_000),
            headers_max_bytes: count(&mut section, "headers_max_bytes", 16_384, 1 << 20),
            body_max_bytes: count(&mut section, "body_max_bytes", 262_144, 16 << 20),
            drain_timeout: millis(&mut section, "drain_timeout_ms", 20_000),
        };
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

    fn signers(
        &self,
        sections: Vec<Section>,
        setting: Setting,
        mistakes: &Mistakes,
    ) -> BTreeMap<Kid, Upstream> {
        if sections.is_empty() {
            mistakes.add("signers: is missing; add [[signers]] with a kid and its upstream");
        }
        let mut signers = BTreeMap::new();
        for mut section in sections {
            let kid = kid(&mut section, "kid");
            let mut upstreams = section.sections("upstreams");
            let upstream = match (upstreams.pop(), upstreams.is_empty()) {
                (Some(only), true) => self.upstream(only, setting),
                (None, _) => {
                    section.mistake("upstreams", "is missing; add one [[signers.upstreams]]");
                    None
                }
                (Some(_), false) => {
                    let found = upstreams.len() + 1;
                    section.mistake("upstreams", format!("holds {found}, expected exactly one"));
                    None
                }
            };
            if let Some(kid) = kid {
                if signers.contains_key(&kid) {
                    section.mistake("kid", format!("{:?} appears twice", kid.as_str()));
                } else if let Some(upstream) = upstream {
                    signers.insert(kid, upstream);
                }
            }
            section.finish();
        }
        signers
    }

    fn upstream(&self, mut section: Section, setting: Setting) -> Option<Upstream> {
        let provider = section.required("provider", "expected \"aws-kms\" or \"development\"");
        let upstream = match provider.as_str() {
            "aws-kms" => Some(Upstream::AwsKms(self.aws_kms(&mut section, setting))),
            "development" => {
                if setting != Setting::Development {
                    section.mistake(
                        "provider",
                        "is \"development\", whose keys lie in plain files; it needs \
                         deployment.environment = \"development\"",
                    );
                }
                let file = section.required("key_file", "name the PKCS#8 PEM of the key");
                Some(Upstream::Development { key_file: self.path(&file) })
            }
            "" => None,
            other => {
                section.mistake(
                    "provider",
                    format!("is {other:?}, expected \"aws-kms\" or \"development\""),
                );
                None
            }
        };
        // With an unknown provider no key is known, and each would be reported.
        if upstream.is_some() {
            section.finish();
        }
        upstream
    }

    fn aws_kms(&self, section: &mut Section, setting: Setting) -> AwsKms {
        let environment = self.environment;
        let mut or_variable = |key: &'static str, variables: &[&str]| {
            section.text(key).or_else(|| {
                variables.iter().find_map(|name| environment.get(name)).map(str::to_owned)
            })
        };
        let key_id = or_variable("key_id", &["KMS_KEY_ID"]);
        let region = or_variable("region", &["AWS_REGION", "AWS_DEFAULT_REGION"]);
        let endpoint = or_variable("endpoint", &["KMS_ENDPOINT"]);
        if key_id.is_none() {
            section.mistake("key_id", "is missing; set it or KMS_KEY_ID");
        }
        if region.is_none() {
            section.mistake("region", "is missing; set it or AWS_REGION");
        }
        if let Some(endpoint) = &endpoint
            && let Err(why) = endpoint_allowed(endpoint, setting)
        {
            section.mistake("endpoint", why);
        }
        AwsKms {
            key_id: key_id.unwrap_or_default(),
            region: region.unwrap_or_default(),
            endpoint,
            connect_timeout: millis(section, "connect_timeout_ms", 1_000),
            call_timeout: millis(section, "call_timeout_ms", 2_000),
            retries_per_second_max: u32::try_from(section.number(
                "retries_per_second_max",
                10,
                0..=10_000,
            ))
            .unwrap_or(0),
        }
    }
}

/// `https://` anywhere; `http://` only on loopback, and never in production.
fn endpoint_allowed(endpoint: &str, setting: Setting) -> Result<(), String> {
    let uri: http::Uri = endpoint
        .parse()
        .map_err(|_| format!("{endpoint:?} is not a URL such as https://kms.example.com"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(()),
        Some("http") if setting != Setting::Production && is_loopback => Ok(()),
        Some("http") => Err(format!(
            "{endpoint:?} is not encrypted; use https:// (http:// is taken only on loopback \
             with deployment.environment = \"test\" or \"development\")"
        )),
        _ => Err(format!("{endpoint:?} is not a URL such as https://kms.example.com")),
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

fn callers(sections: Vec<Section>, signers: &BTreeMap<Kid, Upstream>) -> BTreeMap<Caller, Rules> {
    let mut callers = BTreeMap::new();
    for mut section in sections {
        let name = section.required("name", "write the SPIFFE URI or DNS name of the certificate");
        let mut rules = Rules::default();
        let grants = section.sections("signers");
        if grants.is_empty() {
            section.mistake("signers", "is missing; add [[callers.signers]] with a kid");
        }
        for mut grant in grants {
            let kid = configured_kid(&mut grant, "kid", signers);
            let names = grant.texts("algorithms");
            let mut algorithms = Vec::new();
            for name in &names {
                match Algorithm::parse(name) {
                    Some(algorithm) => algorithms.push(algorithm),
                    None => grant.mistake(
                        "algorithms",
                        format!("{name:?} is not one of {}", Algorithm::names()),
                    ),
                }
            }
            if names.is_empty() {
                let fix = format!("is missing; list some of {}", Algorithm::names());
                grant.mistake("algorithms", fix);
            }
            grant.finish();
            rules.signers.extend(kid.map(|kid| (kid, algorithms)));
        }
        if let Some(text) = section.text("default_signer") {
            match Kid::parse(&text) {
                Ok(kid) if rules.signers.contains_key(&kid) => rules.default_signer = Some(kid),
                _ => section.mistake(
                    "default_signer",
                    format!("{text:?} is none of this caller's signers; grant it or name another"),
                ),
            }
        }
        match Caller::parse(&name) {
            Ok(caller) if callers.contains_key(&caller) => {
                section.mistake("name", format!("{name:?} appears twice"));
            }
            Ok(caller) => {
                callers.insert(caller, rules);
            }
            Err(_) if name.is_empty() => {}
            Err(error) => section.mistake("name", error),
        }
        section.finish();
    }
    callers
}

fn aliases(
    section: Section,
    signers: &BTreeMap<Kid, Upstream>,
    mistakes: &Mistakes,
) -> BTreeMap<String, Kid> {
    let mut aliases = BTreeMap::new();
    for (alias, target) in section.into_texts() {
        match Kid::parse(&target) {
            Ok(_) if signers.keys().any(|kid| kid.as_str() == alias) => {
                mistakes.add(format!(
                    "aliases.{alias:?}: is itself a signer; an alias is another name"
                ));
            }
            Ok(kid) if signers.contains_key(&kid) => {
                aliases.insert(alias, kid);
            }
            _ => mistakes
                .add(format!("aliases.{alias:?}: {target:?} is not a kid under [[signers]]")),
        }
    }
    aliases
}

fn kid(section: &mut Section, key: &'static str) -> Option<Kid> {
    let text = section.required(key, "write the kid that the registry gives the key");
    if text.is_empty() {
        return None;
    }
    Kid::parse(&text).map_err(|why| section.mistake(key, format!("{text:?}: {why}"))).ok()
}

fn configured_kid(
    section: &mut Section,
    key: &'static str,
    signers: &BTreeMap<Kid, Upstream>,
) -> Option<Kid> {
    let kid = kid(section, key)?;
    if !signers.contains_key(&kid) {
        section.mistake(key, format!("{:?} is not a kid under [[signers]]", kid.as_str()));
        return None;
    }
    Some(kid)
}

fn address(section: &mut Section, key: &'static str, default: &str) -> SocketAddr {
    let text = section.text(key).unwrap_or_else(|| default.to_owned());
    text.parse().unwrap_or_else(|_| {
        section.mistake(key, format!("{text:?} is not an address and port such as {default}"));
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

fn millis(section: &mut Section, key: &'static str, default: u64) -> Duration {
    Duration::from_millis(section.number(key, default, 1..=DAY_MS))
}

fn count(section: &mut Section, key: &'static str, default: u64, max: u64) -> usize {
    usize::try_from(section.number(key, default, 1..=max)).unwrap_or(1)
}

fn small(section: &mut Section, key: &'static str, default: u64) -> u32 {
    u32::try_from(section.number(key, default, 1..=1_000)).unwrap_or(1)
}

//! A real `signing-proxy` process, configured by a test.

mod config;
mod running;
mod signers;

pub use signers::{batch_entry, entry};

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::audit_key::audit_entry;
use crate::kms::{Key, Kms};
use crate::pki::Profile;
use crate::process::Process;
use crate::programs::ours;
use crate::strace::Strace;
use crate::wait::eventually;
use crate::world::World;
use running::serving;

/// A proxy to be: signers, callers, and lines of configuration.
#[derive(Clone, Debug)]
pub struct ProxyBuilder<'w> {
    world: &'w World,
    signers: Vec<(String, Key)>,
    replicas: Vec<(String, Kms, Key)>,
    prefer: String,
    registry: Vec<Value>,
    callers: Vec<(String, Vec<Granted>)>,
    rates: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    server: String,
    local: String,
    tls: String,
    watches_tls: bool,
    admin: String,
    gate: String,
    audit: String,
    kms: String,
    breakglass: String,
    sections: String,
    /// Of signers that are not in the KMS: their upstreams' lines.
    upstreams: Vec<(String, String)>,
    /// More lines of a signer.
    of_signers: Vec<(String, String)>,
    endpoint: String,
    directory: String,
    journal: String,
    segment_bytes: u64,
}

/// A signer and algorithms that a caller is granted.
#[derive(Clone, Debug)]
struct Granted {
    kid: String,
    algorithms: Vec<String>,
}

impl Granted {
    fn new(kid: &str, algorithms: &[&str]) -> Self {
        let algorithms = algorithms.iter().map(ToString::to_string).collect();
        Self { kid: kid.to_owned(), algorithms }
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy<'w> {
    world: &'w World,
    /// The process.
    pub process: Process,
    /// `127.0.0.1:PORT` of the data plane.
    pub listen: String,
    /// `127.0.0.1:PORT` of metrics and health.
    pub metrics: String,
    /// Its local doors, in the order of the configuration: `127.0.0.1:PORT` or `unix:PATH`.
    pub local: Vec<String>,
    /// The admin socket.
    pub socket: PathBuf,
}

/// Gates that shut and open quickly, but that a busy machine does not shut.
const GATE: &str = "lease_ms = 4000\nprobe_interval_ms = 200\nprobe_timeout_ms = 2500\n\
                    recovery_probe_interval_ms = 20\nrecovery_min_ms = 0\nsuccesses_to_open = 2\n";

impl<'w> ProxyBuilder<'w> {
    pub(crate) fn new(world: &'w World) -> Self {
        Self {
            world,
            signers: Vec::new(),
            replicas: Vec::new(),
            prefer: "configured".to_owned(),
            registry: Vec::new(),
            callers: Vec::new(),
            rates: Vec::new(),
            environment: Vec::new(),
            server: String::new(),
            local: String::new(),
            tls: String::new(),
            watches_tls: false,
            admin: String::new(),
            gate: GATE.to_owned(),
            audit: String::new(),
            kms: String::new(),
            breakglass: String::new(),
            sections: String::new(),
            upstreams: Vec::new(),
            of_signers: Vec::new(),
            endpoint: world.kms.endpoint.clone(),
            directory: "proxy".to_owned(),
            journal: "journal".to_owned(),
            segment_bytes: 16 << 20,
        }
    }

    /// Grants `caller` those signers, which have to be there, with every algorithm of
    /// their keys; the first is its default.
    #[must_use]
    pub fn caller(mut self, caller: &str, kids: &[&str]) -> Self {
        let algorithms = |kid: &str| {
            let (_, key) = self.signers.iter().find(|(name, _)| name == kid).unwrap();
            key.kind.algorithms()
        };
        let granted = kids.iter().map(|kid| Granted::new(kid, algorithms(kid))).collect();
        self.callers.push((caller.to_owned(), granted));
        self
    }

    /// Grants `caller` those signers with those algorithms; the first is its default.
    #[must_use]
    pub fn caller_with(mut self, caller: &str, granted: &[(&str, &[&str])]) -> Self {
        let granted =
            granted.iter().map(|(kid, algorithms)| Granted::new(kid, algorithms)).collect();
        self.callers.push((caller.to_owned(), granted));
        self
    }

    /// Adds lines to that caller's section.
    #[must_use]
    pub fn of_caller(mut self, caller: &str, lines: &str) -> Self {
        self.rates.push((caller.to_owned(), lines.to_owned()));
        self
    }

    /// Lets that caller ask so often, and so many times at once.
    #[must_use]
    pub fn rate(mut self, caller: &str, per_second: u32, burst: u32) -> Self {
        let lines = format!("requests_per_second_max = {per_second}\nburst_max = {burst}");
        self.rates.push((caller.to_owned(), lines));
        self
    }

    /// Sets a variable of the proxy's environment.
    #[must_use]
    pub fn environment(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Adds lines to `[server]`.
    #[must_use]
    pub fn server(mut self, lines: &str) -> Self {
        self.server = lines.to_owned();
        self
    }

    /// Adds a local door there, with callers: each a name and the line of its proof.
    #[must_use]
    pub fn local(mut self, listen: &str, callers: &[(&str, &str)]) -> Self {
        self.local += &format!("[[server.local]]\nlisten = \"{listen}\"\n");
        for (name, proof) in callers {
            self.local += &format!("[[server.local.callers]]\nname = \"{name}\"\n{proof}\n");
        }
        self
    }

    /// Adds tables of their own.
    #[must_use]
    pub fn tables(mut self, lines: &str) -> Self {
        self.local += lines;
        self.local += "\n";
        self
    }

    /// Adds lines to `[server.tls]`.
    #[must_use]
    pub fn tls(mut self, lines: &str) -> Self {
        self.tls = lines.to_owned();
        self
    }

    /// Leaves the watch over the files of `[server.tls]` on, as it is by default.
    #[must_use]
    pub fn watches_tls(mut self) -> Self {
        self.watches_tls = true;
        self
    }

    /// Adds lines to `[admin]`.
    #[must_use]
    pub fn admin(mut self, lines: &str) -> Self {
        self.admin = lines.to_owned();
        self
    }

    /// Adds lines to `[audit]`.
    #[must_use]
    pub fn audit(mut self, lines: &str) -> Self {
        self.audit = lines.to_owned();
        self
    }

    /// Replaces the lines of `[gate]`.
    #[must_use]
    pub fn gate(mut self, lines: &str) -> Self {
        self.gate = lines.to_owned();
        self
    }

    /// Makes canaries rare and bears many failures: what the upstream sees is
    /// callers' traffic, and what shuts the gate is told by a test.
    #[must_use]
    pub fn rare_canaries(self) -> Self {
        self.gate(
            "lease_ms = 60000\nprobe_interval_ms = 50000\nrecovery_probe_interval_ms = 20\n\
             recovery_min_ms = 0\nsuccesses_to_open = 1\nfailures_to_shut = 100",
        )
    }

    /// Adds lines to each KMS upstream.
    #[must_use]
    pub fn kms(mut self, lines: &str) -> Self {
        self.kms = lines.to_owned();
        self
    }

    /// Lines of `[breakglass]`.
    #[must_use]
    pub fn breakglass(mut self, lines: &str) -> Self {
        self.breakglass = lines.to_owned();
        self
    }

    /// Points it at another KMS than the world's.
    #[must_use]
    pub fn endpoint(mut self, endpoint: &str) -> Self {
        self.endpoint = endpoint.to_owned();
        self
    }

    /// Names the directory it lives in, for a second proxy in the same world.
    #[must_use]
    pub fn directory(mut self, name: &str) -> Self {
        self.directory = name.to_owned();
        self
    }

    /// Keeps its journal there, seen from where it lives.
    #[must_use]
    pub fn journal_in(mut self, path: &str) -> Self {
        self.journal = path.to_owned();
        self
    }

    /// Sets aside so much for each segment of its journal.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Writes its files and returns the config file's path.
    #[must_use]
    pub fn write(&self) -> PathBuf {
        let scratch = &self.world.scratch;
        let file = |name: &str| format!("{}/{name}", self.directory);
        let server = self.world.pki.issue(&Profile::server());
        scratch.write(&file("server.pem"), &server.certificate_pem);
        scratch.write(&file("server.key"), &server.key_pem);
        scratch.write(&file("ca.pem"), &self.world.pki.ca_pem);
        std::fs::create_dir_all(scratch.path(&file("state"))).unwrap();
        let mut registry = self.registry.clone();
        registry.push(audit_entry(&scratch.path(&file("audit.key"))));
        scratch.write(&file("signers.json"), json!({"signers": registry}).to_string());
        scratch.write(&file("signing-proxy.toml"), self.config())
    }

    /// The command that would serve it; its journal is made if there is none.
    #[must_use]
    pub fn command(&self) -> Command {
        let config = self.write();
        if !self.journal().exists() {
            // Where the configuration is mistaken, the start says so itself.
            let _ = self.verb("init", &config).output().unwrap();
        }
        self.verb("serve", &config)
    }

    /// Where its journal is.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.world.scratch.path(&self.directory).join(&self.journal)
    }

    /// The command of a verb that takes the config file.
    #[must_use]
    pub fn verb(&self, verb: &str, config: &Path) -> Command {
        let mut command = Command::new(ours("signing-proxy"));
        command
            .args(verb.split(' '))
            .arg("--config")
            .arg(config)
            .env_clear()
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(self.environment.iter().map(|(key, value)| (key, value)));
        for (key, _) in self.environment.iter().filter(|(_, value)| value.is_empty()) {
            command.env_remove(key);
        }
        command
    }

    /// Leaves the AWS SDK to find credentials by itself.
    #[must_use]
    pub fn without_credentials(self) -> Self {
        self.environment("AWS_ACCESS_KEY_ID", "").environment("AWS_SECRET_ACCESS_KEY", "")
    }

    /// Starts it and waits until it serves; its gates may still be shut.
    pub async fn start_shut(self) -> Proxy<'w> {
        let command = self.command();
        self.started(command).await
    }

    /// Starts `command`, which runs it, and waits until it serves.
    pub async fn started(self, command: Command) -> Proxy<'w> {
        let mut process = Process::start(command);
        let (listen, metrics, local) = process.line("the line that it serves", serving).await;
        let socket = self.world.scratch.path(&format!("{}/admin.sock", self.directory));
        Proxy { world: self.world, process, listen, metrics, local, socket }
    }

    /// Starts it, perhaps under strace, and waits until it serves; its gates may still be
    /// shut.
    ///
    /// # Errors
    /// What it said, if it ended before.
    pub async fn try_start(self, strace: Option<&Strace>) -> Result<Proxy<'w>, String> {
        let command = self.command();
        let mut process = Process::start(match strace {
            Some(strace) => strace.command(&command),
            None => command,
        });
        let serving = || {
            let ended = process.has_said_all();
            let said = process.output();
            let addresses = said.lines().find_map(serving);
            std::future::ready(match addresses {
                Some(addresses) => Some(Ok(addresses)),
                None => ended.then_some(Err(said)),
            })
        };
        let (listen, metrics, local) = eventually("it serves or ends", serving).await?;
        let socket = self.world.scratch.path(&format!("{}/admin.sock", self.directory));
        Ok(Proxy { world: self.world, process, listen, metrics, local, socket })
    }

    /// Starts it and waits until every gate is open.
    pub async fn start(self) -> Proxy<'w> {
        let proxy = self.start_shut().await;
        proxy.healthy().await;
        proxy
    }
}

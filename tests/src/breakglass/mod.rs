//! A real `breakglass-signer`, with approvers' OpenSSH keys, an emergency key that openssl
//! made, and a client of its socket that knows only what the wire's page says.
//!
//! ```text
//! let world = World::new();
//! let signer = world.signer().replaces("payments", &key).start().await;
//! let mut proxy = signer.connect().await;                  // says hello
//! let session = signer.activated(&mut proxy, &signer.request()).await;
//! let signed = proxy.sign(&session, "payments", b"hello").await;
//! ```

mod client;
mod second_key;
mod secrets;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration as Span, OffsetDateTime};

use crate::audit_key::audit_entry;
use crate::kms::Key;
use crate::process::Process;
use crate::programs::{ours, system};
use crate::scratch::Scratch;
use crate::strace::Strace;
use crate::wait::eventually;

pub use secrets::OF_PASSPHRASE;
pub use wire::{Wire, activation, checkpoint, nonce, proxy_head, sign};

/// What opens the emergency key.
pub const PASSPHRASE: &str = "correct horse battery staple";
/// Its kid.
pub const EMERGENCY_KID: &str = "emergency";
/// Where a proxy in the same scratch directory finds its socket.
pub const SOCKET: &str = "../signer/signer.sock";
/// The namespace of approvals.
pub const NAMESPACE: &str = "breakglass@signing-proxy";
/// The caller of every request here.
pub const CALLER: &str = "spiffe://test/alice";

/// An emergency signer to be.
#[derive(Clone, Debug)]
pub struct SignerBuilder<'s> {
    scratch: &'s Scratch,
    directory: String,
    deployment: String,
    entries: Vec<Value>,
    algorithm: &'static str,
    signs_batches: bool,
    min_outage_s: u64,
    approvers: String,
    caps: String,
    more: String,
    development: bool,
    allowed_uid: u32,
    environment: Vec<(String, String)>,
}

/// A running one.
#[derive(Debug)]
pub struct Signer<'s> {
    /// How it was made; to start it again.
    pub builder: SignerBuilder<'s>,
    /// The process.
    pub process: Process,
    /// What it says of itself.
    pub instance: String,
}

impl<'s> SignerBuilder<'s> {
    /// In that directory of the scratch directory nothing is there yet.
    #[must_use]
    pub fn new(scratch: &'s Scratch) -> Self {
        Self {
            scratch,
            directory: "signer".to_owned(),
            deployment: "test".to_owned(),
            entries: Vec::new(),
            algorithm: "ed25519",
            signs_batches: false,
            min_outage_s: 60,
            approvers: "hardware_required = false\n".to_owned(),
            caps: String::new(),
            more: String::new(),
            development: true,
            allowed_uid: nix::unistd::geteuid().as_raw(),
            environment: Vec::new(),
        }
    }

    /// Names the directory it lives in, for a second signer in the same world.
    #[must_use]
    pub fn directory(mut self, name: &str) -> Self {
        self.directory = name.to_owned();
        self
    }

    /// Registers `key` as the signing key `kid`, which a request may replace.
    #[must_use]
    pub fn replaces(mut self, kid: &str, key: &Key) -> Self {
        self.entries.push(json!({
            "signer_kid": kid, "algorithm": key.kind.algorithm(), "public_key_pem": key.public_key_pem,
            "mode": self.signs_batches.then_some("batch"),
        }));
        self
    }

    /// An emergency key that signs batches, of one leaf each.
    #[must_use]
    pub fn batch(mut self) -> Self {
        self.signs_batches = true;
        self
    }

    /// An emergency key of P-256.
    #[must_use]
    pub fn p256(mut self) -> Self {
        self.algorithm = "p256";
        self
    }

    /// An emergency key of RSA, of that many bits.
    #[must_use]
    pub fn rsa(mut self, bits: u32) -> Self {
        self.algorithm = match bits {
            2048 => "rsa-2048",
            3072 => "rsa-3072",
            _ => "rsa-4096",
        };
        self
    }

    /// The deployment's name.
    #[must_use]
    pub fn deployment(mut self, name: &str) -> Self {
        self.deployment = name.to_owned();
        self
    }

    /// How long an outage has to be.
    #[must_use]
    pub fn min_outage_s(mut self, seconds: u64) -> Self {
        self.min_outage_s = seconds;
        self
    }

    /// Replaces the lines of `[approvers]` beside `file`.
    #[must_use]
    pub fn approvers(mut self, lines: &str) -> Self {
        self.approvers = lines.to_owned();
        self
    }

    /// Lines of `[caps]`.
    #[must_use]
    pub fn caps(mut self, lines: &str) -> Self {
        self.caps = lines.to_owned();
        self
    }

    /// More sections.
    #[must_use]
    pub fn more(mut self, lines: &str) -> Self {
        self.more = lines.to_owned();
        self
    }

    /// Without the development switch.
    #[must_use]
    pub fn production(mut self) -> Self {
        self.development = false;
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn environment(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A path in its directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(&format!("{}/{name}", self.directory))
    }

    /// Its journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.path("journal")
    }

    /// What stands in the registry beside the signing keys: the emergency key and this
    /// signer's audit key, for the proxy's registry too.
    #[must_use]
    pub fn registry_entries(&self) -> Vec<Value> {
        let key = self.path("emergency.pem");
        let passphrase = self.scratch.write(&format!("{}/passphrase", self.directory), PASSPHRASE);
        if !key.exists() && !self.path("public.pem").exists() {
            let mut openssl = system("openssl");
            openssl.arg("genpkey").args(match self.algorithm.strip_prefix("rsa-") {
                Some(bits) => vec![
                    "-algorithm".to_owned(),
                    "RSA".to_owned(),
                    "-pkeyopt".to_owned(),
                    format!("rsa_keygen_bits:{bits}"),
                ],
                None if self.algorithm == "p256" => {
                    ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
                        .map(str::to_owned)
                        .into()
                }
                None => ["-algorithm", "ed25519"].map(str::to_owned).into(),
            });
            openssl.args(["-aes256", "-pass"]).arg(format!("file:{}", passphrase.display()));
            succeeds(openssl.arg("-out").arg(&key));
            let mut openssl = system("openssl");
            openssl
                .args(["pkey", "-pubout", "-passin"])
                .arg(format!("file:{}", passphrase.display()));
            let public = succeeds(openssl.arg("-in").arg(&key));
            fs::write(self.path("public.pem"), public).unwrap();
        }
        let algorithm = match self.algorithm {
            "p256" => "ecdsa-p256-sha256",
            "ed25519" => "ed25519",
            _ => "rsa-sha256",
        };
        let mut audit = audit_entry(&self.path("audit.key"));
        audit["signer_kid"] = json!("signer-audit");
        let mut emergency = json!({
            "signer_kid": EMERGENCY_KID, "algorithm": algorithm, "purpose": "breakglass",
            "public_key_pem": fs::read_to_string(self.path("public.pem")).unwrap(),
        });
        if self.signs_batches {
            emergency["mode"] = json!("batch");
        }
        vec![emergency, audit]
    }

    /// Writes its files and returns the config file's path.
    #[must_use]
    pub fn write(&self) -> PathBuf {
        fs::create_dir_all(self.path("state")).unwrap();
        let mut entries = self.registry_entries();
        entries.extend(self.entries.clone());
        entries.extend(self.proxies());
        fs::write(self.path("signers.json"), json!({"signers": entries}).to_string()).unwrap();
        if !self.path("approvers").exists() {
            let lines = ["security", "finance"].map(|name| self.approver_line(name, "ed25519"));
            fs::write(self.path("approvers"), lines.concat()).unwrap();
        }
        let config = self.path("breakglass-signer.toml");
        fs::write(&config, self.config()).unwrap();
        config
    }

    /// The approvers' line of `NAME@test`, whose key is made if it is not there.
    #[must_use]
    pub fn approver_line(&self, name: &str, kind: &str) -> String {
        fs::create_dir_all(self.path("")).unwrap();
        let key = self.path(name);
        if !key.exists() {
            let mut keygen = system("ssh-keygen");
            succeeds(keygen.args(["-q", "-t", kind, "-N", "", "-C", name, "-f"]).arg(&key));
        }
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        format!("{name}@test namespaces=\"{NAMESPACE}\" {public}")
    }

    fn config(&self) -> String {
        format!(
            "[deployment]\nname = \"{}\"\nenvironment = \"{}\"\n\
             [signer]\nsocket = \"signer.sock\"\nallowed_uids = [{}]\n\
             [operator]\nsocket = \"operator.sock\"\nallowed_uids = [{}]\n\
             [state]\ndir = \"state\"\n\
             [audit]\ndir = \"journal\"\nkey_file = \"audit.key\"\nsegment_bytes = 1048576\n\
             [registry]\nfile = \"signers.json\"\n\
             [approvers]\nfile = \"approvers\"\n{}\n\
             [[approvers.roles]]\nrole = \"Security\"\nprincipals = [\"security@test\"]\n\
             [[approvers.roles]]\nrole = \"Finance\"\nprincipals = [\"finance@test\"]\n\
             [[emergency_keys]]\nkid = \"{EMERGENCY_KID}\"\nfile = \"emergency.pem\"\n\
             [caps]\n{}\n[outage]\nmin_s = {}\n{}\n",
            self.deployment,
            if self.development { "development" } else { "production" },
            self.allowed_uid,
            nix::unistd::geteuid(),
            self.approvers,
            self.caps,
            self.min_outage_s,
            self.more,
        )
    }

    /// The command of a verb that takes the config file.
    #[must_use]
    pub fn verb(&self, verb: &str, config: &Path) -> Command {
        let mut command = Command::new(ours("breakglass-signer"));
        command.args([verb, "--config"]).arg(config).env_clear();
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
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

    /// Starts it, perhaps under strace, and waits until it serves.
    ///
    /// # Errors
    /// What it said, if it ended before.
    pub async fn try_start(self, strace: Option<&Strace>) -> Result<Signer<'s>, String> {
        let command = self.command();
        let mut process = Process::start(match strace {
            Some(strace) => strace.command(&command),
            None => command,
        });
        let instance = eventually("it serves or ends", || {
            let ended = process.has_said_all();
            let said = process.output();
            let found = said.lines().find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                (line["message"] == "serving")
                    .then(|| line["instance"].as_str().unwrap().to_owned())
            });
            std::future::ready(match found {
                Some(instance) => Some(Ok(instance)),
                None => ended.then_some(Err(said)),
            })
        })
        .await?;
        Ok(Signer { builder: self, process, instance })
    }

    /// Starts it and waits until it serves.
    pub async fn start(self) -> Signer<'s> {
        self.try_start(None).await.unwrap()
    }
}

impl Signer<'_> {
    /// `signer.sock`.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.builder.path("signer.sock")
    }

    /// `operator.sock`.
    #[must_use]
    pub fn operator_socket(&self) -> PathBuf {
        self.builder.path("operator.sock")
    }

    /// A request for an hour that everything is right with.
    #[must_use]
    pub fn request(&self) -> Value {
        let now = OffsetDateTime::now_utc();
        let at =
            |offset: Span| (now + offset).replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap();
        let entry = self.builder.registry_entries().remove(0);
        let replaces: Vec<_> =
            self.builder.entries.iter().map(|entry| entry["signer_kid"].clone()).collect();
        json!({
            "type": "signing-proxy/breakglass-request/v1", "id": "INC-7", "audience": self.builder.deployment,
            "instances": [self.instance], "incident": "INC-7", "justification": "KMS is down",
            "emergency_kid": EMERGENCY_KID, "emergency_key_sha256": sha256_of_pem(&entry),
            "replaces": replaces, "callers": [CALLER],
            "outage_since": at(-Span::hours(1)), "not_before": at(Span::ZERO),
            "expires_at": at(Span::hours(1)), "max_signatures": 1000, "nonce": nonce(),
        })
    }

    /// Has the approver `name` sign these bytes, with the real `ssh-keygen -Y sign`.
    #[must_use]
    pub fn approve(&self, name: &str, request: &[u8]) -> Vec<u8> {
        approve_with(&self.builder.path(name), NAMESPACE, request)
    }

    /// Brings the passphrase as `signctl breakglass unlock` does; what it said.
    pub async fn unlock_with(&self, passphrase: &str) -> (bool, String) {
        let mut command = Command::new(ours("signctl"));
        command.args(["breakglass", "unlock", "--operator-socket"]).arg(self.operator_socket());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Where the signer is gone it may have ended before it reads; then its exit says so.
        let _ = std::io::Write::write_all(
            &mut child.stdin.take().unwrap(),
            format!("{passphrase}\n").as_bytes(),
        );
        let done = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        let done = done.await.unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(said).unwrap())
    }

    /// Brings the right one.
    pub async fn unlock(&self) {
        let (unlocked, said) = self.unlock_with(PASSPHRASE).await;
        assert!(unlocked, "{said}");
    }

    /// What activates `request`, signed by both approvers.
    #[must_use]
    pub fn activation(&self, request: &Value) -> Value {
        let bytes = serde_json::to_vec_pretty(request).unwrap();
        let approvals = ["security", "finance"].map(|name| self.approve(name, &bytes));
        activation(&bytes, &approvals, request)
    }

    /// `request` signed by both approvers, as the proxy's admin socket takes it.
    #[must_use]
    pub fn papers(&self, request: &Value) -> Value {
        let papers = &self.activation(request)["activate"];
        json!({"request_b64": papers["request_b64"], "approvals_b64": papers["approvals_b64"]})
    }

    /// Unlocks, activates, and returns the session's name.
    pub async fn activated(&self, proxy: &mut Wire, request: &Value) -> String {
        self.unlock().await;
        let answer = proxy.ask(self.activation(request)).await;
        let session = &answer["activated"]["session"]["session"];
        session.as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Stops it in order.
    pub async fn stop(mut self) {
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(self.process.ended().await.success(), "{}", self.process.output());
    }
}

/// Has the key in that file sign these bytes, with the real `ssh-keygen -Y sign`.
#[must_use]
pub fn approve_with(key: &Path, namespace: &str, request: &[u8]) -> Vec<u8> {
    let scratch = Scratch::new();
    let file = scratch.write("request.json", request);
    let mut keygen = system("ssh-keygen");
    keygen.args(["-Y", "sign", "-n", namespace, "-f"]).arg(key).arg(&file);
    succeeds(keygen.stdin(Stdio::null()));
    fs::read(scratch.path("request.json.sig")).unwrap()
}

/// SHA-256 of the SubjectPublicKeyInfo of an entry of the registry.
#[must_use]
pub fn sha256_of_pem(entry: &Value) -> String {
    let pem = entry["public_key_pem"].as_str().unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(body).unwrap();
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der))
}

/// Runs a command that has to succeed; its standard output.
pub fn succeeds(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output.stdout
}

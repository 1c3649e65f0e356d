//! What a rehearsal runs on: an emergency signer of its own, with a key, an audit key, a registry, a journal and
//! sockets of its own. Of the real one it has the approvers, and which signing keys there are.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use audit::AuditKey;
use audit::walk::{Walk, WalkStep};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::clock::wall_now;
use host::{files, section};
use serde_json::{Value, json};
use signing_core::journal::{Init, Record};
use signing_core::key::{Batching, Purpose};
use signing_core::registry::Entry;
use signing_core::tree::SignedCheckpoint;
use signing_core::{Kid, Registry, Signer, json};
use toml::Table;
use toml::Value as Toml;
use zeroize::Zeroizing;

/// The key of every rehearsal. No registry that a consumer takes has it.
pub(super) const KID: &str = "rehearsal";
const AUDIT_KID: &str = "rehearsal-audit";
const PROXY_AUDIT_KID: &str = "rehearsal-proxy-audit";
const SEGMENT_BYTES: u64 = 1 << 20;
const PROGRAM: &str = "breakglass-signer";
/// How long the signer may take to start, and to end.
const STARTS_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// All of it. What is private is removed at the end, and the signer ends with it.
pub(super) struct Stage {
    /// Where approvers find the request, and leave their approvals.
    pub(super) shown: PathBuf,
    private: Private,
    /// The name of the deployment, which no real signer has.
    pub(super) deployment: String,
    /// A registered signing key that the rehearsal's stands in for.
    pub(super) replaces: Kid,
    /// The log of the proxy that asks, which the signer has to believe.
    pub(super) proxy_log: SignedCheckpoint,
    /// Opens the rehearsal's key, and nothing else.
    pub(super) passphrase: Zeroizing<String>,
    child: Option<Child>,
}

/// A directory that is removed at the end.
struct Private(PathBuf);

impl Drop for Private {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Stage {
    /// Makes it, and starts the signer.
    pub(super) fn set(
        (signers, signer_config): (&Path, &Path),
        shown: PathBuf,
    ) -> anyhow::Result<Self> {
        let real = Registry::from_json(&files::read_text(signers)?)
            .map_err(|mistakes| anyhow!("{}: {}", signers.display(), mistakes.join("; ")))?;
        let text = files::read_text(signer_config)
            .with_context(|| format!("--signer-config {}", signer_config.display()))?;
        let config = section::table(&text).map_err(|why| anyhow!("--signer-config {why}"))?;
        let mut signing = real.iter().filter(|signer| signer.purpose == Purpose::Signing);
        let replaces = signing.find(|signer| !signer.batch.is_batch());
        let replaces = replaces.map(|signer| signer.kid.clone());
        let replaces = replaces.ok_or_else(|| {
            anyhow!(
                "{} has no signing key that an emergency key could stand in for",
                signers.display()
            )
        })?;
        let template = std::env::temp_dir().join("signctl-rehearsal-XXXXXX");
        let private = nix::unistd::mkdtemp(&template);
        let private = Private(private.with_context(|| template.display().to_string())?);
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&shown)
            .with_context(|| format!("--dir {}: it must be a new directory", shown.display()))?;
        let mut secret = [0; 16];
        aws_lc_rs::rand::fill(&mut secret)
            .map_err(|_| anyhow!("the system gives no randomness"))?;
        let passphrase = Zeroizing::new(hex::encode(secret));
        let (config, deployment) = rehearsed(&config, signer_config, (&shown, &private.0))?;
        let proxy_key = audit_key(&private.0, "proxy-audit.pem")?;
        let proxy_log = log_of(&proxy_key, (&private.0.join("proxy-journal"), &deployment))?;
        let mut stage = Self {
            shown: fs::canonicalize(shown)?,
            private,
            deployment,
            replaces,
            proxy_log,
            passphrase,
            child: None,
        };
        let key = stage.keygen()?;
        stage.register(&real, key, &proxy_key)?;
        write(&stage.config(), document(&config).as_bytes())?;
        stage.start()?;
        Ok(stage)
    }

    pub(super) fn config(&self) -> PathBuf {
        self.shown.join("breakglass-signer.toml")
    }

    pub(super) fn registry(&self) -> PathBuf {
        self.shown.join("signers.json")
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.private.0.join("journal")
    }

    pub(super) fn socket(&self, name: &str) -> PathBuf {
        self.private.0.join(name)
    }

    /// Makes the key; its entry.
    fn keygen(&self) -> anyhow::Result<Value> {
        let mut command = Command::new(program());
        command.args(["keygen", "--kid", KID, "--algorithm", "ed25519", "--out"]);
        command.arg(self.private.0.join("key.pem"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(does_not_start)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ended without reading it says why by itself.
            let _ = writeln!(stdin, "{}", *self.passphrase);
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("{PROGRAM} keygen: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        json::from_slice(&output.stdout).context("what keygen printed is no entry")
    }

    /// Writes the registry: the real signing keys, the rehearsal's key, and the audit keys of both sides.
    fn register(&self, real: &Registry, key: Value, proxy: &AuditKey) -> anyhow::Result<()> {
        let audit = audit_entry(AUDIT_KID, &audit_key(&self.private.0, "audit.pem")?)?;
        let proxy = audit_entry(PROXY_AUDIT_KID, proxy)?;
        let signing = real.iter().filter(|signer| signer.purpose == Purpose::Signing);
        let mut entries: Vec<Value> = Vec::new();
        for signer in signing {
            entries.push(serde_json::to_value(Entry::publish(signer))?);
        }
        entries.push(key);
        entries.extend([audit, proxy]);
        let text = serde_json::to_vec_pretty(&json!({"signers": entries}))?;
        write(&self.registry(), &text)
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let output = self.verb("init").stdin(Stdio::null()).output().map_err(does_not_start)?;
        if !output.status.success() {
            bail!("{PROGRAM} init: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let log = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.private.0.join("log"))?;
        let mut command = self.verb("serve");
        command.arg("--while-stdin-open").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().map_err(does_not_start)?);
        let began = Instant::now();
        let sockets = ["operator.sock", "signer.sock"].map(|name| self.socket(name));
        while !sockets.iter().all(|socket| UnixStream::connect(socket).is_ok()) {
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || began.elapsed() > STARTS_WITHIN {
                let log = fs::read_to_string(self.private.0.join("log")).unwrap_or_default();
                bail!("the rehearsal's {PROGRAM} does not serve: {}", log.trim());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn verb(&self, verb: &str) -> Command {
        let mut command = Command::new(program());
        command.arg(verb).arg("--config").arg(self.config());
        // Guards of the real deployment ask for a real one.
        for (name, _) in std::env::vars_os() {
            let is_meant = name.to_str().is_some_and(|name| {
                name.starts_with("BREAKGLASS_SIGNER__") || name.starts_with("REQUIRE_")
            });
            if is_meant {
                command.env_remove(name);
            }
        }
        command
    }

    /// Stops the signer: its journal is whole then.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        drop(child.stdin.take());
        let began = Instant::now();
        while child.try_wait()?.is_none() {
            if began.elapsed() > STARTS_WITHIN {
                let _ = child.kill();
                let _ = child.wait();
                bail!(
                    "the rehearsal's {PROGRAM} did not stop within {} s",
                    STARTS_WITHIN.as_secs()
                );
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Makes an audit key in that file.
fn audit_key(directory: &Path, name: &str) -> anyhow::Result<AuditKey> {
    let file = directory.join(name);
    AuditKey::create(&file)?;
    Ok(AuditKey::load(&file)?)
}

fn audit_entry(kid: &str, key: &AuditKey) -> anyhow::Result<Value> {
    let signer = Signer {
        kid: Kid::parse(kid)?,
        public_key: key.public().clone(),
        purpose: Purpose::Audit,
        batch: Batching::No,
        not_after: None,
        revoked_at: None,
    };
    Ok(serde_json::to_value(Entry::publish(&signer))?)
}

/// A journal of one record, as a proxy would have it.
fn log_of(
    key: &AuditKey,
    (journal, deployment): (&Path, &str),
) -> anyhow::Result<SignedCheckpoint> {
    let record = Record::Init(Init {
        audit_key: &STANDARD.encode(key.public().spki_der()),
        audit_kid: PROXY_AUDIT_KID,
        by: &host::user::ourselves(),
        deployment,
        new_replica: None,
        replaces: None,
    });
    audit::init(journal, SEGMENT_BYTES, key, &record, wall_now())?;
    let mut walk = Walk::open(journal, 1)?;
    loop {
        match walk.step()? {
            WalkStep::Sealed(seal) => return Ok(seal.checkpoint),
            WalkStep::Record(_) => {}
            WalkStep::End | WalkStep::TornWrite(_) => {
                bail!("the rehearsal's journal has no checkpoint")
            }
        }
    }
}

/// The rehearsal's configuration, and its deployment's name: the approvers are the real ones.
fn rehearsed(
    real: &Table,
    file: &Path,
    (shown, private): (&Path, &Path),
) -> anyhow::Result<(Value, String)> {
    let directory = fs::canonicalize(file)?;
    let directory = directory.parent().unwrap_or(Path::new("/"));
    let table = |name: &str| real.get(name).and_then(Toml::as_table).cloned();
    let mut approvers =
        table("approvers").ok_or_else(|| anyhow!("{}: no [approvers]", file.display()))?;
    let named = approvers.get("file").and_then(Toml::as_str).unwrap_or_default();
    let approvers_file = directory.join(named).display().to_string();
    approvers.insert("file".to_owned(), Toml::String(approvers_file));
    let name = table("deployment").and_then(|table| Some(table.get("name")?.as_str()?.to_owned()));
    let deployment = format!("rehearsal of {}", name.unwrap_or_default());
    let in_private = |name: &str| private.join(name).display().to_string();
    let uid = i64::from(nix::unistd::geteuid().as_raw());
    let registry = fs::canonicalize(shown)?.join("signers.json").display().to_string();
    let config = json!({
        // One user runs all of it. There is no outage, so the shortest one has to do.
        "deployment": {"name": deployment, "environment": "development"},
        "signer": {"socket": in_private("signer.sock"), "allowed_uids": [uid]},
        "operator": {"socket": in_private("operator.sock"), "allowed_uids": [uid]},
        "state": {"dir": in_private("state")},
        "audit": {
            "dir": in_private("journal"), "key_file": in_private("audit.pem"), "segment_bytes": SEGMENT_BYTES,
        },
        "approvers": serde_json::to_value(approvers)?,
        "registry": {"file": registry},
        "emergency_keys": [{"kid": KID, "file": in_private("key.pem")}],
        "outage": {"min_s": 1},
    });
    fs::DirBuilder::new().mode(0o700).create(private.join("state"))?;
    Ok((config, deployment))
}

/// A document of TOML: each member of an object on a line of its own.
fn document(config: &Value) -> String {
    let members = config.as_object().into_iter().flatten();
    members.map(|(name, value)| format!("{name} = {}\n", inline(value))).collect()
}

/// A value of TOML. Its texts, numbers and lists are written as those of JSON.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| format!("{name} = {}", inline(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Beside this program, else wherever it is installed.
fn program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|me| me.with_file_name(PROGRAM));
    beside.filter(|program| program.exists()).unwrap_or_else(|| PathBuf::from(PROGRAM))
}

fn does_not_start(error: std::io::Error) -> anyhow::Error {
    anyhow!("{PROGRAM} does not start: {error}; install it beside signctl")
}

fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(file);
    let mut made = made.with_context(|| file.display().to_string())?;
    made.write_all(bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_back_as_it_was_written() {
        let config = json!({
            "a": {"text": "quoted \"x\" \u{e9}\t\\", "number": 7, "flag": true},
            "list": [{"kid": "k", "names": ["a", "b"]}],
        });
        let read: Table = document(&config).parse().unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), config);
    }
}

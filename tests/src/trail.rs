//! A trail: its configuration, its key, its process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::audit_key::audit_entry;
use crate::bucket::Bucket;
use crate::postgres::Postgres;
use crate::process::Process;
use crate::programs::ours;
use crate::scratch::Scratch;
use crate::wait::eventually;

/// The kid of its audit key.
pub const TRAIL_KID: &str = "trail-audit";

/// What an emulator of S3 takes; and nobody is asked for others.
pub const CREDENTIALS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "test"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

/// What a trail is configured with.
#[derive(Debug)]
pub struct Trail {
    scratch: Scratch,
    lines: String,
    process: Option<Process>,
}

impl Trail {
    /// A trail of these journals: `proxy`, `signer`. `registry` has their audit keys; the trail's own
    /// is added in a copy.
    #[must_use]
    pub fn new(journals: &[(&str, &Path)], registry: &Path, postgres: &Postgres) -> Self {
        let scratch = Scratch::new();
        let mut signers: Value = serde_json::from_slice(&fs::read(registry).unwrap()).unwrap();
        let mut entry = audit_entry(&scratch.path("trail.key"));
        entry["signer_kid"] = json!(TRAIL_KID);
        signers["signers"].as_array_mut().unwrap().push(entry);
        scratch.write("signers.json", signers.to_string());
        let named: String =
            journals.iter().map(|(name, path)| format!("{name} = {path:?}\n")).collect();
        let lines = format!(
            "[journals]\n{named}[audit]\nkey_file = \"trail.key\"\n[registry]\nfile = \"signers.json\"\n\
             [metrics]\nlisten = \"127.0.0.1:0\"\n[postgres]\ntimeout_ms = 5000\nurl = {:?}\n",
            postgres.url()
        );
        Self { scratch, lines, process: None }
    }

    /// Its audit key has this kid in its registry, where several trails write to one table.
    #[must_use]
    pub fn signs_as(self, kid: &str) -> Self {
        let mut signers: Value =
            serde_json::from_slice(&fs::read(self.registry()).unwrap()).unwrap();
        let all = signers["signers"].as_array_mut().unwrap();
        let own = all.iter_mut().find(|signer| signer["signer_kid"] == TRAIL_KID).unwrap();
        own["signer_kid"] = json!(kid);
        self.scratch.write("signers.json", signers.to_string());
        self
    }

    /// The database is reached there, and each step has so long.
    #[must_use]
    pub fn through(mut self, url: &str, timeout_ms: u64) -> Self {
        let is_own =
            |line: &&str| !line.starts_with("timeout_ms = ") && !line.starts_with("url = ");
        let lines: String =
            self.lines.lines().filter(is_own).flat_map(|line| [line, "\n"]).collect();
        let place = format!("[postgres]\ntimeout_ms = {timeout_ms}\nurl = {url:?}");
        self.lines = lines.replace("[postgres]", &place);
        self
    }

    /// More lines of `[postgres]`.
    #[must_use]
    pub fn postgres(mut self, lines: &str) -> Self {
        self.lines += lines;
        self
    }

    /// Reaches the database there, with this deadline of a step.
    #[must_use]
    pub fn url(mut self, postgres: &Postgres, url: &str, timeout_ms: u32) -> Self {
        self.lines = self.lines.replace(&format!("{:?}", postgres.url()), &format!("{url:?}"));
        self.lines = self.lines.replace("timeout_ms = 5000", &format!("timeout_ms = {timeout_ms}"));
        self
    }

    /// The agent of the proxy behind that socket, with these labels.
    #[must_use]
    pub fn fleet(mut self, socket: &Path, labels: &[&str]) -> Self {
        self.lines += &format!("[fleet]\nsocket = {socket:?}\nlabels = {labels:?}\n");
        self
    }

    /// A proxy hears at `socket` what is committed.
    #[must_use]
    pub fn required(mut self, socket: &Path) -> Self {
        let uid = nix::unistd::getuid();
        self.lines += &format!("[required]\nsocket = {socket:?}\nuids = [{uid}]\n");
        self
    }

    /// The replica that it belongs to.
    #[must_use]
    pub fn replica(mut self, name: &str) -> Self {
        self.lines += &format!("[replica]\nname = {name:?}\n");
        self
    }

    /// A webhook of this name: its other lines, and files beside the configuration with what they hold.
    #[must_use]
    pub fn webhook(mut self, name: &str, lines: &str, files: &[(&str, &str)]) -> Self {
        if !self.lines.contains("[notify]") {
            fs::create_dir(self.scratch.path("state")).unwrap();
            self.lines +=
                "[notify]\nstate_dir = \"state\"\ninstance = \"eu-1\"\nbehind_after_s = 1\n";
        }
        self.lines +=
            &format!("[[notify.webhooks]]\nname = {name:?}\ntimeout_ms = 1000\n{lines}\n");
        self.with_files(files)
    }

    /// The policy service: lines of its section, and files beside the configuration.
    #[must_use]
    pub fn policy(mut self, lines: &str, files: &[(&str, &str)]) -> Self {
        self.lines += &format!("[policy]\ntimeout_ms = 1000\n{lines}\n");
        self.with_files(files)
    }

    fn with_files(self, files: &[(&str, &str)]) -> Self {
        for (name, text) in files {
            self.scratch.write(name, text);
        }
        self
    }

    /// A file beside its configuration.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// An archive in `bucket`, which is served at `endpoint`, with these lines of `[archive]`.
    #[must_use]
    pub fn archive(mut self, endpoint: &str, bucket: &Bucket, lines: &str) -> Self {
        self.lines += &format!(
            "[archive]\nbucket = {:?}\nregion = \"eu-test-1\"\nendpoint = {endpoint:?}\nobject_seconds = 1\n{lines}",
            bucket.name
        );
        self
    }

    /// The registry with the trail's key.
    #[must_use]
    pub fn registry(&self) -> PathBuf {
        self.scratch.path("signers.json")
    }

    /// Writes its configuration and returns the file.
    #[must_use]
    pub fn write(&self) -> PathBuf {
        self.scratch.write("signing-trail.toml", &self.lines)
    }

    /// A verb of the program on its configuration.
    #[must_use]
    pub fn verb(&self, verb: &str) -> Command {
        let mut command = Command::new(ours("signing-trail"));
        command.arg(verb).arg("--config").arg(self.write()).envs(CREDENTIALS);
        command
    }

    /// Starts it.
    pub fn start(&mut self) {
        self.start_as(self.verb("serve"));
    }

    /// Starts it by another command, which is to serve its configuration.
    pub fn start_as(&mut self, command: Command) {
        self.process = Some(Process::start(command));
    }

    /// Its process.
    ///
    /// # Panics
    /// If it was not started.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// Whether it was started and not killed since.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Kills it at once.
    pub async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(nix::sys::signal::Signal::SIGKILL);
            process.ended().await;
        }
    }

    /// Where it serves its metrics.
    pub async fn metrics(&self) -> String {
        let process = self.process.as_ref().unwrap();
        let said = process.says("\"serving\"").await;
        let line = said.lines().find(|line| line.contains("\"serving\"")).unwrap().to_owned();
        let line: Value = serde_json::from_str(&line).unwrap();
        line["metrics"].as_str().unwrap().to_owned()
    }

    /// What `signing-trail status --json` says.
    pub async fn status(&self) -> (Output, Value) {
        let metrics = self.metrics().await;
        let mut command = Command::new(ours("signing-trail"));
        let output = command.args(["status", "--json", "--metrics", &metrics]).output().unwrap();
        let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output, said)
    }

    /// Waits until the database holds record `seq` of a journal.
    pub async fn holds(&self, journal: &str, seq: u64) {
        self.sink_holds("postgres", journal, seq).await;
    }

    /// Waits until the archive holds record `seq` of a journal.
    pub async fn archives(&self, journal: &str, seq: u64) {
        self.sink_holds("archive", journal, seq).await;
    }

    /// The deadline begins anew whenever the sink holds more.
    async fn sink_holds(&self, sink: &str, journal: &str, seq: u64) {
        let mut held = None;
        while held.is_none_or(|held| held < seq) {
            let what = format!("record {seq} of {journal} in {sink}, which holds {held:?}");
            let more = eventually(&what, || async {
                let holds = self.of(sink, journal).await["shipped"].as_u64()?;
                (holds >= seq || held.is_none_or(|held| holds > held)).then_some(holds)
            });
            held = Some(more.await);
        }
    }

    /// What its status says of a journal in a sink.
    pub async fn of(&self, sink: &str, journal: &str) -> Value {
        let (_, status) = self.status().await;
        let journals = status["journals"].as_array().cloned().unwrap_or_default();
        let of = |one: &Value| one["sink"] == sink && one["journal"] == journal;
        journals.into_iter().find(of).unwrap_or(Value::Null)
    }

    /// `signctl audit VERB` against the sink, with the trail's registry.
    #[must_use]
    pub fn signctl(&self, verb: &str, postgres: &Postgres, more: &[&str]) -> (i32, String) {
        let mut command = Command::new(ours("signctl"));
        command.args(["audit", verb, "--database-url", &postgres.url(), "--signers"]);
        let output = command.arg(self.registry()).args(more).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }
}

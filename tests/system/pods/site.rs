//! A machine on which one pod is played: the files that its configuration consists of, as the pages
//! have a person make them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use system_tests::audit_key::audit_entry;
use system_tests::breakglass::SignerBuilder;
use system_tests::client::plain;
use system_tests::postgres::Postgres;
use system_tests::programs::{repository, system};
use system_tests::receiver::Receiver;
use system_tests::{Engine, Key, Kind, Process, World, eventually};

use crate::ALICE;

/// The signer whose key is in KMS.
pub(super) const KID: &str = "payments";
/// The user of the service, as the sidecar's manifest has it.
const SERVICE: u32 = 10001;
/// What notifications are signed with.
const HMAC_KEY: &str = "whsec_bm90IGEgc2VjcmV0OiBvZiBhIHRlc3Qgb25seQ==";
const IMAGES: [(&str, &[&str]); 3] = [
    ("signing-proxy", &["signing-proxy", "signctl", "pkcs11-worker"]),
    ("breakglass-signer", &["breakglass-signer"]),
    ("signing-trail", &["signing-trail"]),
];

/// Everything that a pod needs.
pub(super) struct Site {
    engine: Engine,
    pub(super) world: World,
    pub(super) key: Key,
    pub(super) postgres: Postgres,
    /// Hears what the trail notifies.
    pub(super) receiver: Receiver,
    pod: &'static str,
    file: &'static str,
    /// Whether its files are those that the page's script makes.
    is_of_page: bool,
}

impl Site {
    /// A machine with the images, and the files of the pod that config/kubernetes/podman has in `file`.
    pub(super) async fn new(file: &'static str, pod: &'static str) -> Self {
        let (site, port) = Self::empty(file, pod, false).await;
        site.write_proxy();
        site.write_signer();
        site.write_trail(port);
        site
    }

    /// The same with the files that `files.sh` makes: without a KMS.
    pub(super) async fn of_page(file: &'static str, pod: &'static str) -> Self {
        let (site, port) = Self::empty(file, pod, true).await;
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable");
        site.script(&[], &url);
        site
    }

    async fn empty(file: &'static str, pod: &'static str, is_of_page: bool) -> (Self, u16) {
        let engine = Engine::new();
        for (image, programs) in IMAGES {
            let _ = engine.build(image, programs);
        }
        let port = free_port();
        let settings = ["listen_addresses=127.0.0.1".to_owned(), format!("port={port}")];
        let settings: Vec<_> = settings.iter().map(String::as_str).collect();
        let (world, postgres) = (World::new(), Postgres::start_with(&settings).await);
        let key = world.kms.key(Kind::Ed25519);
        let receiver = Receiver::start();
        let site = Self { engine, world, key, postgres, receiver, pod, file, is_of_page };
        site.service_image();
        (site, port)
    }

    /// Runs the script of the page.
    fn script(&self, more: &[&str], url: &str) {
        let mut script = system("bash");
        script.arg(repository().join("config/kubernetes/podman/files.sh"));
        script.arg(self.world.scratch.path("try")).args(more).env("POSTGRES", url);
        let ran = script.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    /// The image of the service: curl, and something that stays.
    fn service_image(&self) {
        let root = self.engine.path("service");
        for program in ["curl", "sleep"] {
            let found =
                system("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
            let found = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
            let linked = system("ldd").arg(&found).output().unwrap();
            let linked = String::from_utf8(linked.stdout).unwrap();
            let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
            copy(&found, &root.join("usr/bin").join(program));
            for library in libraries {
                copy(Path::new(library), &root.join(library.trim_start_matches('/')));
            }
        }
        fs::create_dir_all(root.join("tmp")).unwrap();
        let archive = self.engine.path("service.tar");
        let made = system("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").output();
        assert!(made.unwrap().status.success());
        let archive = archive.display().to_string();
        let command = "CMD [\"/usr/bin/sleep\", \"100000\"]";
        let _ = self.engine.said(&["import", "--change", command, &archive, "your-service"]);
    }

    fn builder(&self) -> SignerBuilder<'_> {
        SignerBuilder::new(&self.world.scratch).min_outage_s(1).replaces(KID, &self.key)
    }

    /// The emergency signer's files, and who approves.
    pub(super) fn signer(&self) -> SignerBuilder<'_> {
        self.builder()
    }

    /// The directory whose files `/etc/NAME` of the pod has.
    pub(super) fn files(&self, name: &str) -> PathBuf {
        self.world.scratch.path(&format!("pod/{name}"))
    }

    fn put(&self, name: &str, file: &str, text: &str) {
        fs::create_dir_all(self.files(name)).unwrap();
        fs::write(self.files(name).join(file), text).unwrap();
    }

    fn write_proxy(&self) {
        let emergency = self.builder().registry_entries().remove(0);
        let local = format!("uid = {SERVICE}");
        let proxy = self.world.proxy().signer(KID, &self.key).registered(emergency);
        let proxy = proxy.caller(ALICE, &[KID]).caller("local:service", &[KID]);
        let proxy = proxy.local("127.0.0.1:0", &[("service", &local)]);
        let proxy = proxy.audit("reader_group = 65532");
        let socket = "/run/breakglass-signer/signer.sock";
        let proxy = proxy.breakglass(&format!("signer_socket = \"{socket}\"\nmin_outage_s = 1\n"));
        let config = proxy.write();
        let text = fs::read_to_string(&config).unwrap();
        let text = text
            .replace("\"admin.sock\"", "\"/var/lib/signing-proxy/admin.sock\"")
            .replace("\"state\"", "\"/var/lib/signing-proxy\"")
            .replace("\"journal\"", "\"/var/lib/signing-proxy/journal\"")
            .replace("allowed_uids = [0]", "allowed_uids = [0, 65532]");
        self.put("signing-proxy", "signing-proxy.toml", &text);
        for file in ["server.pem", "server.key", "ca.pem", "audit.key", "signers.json"] {
            let from = config.with_file_name(file);
            self.put("signing-proxy", file, &fs::read_to_string(from).unwrap());
        }
    }

    fn write_signer(&self) {
        let config = self.builder().write();
        let text = fs::read_to_string(&config).unwrap();
        let text = text
            .replace("\"signer.sock\"", "\"/run/breakglass-signer/signer.sock\"")
            .replace("\"operator.sock\"", "\"/run/breakglass-signer/operator.sock\"")
            .replace("\"state\"", "\"/var/lib/breakglass-signer\"")
            .replace("\"journal\"", "\"/var/lib/breakglass-signer/journal\"\nreader_group = 65532")
            // Beside the journal: nobody hands it in.
            .replace("\"audit.key\"", "\"/var/lib/breakglass-signer/audit.key\"")
            .replacen("allowed_uids = [0]", "allowed_uids = [65532]", 1)
            // No container of the pod has this user.
            .replacen("allowed_uids = [0]", "allowed_uids = [65530]", 1);
        self.put("breakglass-signer", "breakglass-signer.toml", &text);
        for file in ["approvers", "emergency.pem"] {
            let from = config.with_file_name(file);
            self.put("breakglass-signer", file, &fs::read_to_string(from).unwrap());
        }
    }

    /// The trail's files; and one registry, which all three have.
    fn write_trail(&self, port: u16) {
        let text = format!(
            "[journals]\nproxy = \"/var/lib/signing-proxy/journal\"\n\
             signer = \"/var/lib/breakglass-signer/journal\"\n[audit]\nkey_file = \"trail.key\"\n\
             [registry]\nfile = \"signers.json\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n[postgres]\n\
             timeout_ms = 5000\nurl = \"postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable\"\n\
             [[notify.webhooks]]\nname = \"ops\"\nform = \"json\"\nhmac_key_file = \"hmac.key\"\nurl = {:?}\n",
            self.receiver.url("/ops")
        );
        self.put("signing-trail", "hmac.key", HMAC_KEY);
        self.put("signing-trail", "signing-trail.toml", &text);
        let mut entry = audit_entry(&self.files("signing-trail").join("trail.key"));
        entry["signer_kid"] = json!("trail-audit");
        self.register(entry);
    }

    /// Puts an entry into the registry of all programs.
    pub(super) fn register(&self, entry: Value) {
        if self.is_of_page {
            return self.script(&["register", &entry.to_string()], "");
        }
        let text = fs::read(self.files("signing-proxy").join("signers.json")).unwrap();
        let mut registry: Value = serde_json::from_slice(&text).unwrap();
        registry["signers"].as_array_mut().unwrap().push(entry);
        for (name, _) in IMAGES {
            self.put(name, "signers.json", &registry.to_string());
        }
    }

    /// What is played: the files of `/etc/...` as ConfigMaps, then the shipped pod, in which credentials
    /// stand beside a variable, where EKS would put them.
    fn manifest(&self) -> PathBuf {
        let mut text = String::new();
        if self.is_of_page {
            text = fs::read_to_string(self.world.scratch.path("try/config.yaml")).unwrap();
            // Other tests have these ports too.
            for port in ["8443", "8444", "9464"] {
                text = text.replace(&format!("\"127.0.0.1:{port}\""), "\"127.0.0.1:0\"");
            }
            text = text.replacen(
                "    [postgres]",
                "    [metrics]\n    listen = \"127.0.0.1:0\"\n    [postgres]",
                1,
            );
        }
        for (name, _) in IMAGES.iter().filter(|_| !self.is_of_page) {
            let mut data = json!({});
            for file in fs::read_dir(self.files(name)).unwrap().map(Result::unwrap) {
                let name = file.file_name().into_string().unwrap();
                data[name] = json!(fs::read_to_string(file.path()).unwrap());
            }
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
            text += &format!("{map}\n---\n");
        }
        let shipped = repository().join("config/kubernetes/podman").join(self.file);
        let variable = "    - name: AWS_EC2_METADATA_DISABLED\n      value: 'true'\n";
        let credentials = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
            .map(|name| format!("    - name: {name}\n      value: test\n"));
        let shipped = fs::read_to_string(shipped).unwrap();
        assert_eq!(shipped.matches(variable).count(), 1);
        text += &shipped.replace(variable, &format!("{variable}{}", credentials.concat()));
        let file = self.engine.path(self.file);
        fs::write(&file, text).unwrap();
        file
    }

    /// Plays the pod.
    pub(super) fn play(&self) -> Output {
        let file = self.manifest().display().to_string();
        // The machine's network, in which the KMS and the database are.
        self.engine.run(&["play", "kube", "--network", "host", &file])
    }

    /// Plays the pod, which has to start.
    pub(super) fn starts(&self) {
        let played = self.play();
        let said = String::from_utf8_lossy(&played.stderr);
        assert!(played.status.success(), "{said}\n{}", self.all_logs());
    }

    /// Plays it, which has to fail in that init container; what that container says.
    pub(super) fn fails_in(&self, container: &str) -> String {
        let played = self.play();
        assert!(!played.status.success(), "{}", self.all_logs());
        let said = self.logs(container);
        let running = self.engine.said(&["ps", "--format", "{{.Names}}"]);
        assert!(!running.contains("signing-proxy"), "{running}");
        self.down();
        said
    }

    /// Ends the pod; its volumes stay.
    pub(super) fn down(&self) {
        let file = self.engine.path(self.file).display().to_string();
        let _ = self.engine.said(&["play", "kube", "--down", &file]);
    }

    /// A container beside those of the pod, without rights, which reads what is written to it.
    pub(super) fn container_beside(&self, arguments: &[&str], input: &str) -> Output {
        let confined = ["run", "--rm", "--interactive", "--read-only", "--cap-drop", "ALL"];
        let mut command = self.engine.podman(&confined);
        command.args(["--security-opt", "no-new-privileges"]).args(arguments);
        fed(command, input)
    }

    /// Runs podman.
    pub(super) fn podman(&self, arguments: &[&str]) -> String {
        self.engine.said(arguments)
    }

    /// Runs podman; its standard output, if it ended well.
    pub(super) fn tries(&self, arguments: &[&str]) -> Option<String> {
        let output = self.engine.run(arguments);
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// The name of a container.
    pub(super) fn container(&self, name: &str) -> String {
        format!("{}-{name}", self.pod)
    }

    /// What a container has written.
    pub(super) fn logs(&self, container: &str) -> String {
        let output = self.engine.run(&["logs", &self.container(container)]);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    fn all_logs(&self) -> String {
        let names = self.engine.said(&["ps", "--all", "--format", "{{.Names}} {{.Status}}"]);
        let logs = |name: &str| {
            let output = self.engine.run(&["logs", name.split(' ').next().unwrap()]);
            format!(
                "== {name}\n{}",
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
            )
        };
        names.lines().map(logs).collect()
    }

    /// The container's log as it is written from now on, as a process.
    pub(super) fn follow(&self, container: &str) -> Process {
        let name = self.container(container);
        Process::start(self.engine.podman(&["logs", "--follow", &name]))
    }

    /// Where a program serves, as its newest line `serving` says.
    pub(super) async fn serving(&self, container: &str, key: &str) -> String {
        eventually(&format!("{container} serves"), || {
            let logs = self.logs(container);
            let mut lines =
                logs.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let newest = lines.rfind(|line| line["message"] == "serving");
            let found = newest.and_then(|line| Some(line[key].as_str()?.to_owned()));
            std::future::ready(found)
        })
        .await
    }

    /// Waits until a path of the proxy's health listener answers so.
    pub(super) async fn answers(&self, path: &str, status: u16) {
        eventually(&format!("{path} {status}"), || async {
            // A proxy that was started again has another port.
            let metrics = self.serving("signing-proxy", "metrics").await;
            tokio::net::TcpStream::connect(&metrics).await.ok()?;
            (plain(&metrics, path).await.status == status).then_some(())
        })
        .await;
    }

    /// The first start: the emergency signer's key is made, and has to be registered.
    pub(super) fn starts_first(&self) -> String {
        let said = self.fails_in("init-signer");
        let (_, entry) =
            said.split_once("one of \"signers\": ").unwrap_or_else(|| panic!("{said}"));
        let entry: Value = serde_json::from_str(entry.lines().next().unwrap()).unwrap();
        let instance = system_tests::breakglass::sha256_of_pem(&entry);
        self.register(entry);
        self.starts();
        instance
    }

    /// A directory of the host that is a volume of the pod.
    pub(super) fn volume(&self, name: &str) -> PathBuf {
        let mountpoint =
            self.engine.said(&["volume", "inspect", "--format", "{{.Mountpoint}}", name]);
        PathBuf::from(mountpoint.trim())
    }
}

/// Runs a command to its end, which is given what to read.
fn fed(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

/// A port that nobody listens on now. The database is the only one that takes it.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

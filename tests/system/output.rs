//! What is printed to a reader that is gone, or to a disk that is full: each verb of each program
//! says so, and none panics. The verbs are those that the programs list themselves.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::json;
use system_tests::breakglass::{PASSPHRASE, SignerBuilder};
use system_tests::programs::ours;
use system_tests::softhsm::module;
use system_tests::{Kind, Process, Scratch, SoftHsm, World};

use crate::ALICE;
use crate::dev::dev;

/// Where standard output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    Nowhere,
    ToAFullDisk,
}

/// What a verb ends with if nobody reads.
#[derive(Clone, Copy, Debug)]
enum Unread {
    /// It only shows something: as a filter ends.
    Quietly,
    /// Its status says what became of it.
    With(i32),
    /// What it makes stands nowhere else.
    Fails,
    /// Nothing is printed on standard output.
    Silent(i32),
}

/// Each verb with arguments with which it prints, and what it is fed. `N` is another number in
/// each run.
const ROWS: &[(&str, &str, &str, Unread)] = &[
    ("signctl status", "--socket SOCKET", "", Unread::Quietly),
    ("signctl watch", "--socket SOCKET", "", Unread::Silent(1)),
    ("signctl health", "--url http://METRICS/health", "", Unread::Quietly),
    ("signctl gate", "--url http://METRICS", "", Unread::With(0)),
    ("signctl gate", "--url http://METRICS --json", "", Unread::With(0)),
    ("signctl freeze", "--reason why --socket SOCKET", "", Unread::With(0)),
    ("signctl gate", "--url http://METRICS", "", Unread::With(2)),
    ("signctl unfreeze", "--reason over --socket SOCKET", "", Unread::With(0)),
    ("signctl reload", "--socket SOCKET", "", Unread::With(0)),
    ("signctl unseal", "--operator-socket nowhere --reason why --json", "", Unread::Silent(1)),
    ("signctl unseal", "--audit --reason why --json --socket SOCKET", "", Unread::With(1)),
    ("signctl doctor", "--socket SOCKET", "", Unread::With(0)),
    ("signctl drill", "--seconds 1 --json --socket SOCKET", "", Unread::With(1)),
    ("signctl completions", "bash", "", Unread::Quietly),
    ("signctl manual", "--out share-N", "", Unread::With(0)),
    ("signing-proxy manual", "--out share-N", "", Unread::With(0)),
    ("breakglass-signer manual", "--out share-N", "", Unread::With(0)),
    ("signing-trail manual", "--out share-N", "", Unread::With(0)),
    ("signctl audit tail", "--journal dev/journal", "", Unread::Quietly),
    ("signctl audit tail", "--journal dev/journal --follow", "", Unread::Quietly),
    ("signctl audit verify", "--journal dev/journal", "", Unread::With(0)),
    ("signctl audit export", "--journal dev/journal", "", Unread::Quietly),
    ("signctl audit key", "--journal dev/journal", "", Unread::With(0)),
    (
        "signctl audit used",
        "--since 2026-01-01T00:00:00Z --journal dev/journal",
        "",
        Unread::Quietly,
    ),
    ("signctl sign", "dev/message.txt CALLER", "", Unread::With(0)),
    ("signctl sign", "dev/message.txt --json CALLER", "", Unread::With(0)),
    ("signctl verify", "dev/message.txt --signature AAAA CALLER", "", Unread::With(1)),
    (
        "signctl audit reconcile",
        "--journal dev/journal --signers signers.json --database-url postgres://u@%2Fnowhere/d",
        "",
        Unread::Silent(1),
    ),
    (
        "signctl audit reconcile",
        "--journal dev/journal --signers dev/signers.json --cloudtrail nowhere",
        "",
        Unread::With(1),
    ),
    (
        "signctl audit prune",
        "--journal dev/journal --signers signers.json --database-url postgres://u@%2Fnowhere/d",
        "",
        Unread::Silent(1),
    ),
    ("signctl fleet status", "--database-url postgres://u@%2Fnowhere/d", "", Unread::Silent(1)),
    (
        "signctl fleet freeze",
        "--reason why --database-url postgres://u@%2Fnowhere/d",
        "",
        Unread::Silent(1),
    ),
    (
        "signctl fleet statement",
        "--reason why --out nowhere.json --database-url postgres://u@%2Fnowhere/d",
        "",
        Unread::Silent(1),
    ),
    (
        "signctl fleet unfreeze",
        "--statement none --database-url postgres://u@%2Fnowhere/d",
        "",
        Unread::Silent(1),
    ),
    (
        "signctl fleet forget",
        "none --database-url postgres://u@%2Fnowhere/d",
        "",
        Unread::Silent(1),
    ),
    ("signctl receipt verify", "nowhere.json --signers signers.json", "", Unread::Silent(1)),
    ("signctl breakglass preflight", "PREFLIGHT --socket SOCKET", "", Unread::With(0)),
    ("signctl breakglass preflight", "PREFLIGHT --json --socket SOCKET", "", Unread::With(0)),
    (
        "signctl breakglass register",
        "entry-N.json --not-after 2999-01-01T00:00:00Z --signers dev/signers.json --out out-N.json --socket SOCKET",
        "",
        Unread::With(0),
    ),
    ("signctl breakglass request", "REQUEST --out request-N.json", "", Unread::With(0)),
    ("signctl breakglass request", "REQUEST --out requestN.json --json", "", Unread::With(0)),
    ("signctl breakglass show", "request-N.json DESK", "", Unread::Quietly),
    ("signctl breakglass approve", "request-N.json --key none DESK", "no", Unread::Silent(1)),
    (
        "signctl breakglass unlock",
        "--operator-socket dev/run/operator.sock --json",
        PASSPHRASE,
        Unread::With(0),
    ),
    (
        "signctl breakglass unlock",
        "--check --emergency-kid none --operator-socket dev/run/operator.sock --json",
        PASSPHRASE,
        Unread::With(1),
    ),
    (
        "signctl breakglass activate",
        "--request request-N.json --approval request-N.json --json --socket SOCKET",
        "",
        Unread::With(1),
    ),
    ("signctl breakglass status", "--socket SOCKET", "", Unread::Quietly),
    ("signctl breakglass end", "--reason why --json --socket SOCKET", "", Unread::With(1)),
    (
        "signctl breakglass accept-signer",
        "--reason why --json --socket SOCKET",
        "",
        Unread::With(1),
    ),
    (
        "signctl breakglass accept-proxy",
        "--reason why --operator-socket dev/run/operator.sock",
        "",
        Unread::Silent(1),
    ),
    ("signctl breakglass destroy", "none --reason why --json --socket SOCKET", "", Unread::With(1)),
    ("signctl incident begin", INCIDENT, "", Unread::With(0)),
    ("signctl incident status", "--socket SOCKET", "", Unread::Quietly),
    ("signctl recover", RECOVER, "", Unread::With(0)),
    (
        "signctl report",
        "--since 2026-01-01T00:00:00Z --journal dev/journal --out report-N",
        "",
        Unread::With(0),
    ),
    ("signctl incident end", "--reason why --socket SOCKET", "", Unread::With(1)),
    ("signctl signers list", "--signers signers.json", "", Unread::Quietly),
    ("signctl signers list", "--signers signers.json --json", "", Unread::Quietly),
    ("signctl signers add", "entry-N.json --signers signers.json", "", Unread::With(0)),
    ("signctl signers revoke", "kN --signers signers.json", "", Unread::With(0)),
    ("signing-proxy check", "--config PROXY", "", Unread::With(0)),
    ("signing-proxy check", "--config PROXY --json", "", Unread::With(0)),
    ("signing-proxy check", "--config nowhere.toml --json", "", Unread::With(1)),
    ("signing-proxy init", "--config PROXY", "", Unread::With(0)),
    ("signing-proxy state rebuild", "--config nowhere.toml --reason r", "", Unread::Silent(1)),
    ("signing-proxy serve", "--config nowhere.toml", "", Unread::Silent(1)),
    ("signing-proxy dev", "--dir /dev/null/none", "", Unread::Silent(1)),
    ("breakglass-signer check", "--config SIGNER", "", Unread::With(0)),
    ("breakglass-signer check", "--config SIGNER --json", "", Unread::With(0)),
    ("breakglass-signer init", "--config SIGNER", "", Unread::With(0)),
    ("breakglass-signer state rebuild", "--config nowhere.toml --reason r", "", Unread::Silent(1)),
    ("breakglass-signer serve", "--config nowhere.toml", "", Unread::Silent(1)),
    ("signing-trail serve", "--config nowhere.toml", "", Unread::Silent(1)),
    ("signing-trail check", "--config nowhere.toml --json", "", Unread::With(1)),
    (
        "signing-trail register",
        "--config nowhere.toml --journal proxy --answer nowhere.json",
        "",
        Unread::Silent(1),
    ),
    ("signing-trail status", "--metrics 127.0.0.1:1", "", Unread::Silent(1)),
    (
        "breakglass-signer keygen",
        "--kid k --algorithm ed25519 --out key-N.pem",
        PASSPHRASE,
        Unread::Fails,
    ),
];

/// An incident that freezes nothing, with what `dev` has.
const INCIDENT: &str = "--id I-1 --reason why --no-freeze --out bundle-N --config dev/signing-proxy.toml \
    --signer-config dev/breakglass-signer.toml --signer-journal dev/breakglass/journal --signers dev/signers.json \
    --metrics-url http://METRICS/metrics --socket SOCKET";

/// Without the consumers' copies; the dev keys have no end, so it is not ready.
const PREFLIGHT: &str =
    "DESK --operator-socket dev/run/operator.sock --signer-journal dev/breakglass/journal";

/// What an approver of `dev` holds a request against.
const DESK: &str = "--signers dev/signers.json --signer-config dev/breakglass-signer.toml";

/// What a recovery on `dev` is told.
const RECOVER: &str = "--reason why --all-rotated me --not-reconciled me --signers dev/signers.json \
    --with dev/breakglass/journal --socket SOCKET";

/// Those that list their verbs.
pub(crate) const PROGRAMS: [&str; 4] =
    ["signctl", "signing-proxy", "breakglass-signer", "signing-trail"];

/// What `request` is told.
const REQUEST: &str = "--incident INC-1 --justification why --emergency-kid emergency-dev \
                       --replaces dev-ed25519 --outage-since 2026-01-01T00:00:00Z --socket SOCKET";

/// Who asks the data plane.
const CALLER: &str = "--url URL --ca dev/pki/ca.pem --client-cert dev/pki/client.pem \
                      --client-key dev/pki/client.key --signers dev/signers.json";

/// The verbs that `program` lists in its help, and those below them.
pub(crate) fn verbs(program: &str) -> Vec<String> {
    let below = below(&help(program));
    let below: Vec<_> = below.iter().flat_map(|name| verbs(&format!("{program} {name}"))).collect();
    if below.is_empty() { vec![program.to_owned()] } else { below }
}

/// What a program or one of its verbs says of itself.
pub(crate) fn help(verb: &str) -> String {
    let mut words = verb.split(' ');
    let output = Command::new(ours(words.next().unwrap())).args(words).arg("--help").output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

/// The verbs that a help lists.
pub(crate) fn below(help: &str) -> Vec<String> {
    let listed = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let listed = listed.split("\n\n").next().unwrap();
    let names = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
}

fn goes(goes: Goes) -> Stdio {
    match goes {
        Goes::Nowhere => std::io::pipe().unwrap().1.into(),
        Goes::ToAFullDisk => File::options().write(true).open("/dev/full").unwrap().into(),
    }
}

/// Runs a command whose standard output goes there.
fn run(mut command: Command, to: Goes, fed: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(goes(to)).stderr(Stdio::piped()).spawn().unwrap();
    // One that needs none may be gone before it reads.
    let _ = writeln!(child.stdin.take().unwrap(), "{fed}");
    child.wait_with_output().unwrap()
}

#[track_caller]
fn judge(what: &str, to: Goes, unread: Unread, output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    let what = format!("{what} {to:?}: {} {said}", output.status);
    assert!(!said.contains("panicked"), "{what}");
    let code = output.status.code().unwrap_or_else(|| panic!("{what}"));
    let full = "standard output cannot be written: No space left on device";
    match (to, unread) {
        (_, Unread::Silent(expected)) => assert_eq!(code, expected, "{what}"),
        (Goes::Nowhere, Unread::Quietly) => assert_eq!((code, &*said), (141, ""), "{what}"),
        (Goes::Nowhere, Unread::With(expected)) => assert_eq!(code, expected, "{what}"),
        (Goes::Nowhere, Unread::Fails) => assert_eq!(code, 1, "{what}"),
        (Goes::ToAFullDisk, Unread::With(expected)) if what.starts_with("signctl gate") => {
            // Its own statuses say what was found.
            assert!(code == if expected == 0 { 74 } else { expected }, "{what}");
            assert!(said.contains(full), "{what}");
        }
        (Goes::ToAFullDisk, _) => assert!(code == 1 && said.contains(full), "{what}"),
    }
    if matches!(unread, Unread::Fails) {
        assert!(said.contains("\"public_key_pem\""), "what was made is said nowhere: {what}");
    }
}

/// Where the verbs find what they need.
struct Site {
    scratch: Scratch,
    world: World,
    _dev: Process,
    metrics: String,
    url: String,
}

impl Site {
    async fn new() -> Self {
        let scratch = Scratch::new();
        let (dev, ready) = dev(&scratch).await;
        let url = ready["health_url"].as_str().unwrap();
        let metrics = url.split('/').nth(2).unwrap().to_owned();
        let registry = std::fs::read(scratch.path("dev/signers.json")).unwrap();
        scratch.write("signers.json", registry);
        let url = ready["url"].as_str().unwrap().to_owned();
        let site = Self { scratch, world: World::new(), _dev: dev, metrics, url };
        for number in 0..2 {
            let (kid, file) = (format!("k{number}"), format!("entry-key-{number}.pem"));
            let mut keygen = site.command("breakglass-signer keygen");
            keygen.args(["--kid", &kid, "--algorithm", "ed25519", "--out", &file]);
            let entry = site.scratch.path(&format!("entry-{number}.json"));
            keygen.stdin(Stdio::piped()).stdout(File::create(entry).unwrap());
            let mut child = keygen.spawn().unwrap();
            writeln!(child.stdin.take().unwrap(), "{PASSPHRASE}").unwrap();
            assert!(child.wait().unwrap().success());
        }
        site
    }

    fn command(&self, verb: &str) -> Command {
        let mut words = verb.split(' ');
        let mut command = Command::new(ours(words.next().unwrap()));
        command.args(words).current_dir(self.scratch.dir());
        // The KMS for tests wants none in particular.
        command.envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]);
        command
    }

    /// The command of a row, in which names stand for what is found here.
    fn of_row(&self, verb: &str, arguments: &str, number: usize) -> Command {
        let key = self.world.kms.key(Kind::P256);
        let proxy = self.world.proxy().directory(&format!("proxy-{number}"));
        let signer = SignerBuilder::new(&self.world.scratch);
        let signer = signer.directory(&format!("signer-{number}"));
        let path = |config: std::path::PathBuf| config.display().to_string();
        let mut command = self.command(verb);
        let arguments = arguments.replace("REQUEST", REQUEST).replace("CALLER", CALLER);
        let arguments = arguments.replace("PREFLIGHT", PREFLIGHT);
        let arguments = arguments.replace("DESK", DESK);
        for word in arguments.split_whitespace() {
            command.arg(match word {
                "SOCKET" => "dev/run/admin.sock".to_owned(),
                "URL" => self.url.clone(),
                "PROXY" => path(proxy.clone().signer("ec", &key).caller(ALICE, &["ec"]).write()),
                "SIGNER" => path(signer.clone().replaces("ec", &key).write()),
                word => word.replace("METRICS", &self.metrics).replace('N', &number.to_string()),
            });
        }
        command
    }
}

#[tokio::test]
async fn no_verb_panics_when_nobody_reads_or_the_disk_is_full() {
    let listed: BTreeSet<_> = PROGRAMS.into_iter().flat_map(verbs).collect();
    let tried: BTreeSet<_> = ROWS.iter().map(|(verb, ..)| (*verb).to_owned()).collect();
    assert_eq!(listed, tried, "each verb has a row here, and each row a verb");
    let site = Site::new().await;
    for (number, to) in [Goes::Nowhere, Goes::ToAFullDisk].into_iter().enumerate() {
        for (verb, arguments, fed, unread) in ROWS {
            let output = run(site.of_row(verb, arguments, number), to, fed);
            judge(&format!("{verb} {arguments}"), to, *unread, &output);
        }
        for help in listed.iter().map(String::as_str).chain(PROGRAMS).chain(["pkcs11-worker"]) {
            let mut command = site.command(help);
            command.arg("--help");
            judge(&format!("{help} --help"), to, Unread::Quietly, &run(command, to, ""));
        }
        for program in PROGRAMS.into_iter().chain(["pkcs11-worker"]) {
            let mut command = site.command(program);
            command.arg("--version");
            judge(&format!("{program} --version"), to, Unread::Quietly, &run(command, to, ""));
        }
    }
}

#[test]
fn the_worker_does_not_panic_either() {
    let token = SoftHsm::new("output");
    let _ = token.key("key", Kind::P256);
    let start = json!({
        "module": module().display().to_string(), "token_label": token.label, "key_label": "key",
        "key_id": null, "pin_file": token.pin_file(), "threads": 1, "algorithm": "ecdsa-p256-sha256",
    });
    let scratch = Scratch::new();
    let start = scratch.write("start.json", start.to_string());
    for to in [Goes::Nowhere, Goes::ToAFullDisk] {
        let mut command = Command::new(ours("pkcs11-worker"));
        command.envs(token.environment()).arg("measure").arg(&start).arg("0.01");
        judge("pkcs11-worker measure", to, Unread::Quietly, &run(command, to, ""));
    }
}

#[test]
fn what_cannot_be_said_on_standard_error_is_told_by_the_status_alone() {
    for (program, arguments, code) in [
        ("signctl", &["status", "--socket", "/nowhere"][..], 1),
        ("signctl", &["nonsense"], 64),
        ("signctl", &["gate"], 1),
        ("signing-proxy", &["check", "--config", "/nowhere"], 1),
        ("signing-proxy", &["serve", "--config", "/nowhere"], 1),
        ("signing-proxy", &["nonsense"], 64),
        ("breakglass-signer", &["check", "--config", "/nowhere"], 1),
        ("breakglass-signer", &["serve", "--config", "/nowhere"], 1),
        ("breakglass-signer", &["nonsense"], 64),
        ("pkcs11-worker", &["measure", "/nowhere", "1"], 1),
        ("pkcs11-worker", &["nonsense"], 64),
    ] {
        for to in [Goes::Nowhere, Goes::ToAFullDisk] {
            let mut command = Command::new(ours(program));
            command.args(arguments).env_clear().stdout(goes(to)).stderr(goes(to));
            let status = command.stdin(Stdio::null()).status().unwrap();
            assert_eq!(status.code(), Some(code), "{program} {arguments:?} {to:?}");
        }
    }
}

#[tokio::test]
async fn what_serves_goes_on_when_nobody_reads_that_it_is_ready() {
    for to in [Goes::Nowhere, Goes::ToAFullDisk] {
        let scratch = Scratch::new();
        let mut dev = Command::new(ours("signing-proxy"));
        dev.args(["dev", "--dir", "dev", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]);
        let mut process = Process::start_with(dev.current_dir(scratch.dir()), goes(to));
        process.says("the line `ready` was not printed").await;
        let status = Command::new(ours("signctl"))
            .args(["status", "--socket", "dev/run/admin.sock"])
            .current_dir(scratch.dir())
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{}", process.output());
        process.signal(Signal::SIGTERM);
        assert!(process.ended().await.success(), "{}", process.output());
    }
}

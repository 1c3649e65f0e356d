//! The emergency key is in its own process's memory while a session lasts, and nowhere else: in no
//! other process, file, log or core; and not even there after the end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use system_tests::Process;
use system_tests::breakglass::{
    CALLER, OF_PASSPHRASE, Signer, SignerBuilder, proxy_head, succeeds,
};
use system_tests::memory::{holds, scan};
use system_tests::programs::{ours, system};

use super::{KID, Site};

/// Nobody in particular.
const USER: &str = "65534";

#[tokio::test]
async fn i4_the_key_is_in_the_signers_memory_during_a_session_and_nowhere_else_and_never() {
    for algorithm in ["ED25519_SHA_512", "ECDSA_SHA_256", "RSASSA_PSS_SHA_256"] {
        let site = Site::new();
        let builder = site.signer();
        let signer = match algorithm {
            "ECDSA_SHA_256" => builder.p256(),
            "RSASSA_PSS_SHA_256" => builder.rsa(3072),
            _ => builder,
        };
        let signer = signer.start().await;
        let secrets = signer.secrets();
        let pid = signer.process.pid();
        let nothing = |when: &str| {
            let scan = scan(pid, &secrets);
            assert!(scan.found.is_empty(), "{algorithm} {when}: {:?}", scan.found);
            assert!(scan.bytes > 1 << 20, "only {} bytes could be read", scan.bytes);
        };
        nothing("before a session");
        signer.unlock().await;
        let waiting = scan(pid, &secrets);
        assert!(waiting.has(OF_PASSPHRASE), "this test cannot find a passphrase that is there");
        assert!(!waiting.has("key"), "it is open before its activation: {waiting:?}");
        let mut proxy = signer.connect().await;
        let answer = proxy.ask(signer.activation(&signer.request())).await;
        let session = answer["activated"]["session"]["session"].as_str().unwrap().to_owned();
        let input = match algorithm {
            "ED25519_SHA_512" => json!({"message": STANDARD.encode("hello")}),
            _ => json!({"digest": STANDARD.encode([7; 32])}),
        };
        for _ in 0..20 {
            let signed = proxy.ask(json!({"sign": {
                "session": session, "caller": CALLER, "request_id": "r-1", "signer_kid": KID,
                "algorithm": algorithm, "input": input, "proxy_head": proxy_head(),
            }}));
            let signed = signed.await;
            assert!(signed["signed"].is_object(), "{signed}");
        }
        let held = scan(pid, &secrets);
        assert!(held.has("key"), "{algorithm}: this test cannot find a key that is there");
        assert!(!held.has(OF_PASSPHRASE), "the passphrase is still there: {:?}", held.found);
        let more: Vec<_> = held.found.iter().filter(|(name, _)| name != "key").collect();
        assert!(more.is_empty(), "{algorithm}: in other forms, too: {more:?}");
        proxy.ask(json!({"end": {"reason": "over", "by": "uid 0 (root)"}})).await;
        nothing("after the end");
        let said = signer.process.output();
        for (name, secret) in &secrets {
            assert!(!holds(said.as_bytes(), secret), "{name}: {said}");
            for file in ["state", "journal"] {
                for entry in fs::read_dir(signer.builder.path(file)).unwrap() {
                    let path = entry.unwrap().path();
                    let bytes = fs::read(&path).unwrap();
                    assert!(!holds(&bytes, secret), "{name}: {}", path.display());
                }
            }
        }
    }
}

/// A passphrase that is wrong, or whose place a newer one takes, is wiped as well.
#[tokio::test]
async fn i4_a_passphrase_that_opened_nothing_is_wiped() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let pid = signer.process.pid();
    let wrong = [(OF_PASSPHRASE.to_owned(), b"a passphrase that is not the right one".to_vec())];
    let text = String::from_utf8(wrong[0].1.clone()).unwrap();
    assert!(signer.unlock_with(&text).await.0);
    assert!(scan(pid, &wrong).has(OF_PASSPHRASE));
    signer.unlock().await;
    let replaced = scan(pid, &wrong);
    assert!(!replaced.has(OF_PASSPHRASE), "{:?}", replaced.found);
    assert!(signer.unlock_with(&text).await.0);
    let mut proxy = signer.connect().await;
    let answer = proxy.ask(signer.activation(&signer.request())).await;
    assert_eq!(answer["refused"]["reason"], "passphrase_wrong", "{answer}");
    let tried = scan(pid, &wrong);
    assert!(!tried.has(OF_PASSPHRASE), "{:?}", tried.found);
}

/// Under `program`, as it would be started otherwise, in its own directory.
fn started(
    builder: &SignerBuilder<'_>,
    program: &str,
    arguments: &[&str],
    signer: &Path,
) -> Process {
    let plain = builder.command();
    let mut command = system(program);
    command.args(arguments).arg(signer).args(plain.get_args());
    command.env_clear().current_dir(builder.path(""));
    Process::start(command)
}

async fn serving<'s>(builder: SignerBuilder<'s>, mut process: Process) -> Signer<'s> {
    let instance = process
        .line("it serves", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"] == "serving").then(|| line["instance"].as_str().unwrap().to_owned())
        })
        .await;
    Signer { builder, process, instance }
}

fn cores(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    entries.filter(|name| name.to_string_lossy().starts_with("core")).count()
}

#[tokio::test]
async fn i4_a_crash_in_a_session_leaves_no_core_though_cores_are_allowed() {
    let site = Site::new();
    let allowed = &["--core=unlimited:unlimited"][..];
    // Something else dumps one here, in the same way.
    let other = site.world.scratch.path("other");
    fs::create_dir_all(&other).unwrap();
    let mut sleeps = system("prlimit");
    let mut sleeps = Process::start({
        sleeps.args(allowed).args(["sleep", "60"]).current_dir(&other);
        sleeps
    });
    system_tests::eventually("it sleeps", || {
        let name = fs::read_to_string(format!("/proc/{}/comm", sleeps.pid())).unwrap();
        std::future::ready((name.trim() == "sleep").then_some(()))
    })
    .await;
    sleeps.signal(Signal::SIGSEGV);
    assert!(sleeps.ended().await.core_dumped(), "nothing dumps a core here: see core_pattern");
    // Not SIGSEGV, which Rust catches to look for an overflow of the stack, nor SIGQUIT, which
    // what runs in the background of a shell ignores.
    for signal in [Signal::SIGABRT, Signal::SIGILL] {
        let site = Site::new();
        let process = started(&site.signer(), "prlimit", allowed, &ours("breakglass-signer"));
        let mut signer = serving(site.signer(), process).await;
        let mut proxy = signer.connect().await;
        signer.activated(&mut proxy, &signer.request()).await;
        signer.process.signal(signal);
        let ended = signer.process.ended().await;
        assert_eq!(ended.signal(), Some(signal as i32), "{ended}");
        assert!(!ended.core_dumped(), "{signal}: a core was dumped");
        assert_eq!(cores(&signer.builder.path("")), 0);
    }
}

#[tokio::test]
async fn i4_another_process_of_the_same_user_reads_no_memory_and_traces_nothing() {
    let site = Site::new();
    let builder = site.signer();
    drop(builder.command());
    // Where that user gets at it, and belongs to it.
    let binary = site.world.scratch.path("breakglass-signer");
    fs::copy(ours("breakglass-signer"), &binary).unwrap();
    fs::set_permissions(site.world.scratch.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    succeeds(system("chown").args(["-R", USER]).arg(builder.path("")));
    let user = ["--reuid", USER, "--regid", USER, "--clear-groups"];
    let process = Process::start({
        let mut command = system("setpriv");
        command.args(user).arg(&binary).args(["serve", "--config"]);
        command.arg(builder.path("breakglass-signer.toml")).env_clear();
        command
    });
    let signer = serving(builder, process).await;
    let mut proxy = signer.connect().await;
    signer.activated(&mut proxy, &signer.request()).await;
    let reads = |pid: u32, file: &str| {
        let mut head = system("setpriv");
        head.args(user).args(["head", "-c", "1"]).arg(format!("/proc/{pid}/{file}"));
        head.output().unwrap().status.success()
    };
    let traces = |pid: u32| {
        let mut strace = system("setpriv");
        strace.args(user).args(["timeout", "-s", "INT", "1", "strace", "-o", "/dev/null", "-p"]);
        let output = strace.arg(pid.to_string()).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stderr).contains("attached")
    };
    let other = Process::start({
        let mut command = Command::new("setpriv");
        command.args(user).args(["sleep", "60"]);
        command
    });
    system_tests::eventually("it sleeps", || {
        let name = fs::read_to_string(format!("/proc/{}/comm", other.pid())).unwrap();
        std::future::ready((name.trim() == "sleep").then_some(()))
    })
    .await;
    assert!(reads(other.pid(), "maps") && traces(other.pid()), "this test could read nothing");
    let pid = signer.process.pid();
    for file in ["maps", "mem", "environ", "auxv"] {
        assert!(!reads(pid, file), "/proc/PID/{file} is open to its user");
    }
    assert!(!traces(pid), "its user can trace it");
}

#[tokio::test]
async fn i4_the_process_is_confined_locked_and_dumps_no_core() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let pid = signer.process.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!((value("Seccomp:").as_str(), value("NoNewPrivs:").as_str()), ("2", "1"));
    assert_ne!(value("VmLck:"), "0", "its memory is not locked");
    // Every thread: the journal's and the log's too.
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("Seccomp:\t2"), "{status}");
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4).unwrap(), "0", "{core}");
    // Not dumpable: what is in /proc of it belongs to root, whoever it runs as.
    let sockets = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let inet = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    for link in sockets.filter(|link| link.to_string_lossy().starts_with("socket:[")) {
        let inode =
            link.to_string_lossy().trim_start_matches("socket:[").trim_end_matches(']').to_owned();
        assert!(
            !inet.contains(&format!(" {inode} ")),
            "it has an internet socket: {}",
            link.display()
        );
    }
}

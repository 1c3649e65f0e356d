//! `signing-proxy dev`, as a new user tries it: paste the printed lines.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use system_tests::{Process, Scratch, eventually, programs};

/// Starts `dev` in `scratch` and returns it with its `ready` line.
pub(crate) async fn dev(scratch: &Scratch) -> (Process, Value) {
    dev_with(scratch, &programs::ours("signing-proxy"), &[]).await
}

/// Starts that program's `dev` with more flags.
pub(crate) async fn dev_with(scratch: &Scratch, program: &Path, more: &[&str]) -> (Process, Value) {
    let mut command = Command::new(program);
    command
        .args(["dev", "--dir", "dev", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
        .args(more)
        .current_dir(scratch.dir());
    let mut process = Process::start(command);
    let ready =
        process.line("ready", |line| serde_json::from_str(line.strip_prefix("ready ")?).ok()).await;
    (process, ready)
}

/// The processes that work in the scratch directory.
pub(crate) fn processes_in(scratch: &Scratch) -> Vec<u32> {
    let here = scratch.dir().canonicalize().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().map(Result::unwrap);
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_here = |pid: &u32| {
        // One that ended meanwhile is nowhere.
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == here)
    };
    pids.filter(is_here).collect()
}

/// The indented blocks of what `dev` prints: each is to be pasted.
pub(crate) fn printed_blocks(output: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in output.lines() {
        match line.strip_prefix("  ") {
            Some(line) => {
                let block = blocks.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            }
            None => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

#[tokio::test]
async fn the_printed_lines_work_as_they_stand() {
    for program in ["curl", "openssl", "bash", "ssh-keygen"] {
        let _ = programs::system(program);
    }
    let scratch = Scratch::new();
    let program = programs::ours("signing-proxy");
    let (mut process, ready) = dev_with(&scratch, &program, &["--min-outage", "2s"]).await;
    assert_eq!(ready["healthy"], true);
    assert_eq!(ready["breakglass"]["emergency_kid"], "emergency-dev");
    let printed = process.says("Ctrl-C stops it all").await;
    assert!(printed.contains("SHORT MINIMUM OUTAGE: 2 seconds instead of 30 minutes"), "{printed}");
    assert_eq!(processes_in(&scratch).len(), 2, "both processes run");
    let blocks = printed_blocks(&printed);
    assert!(blocks.len() >= 13, "{blocks:?}");
    let mut said = String::new();
    for block in &blocks {
        let script = format!("set -e -o pipefail\n{block}");
        let output = Command::new("bash")
            .arg("-c")
            .arg(&script)
            .current_dir(scratch.dir())
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{block}\n{printed}{errors}");
        said.push_str(&printed);
        said.push_str(&errors);
    }
    for expected in [
        "Signature Verified Successfully",
        "Verified OK",
        "\"mode\":\"normal\"",
        "\"ok\":true",
        "signing_proxy_health 1",
        "signed    dev-p256",
        "no defect",
        "frozen: nothing is signed",
        "not frozen",
        "upstream_unhealthy",
        "handed over, and not tried yet: it waits for one activation",
        "SESSION INC-1-",
        "\"mode\":\"breakglass\"",
        "\"signer_kid\":\"emergency-dev\"",
        "is over; its key has to be destroyed by",
        "the key emergency-dev is destroyed",
    ] {
        assert!(said.contains(expected), "missing: {expected}\n{said}");
    }
    // Under the signing key, then under the emergency key.
    assert_eq!(said.matches("Signature Verified Successfully").count(), 2, "{said}");
    assert_eq!(said.matches("no defect").count(), 3, "{said}");
    let printed = process.output();
    for file in ["keys/dev-ed25519.pem", "keys/dev-breakglass-audit.pem", "approvers/security"] {
        let secret = std::fs::read_to_string(scratch.path("dev").join(file)).unwrap();
        let line = secret.lines().nth(1).unwrap();
        assert!(line.len() >= 60 && !printed.contains(line), "{file} is printed");
    }
    process.signal(Signal::SIGINT);
    assert!(process.ended().await.success(), "{}", process.output());
    assert!(!scratch.path("dev/run/admin.sock").exists(), "nothing is left running");
    assert_eq!(processes_in(&scratch), [0_u32; 0], "nothing is left running");
    assert!(!process.output().contains("THE EMERGENCY SIGNER ENDED"), "it was told to");

    // What was destroyed stays so: the next start makes another emergency key.
    let (_process, ready) = dev(&scratch).await;
    assert_eq!(ready["breakglass"]["emergency_kid"], "emergency-dev-2");
    assert_eq!(ready["breakglass"]["min_outage_s"], 1_800);
    let registry = std::fs::read_to_string(scratch.path("dev/signers.json")).unwrap();
    let registry: Value = serde_json::from_str(&registry).unwrap();
    let old = registry["signers"].as_array().unwrap().iter();
    let old: Vec<_> = old.filter(|entry| entry["signer_kid"] == "emergency-dev").collect();
    assert!(old.len() == 1 && old[0]["revokedAt"].is_string(), "{registry}");
}

#[tokio::test]
async fn a_second_start_uses_the_same_material() {
    let scratch = Scratch::new();
    let files = [
        "pki/ca.pem",
        "pki/client.pem",
        "pki/client.key",
        "signers.json",
        "approvers/security",
        "approvers/finance",
        "approvers/allowed_signers",
        "breakglass/keys/emergency-dev.pem",
    ];
    let read =
        || files.map(|file| std::fs::read_to_string(scratch.path("dev").join(file)).unwrap());
    let (mut process, _) = dev(&scratch).await;
    let first = read();
    process.signal(Signal::SIGINT);
    assert!(process.ended().await.success());
    let (_process, ready) = dev(&scratch).await;
    assert_eq!((&ready["healthy"], ready["breakglass"].is_object()), (&true.into(), true));
    assert_eq!(read(), first);
}

#[tokio::test]
async fn private_material_is_for_its_owner_only() {
    use std::os::unix::fs::MetadataExt as _;
    let scratch = Scratch::new();
    let (_process, _) = dev(&scratch).await;
    let mode = |name: &str| std::fs::metadata(scratch.path(name)).unwrap().mode() & 0o777;
    assert_eq!(mode("dev"), 0o700);
    for file in [
        "dev/pki/client.key",
        "dev/pki/server.key",
        "dev/keys/dev-ed25519.pem",
        "dev/keys/dev-breakglass-audit.pem",
        "dev/approvers/security",
        "dev/approvers/finance",
        "dev/breakglass/keys/emergency-dev.pem",
    ] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    assert!(!scratch.path("dev/pki/ca.key").exists(), "the authority's key is never written");
}

#[tokio::test]
async fn a_terminal_that_is_gone_leaves_nothing_running() {
    let scratch = Scratch::new();
    let (mut process, _) = dev(&scratch).await;
    process.signal(Signal::SIGHUP);
    assert!(process.ended().await.success());
    assert_eq!(processes_in(&scratch), [0_u32; 0]);
}

#[tokio::test]
async fn a_kill_leaves_no_emergency_signer_behind() {
    let scratch = Scratch::new();
    let (mut process, ready) = dev(&scratch).await;
    assert!(ready["breakglass"].is_object(), "{}", process.output());
    assert_eq!(processes_in(&scratch).len(), 2);
    process.signal(Signal::SIGKILL);
    assert!(!process.ended().await.success());
    eventually("nothing runs any more", || {
        std::future::ready(processes_in(&scratch).is_empty().then_some(()))
    })
    .await;
}

#[tokio::test]
async fn without_emergency_signer_it_serves_and_a_later_start_adds_break_glass() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("bin")).unwrap();
    let alone = scratch.path("bin/signing-proxy");
    std::fs::copy(programs::ours("signing-proxy"), &alone).unwrap();
    let (mut process, ready) = dev_with(&scratch, &alone, &[]).await;
    assert_eq!((&ready["healthy"], &ready["breakglass"]), (&true.into(), &Value::Null));
    let said = process.says("Ctrl-C stops it all").await;
    assert!(said.contains("NO BREAK-GLASS HERE: breakglass-signer is not beside"), "{said}");
    assert!(said.contains("cargo build --release"), "{said}");
    process.signal(Signal::SIGTERM);
    assert!(process.ended().await.success());
    let registry = || std::fs::read_to_string(scratch.path("dev/signers.json")).unwrap();
    assert!(!registry().contains("emergency-dev"));
    let (_process, ready) = dev(&scratch).await;
    assert_eq!(ready["breakglass"]["emergency_kid"], "emergency-dev", "{ready}");
    assert!(registry().contains("emergency-dev"));
}

#[tokio::test]
async fn a_key_that_is_moved_away_is_not_replaced_by_a_new_one() {
    let scratch = Scratch::new();
    let (mut process, _) = dev(&scratch).await;
    process.signal(Signal::SIGTERM);
    assert!(process.ended().await.success());
    let (key, away) =
        (scratch.path("dev/keys/dev-ed25519.pem"), scratch.path("dev/keys/dev-ed25519.pem.away"));
    std::fs::rename(&key, &away).unwrap();
    let mut command = Command::new(programs::ours("signing-proxy"));
    command.args(["dev", "--dir", "dev"]).current_dir(scratch.dir());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("move it back: mv dev/keys/dev-ed25519.pem.away dev/keys/"), "{said}");
    assert!(!key.exists());
}

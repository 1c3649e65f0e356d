//! `signing-proxy dev`, as a new user tries it: paste the printed lines.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use system_tests::{Process, Scratch, programs};

/// Starts `dev` in `scratch` and returns it with its `ready` line.
pub(crate) async fn dev(scratch: &Scratch) -> (Process, Value) {
    let mut command = Command::new(programs::ours("signing-proxy"));
    command
        .args(["dev", "--dir", "dev", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
        .current_dir(scratch.dir());
    let mut process = Process::start(command);
    let ready =
        process.line("ready", |line| serde_json::from_str(line.strip_prefix("ready ")?).ok()).await;
    (process, ready)
}

/// The indented blocks of what `dev` prints: each is to be pasted.
fn printed_blocks(output: &str) -> Vec<String> {
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
    for program in ["curl", "openssl", "bash"] {
        let _ = programs::system(program);
    }
    let scratch = Scratch::new();
    let (mut process, ready) = dev(&scratch).await;
    assert_eq!(ready["healthy"], true);
    let blocks = printed_blocks(&process.output());
    assert!(blocks.len() >= 5, "{blocks:?}");
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
    ] {
        assert!(said.contains(expected), "missing: {expected}\n{said}");
    }
    process.signal(Signal::SIGINT);
    assert!(process.ended().await.success());
    assert!(!scratch.path("dev/run/admin.sock").exists(), "nothing is left running");
}

#[tokio::test]
async fn a_second_start_uses_the_same_material() {
    let scratch = Scratch::new();
    let files = ["pki/ca.pem", "pki/client.pem", "pki/client.key", "signers.json"];
    let read =
        || files.map(|file| std::fs::read_to_string(scratch.path("dev").join(file)).unwrap());
    let (mut process, _) = dev(&scratch).await;
    let first = read();
    process.signal(Signal::SIGINT);
    assert!(process.ended().await.success());
    let (_process, ready) = dev(&scratch).await;
    assert_eq!(ready["healthy"], true);
    assert_eq!(read(), first);
}

#[tokio::test]
async fn private_material_is_for_its_owner_only() {
    use std::os::unix::fs::MetadataExt as _;
    let scratch = Scratch::new();
    let (_process, _) = dev(&scratch).await;
    let mode = |name: &str| std::fs::metadata(scratch.path(name)).unwrap().mode() & 0o777;
    assert_eq!(mode("dev"), 0o700);
    for file in ["dev/pki/client.key", "dev/pki/server.key", "dev/keys/dev-ed25519.pem"] {
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
}

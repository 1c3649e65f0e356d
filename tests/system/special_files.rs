//! What is no regular file, in place of one that a program keeps: a pipe, whose opening waits for somebody at its other
//! end, a directory, a device that never ends. Each program ends by itself and names the file.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::stat::Mode;
use system_tests::World;
use system_tests::programs::{ours, system};

use crate::ALICE;
use crate::breakglass::Site;

/// What stands in the file's place.
const KINDS: [&str; 3] = ["pipe", "directory", "device"];

fn replace(file: &Path, kind: &str) {
    if file.is_dir() {
        fs::remove_dir(file).unwrap();
    } else {
        fs::remove_file(file).unwrap();
    }
    match kind {
        "pipe" => nix::unistd::mkfifo(file, Mode::S_IRWXU).unwrap(),
        "directory" => fs::create_dir(file).unwrap(),
        _ => std::os::unix::fs::symlink("/dev/zero", file).unwrap(),
    }
}

/// Runs it to its end, which no signal but the last helps to.
fn ended(command: &Command) -> (Output, String) {
    let mut bounded = system("timeout");
    bounded.args(["--signal=KILL", "60"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    let output = bounded.output().unwrap();
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    assert!(output.status.code().is_some_and(|code| code < 124), "{command:?}: {output:?}");
    (output, said)
}

/// Runs it to its end, which is a failure that names the file.
fn refuses(command: &Command, file: &Path) {
    let (output, said) = ended(command);
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(!output.status.success() && said.contains(name), "{command:?}, {name}: {said}");
}

#[tokio::test]
async fn a_proxy_and_who_verifies_its_journal_wait_for_no_pipe() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key).clone();
    let proxy = builder.clone().start().await;
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    proxy.stop().await;
    let journal = builder.journal();
    let segment = fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment
        .filter(|path| path.extension().is_some_and(|ending| ending == "journal"))
        .max()
        .unwrap();
    let state = world.scratch.path("proxy/state/freeze-and-seals.json");
    let config = builder.write();
    for file in [&state, &journal.join("durable"), &segment] {
        let kept = file.with_extension("kept");
        fs::rename(file, &kept).unwrap();
        fs::write(file, "").unwrap();
        for kind in KINDS {
            replace(file, kind);
            refuses(&builder.verb("serve", &config), file);
            if file == &state {
                refuses(&builder.verb("check", &config), file);
            } else {
                let mut verify = Command::new(ours("signctl"));
                verify.args(["audit", "verify", "--journal"]).arg(&journal);
                ended(&verify);
            }
        }
        replace_by(&kept, file);
    }
    // And all was well but for that.
    builder.start().await.stop().await;
}

/// Puts the file back.
fn replace_by(kept: &Path, file: &Path) {
    fs::remove_file(file).unwrap();
    fs::rename(kept, file).unwrap();
}

#[tokio::test]
async fn an_emergency_signer_waits_for_no_pipe() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let builder = signer.builder.clone();
    signer.stop().await;
    let config = builder.path("breakglass-signer.toml");
    let state = builder.path("state/breakglass-signer.json");
    for kind in KINDS {
        replace(&state, kind);
        refuses(&builder.verb("serve", &config), &state);
        let (_, said) = ended(&builder.verb("check", &config));
        assert!(said.contains("regular file"), "{kind}: {said}");
    }
}

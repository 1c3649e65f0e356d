//! The image of breakglass-signer, as far as it can be seen without an engine: another user than
//! the proxy's, and nothing of the proxy in it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use system_tests::breakglass::{PASSPHRASE, SignerBuilder, Wire};
use system_tests::programs::{ours, system};
use system_tests::{Kind, Process, Scratch, World};

use crate::container::{exec_form, root_file_system_of, stage_of, tree};

const IMAGE: &str = "breakglass-signer";
const UID: u32 = 65533;

/// `words` as the image's user in `root`, with no other variables, and no right but to lock as
/// much memory as it wants (`--ulimit memlock=-1`), which is kept when the user changes.
fn inside(root: &Path, words: &[&str]) -> Command {
    let mut command = system("setpriv");
    command.args(["--securebits=+no_setuid_fixup", "--inh-caps=+ipc_lock"]);
    command.args(["--ambient-caps=+ipc_lock", "--no-new-privs", "chroot"]);
    command.args(["--groups=65533", "--userspec=65533:65533"]).arg(root).args(words);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command
}

fn verb(verb: &str) -> Vec<String> {
    let words = [stage_of(IMAGE, "ENTRYPOINT"), stage_of(IMAGE, "CMD")];
    let words = words.iter().flat_map(|text| exec_form(text));
    words.map(|word| if word == "serve" { verb.to_owned() } else { word }).collect()
}

fn run(root: &Path, words: &[String]) -> (bool, String) {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let output = inside(root, &words).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Writes to `mounted` the files of a signer that runs in its image: sockets and state where the
/// image has them, and all for the image's user only.
pub(crate) fn write_for_image(builder: &SignerBuilder<'_>, mounted: &Path) {
    let config = fs::read_to_string(builder.write()).unwrap();
    let config = config
        .replace("\"signer.sock\"", "\"/run/breakglass-signer/signer.sock\"")
        .replace("\"operator.sock\"", "\"/run/breakglass-signer/operator.sock\"")
        .replace("\"state\"", "\"/var/lib/breakglass-signer\"")
        .replace("\"journal\"", "\"/var/lib/breakglass-signer/journal\"")
        .replacen("allowed_uids = [0]", "allowed_uids = [65532]", 1);
    fs::write(mounted.join("breakglass-signer.toml"), config).unwrap();
    for file in ["signers.json", "approvers", "audit.key", "emergency.pem"] {
        let file_there = mounted.join(file);
        fs::copy(builder.path(file), &file_there).unwrap();
        std::os::unix::fs::chown(&file_there, Some(UID), Some(UID)).unwrap();
    }
}

#[test]
fn the_stage_is_scratch_and_its_user_is_neither_root_nor_the_proxys() {
    assert_eq!(stage_of(IMAGE, "COPY"), "--from=build /rootfs/breakglass-signer/ /");
    assert_eq!(stage_of(IMAGE, "USER"), format!("{UID}:{UID}"));
    assert_ne!(stage_of(IMAGE, "USER"), stage_of("signing-proxy", "USER"));
    assert_eq!(stage_of(IMAGE, "STOPSIGNAL"), "SIGTERM");
    let serve = [
        "/usr/bin/breakglass-signer",
        "serve",
        "--config",
        "/etc/breakglass-signer/breakglass-signer.toml",
    ];
    assert_eq!(verb("serve"), serve);
}

#[test]
fn the_root_file_system_has_one_program_and_one_user_and_no_authorities() {
    let scratch = Scratch::new();
    let root = root_file_system_of(IMAGE, &[IMAGE], &scratch);
    let (mut owned, mut may_run) = (BTreeSet::new(), BTreeSet::new());
    for (path, metadata) in tree(&root) {
        assert_eq!(metadata.mode() & 0o7022, 0, "{path}: mode {:o}", metadata.mode());
        if (metadata.uid(), metadata.gid()) != (0, 0) {
            assert_eq!((metadata.uid(), metadata.gid()), (UID, UID), "{path}");
            owned.insert((path.clone(), metadata.mode() & 0o7777));
        }
        if metadata.is_file() && metadata.mode() & 0o111 != 0 && !path.starts_with("/lib") {
            may_run.insert(path);
        }
    }
    let expected = [("/run/breakglass-signer", 0o750), ("/var/lib/breakglass-signer", 0o700)];
    assert_eq!(owned, expected.map(|(path, mode)| (path.to_owned(), mode)).into());
    assert_eq!(may_run, ["/usr/bin/breakglass-signer".to_owned()].into());
    let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap();
    assert!(passwd.starts_with("breakglass-signer:x:65533:65533:"), "{passwd}");
    assert!(!root.join("etc/ssl").exists(), "it speaks to nobody");
    assert!(root.join("usr/share/sbom/breakglass-signer.cdx.json").exists());
    assert!(root.join("var/lib/dpkg/status.d/libc6").exists());
}

#[tokio::test]
async fn in_the_root_file_system_it_checks_serves_is_unlocked_and_stops() {
    let world = World::new();
    let root = root_file_system_of(IMAGE, &[IMAGE], &world.scratch);
    // What is mounted: the configuration and its files, of which the keys are this user's.
    let key = world.kms.key(Kind::Ed25519);
    let builder = SignerBuilder::new(&world.scratch).production().min_outage_s(300);
    let builder = builder.replaces("payments", &key);
    write_for_image(&builder, &root.join("etc/breakglass-signer"));
    let (checked, said) = run(&root, &verb("check"));
    assert!(checked && said.contains("no mistakes; 1 emergency key, 2 approvers"), "{said}");
    let (made, said) = run(&root, &verb("init"));
    assert!(made && said.contains(" begins"), "{said}");

    let words = verb("serve");
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let mut process = Process::start(inside(&root, &words));
    let is_serving = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == "serving").then_some(())
    };
    process.line("the line that it serves", is_serving).await;
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    assert!(status.contains("\nUid:\t65533\t65533\t65533\t65533\n"), "{status}");
    // CAP_IPC_LOCK alone.
    assert!(status.contains("\nCapEff:\t0000000000004000\n"), "{status}");
    assert!(!process.output().contains("secrets may be swapped out"), "{}", process.output());
    let sockets =
        ["signer.sock", "operator.sock"].map(|name| root.join("run/breakglass-signer").join(name));
    for socket in &sockets {
        let found = fs::metadata(socket).unwrap();
        assert_eq!((found.uid(), found.permissions().mode() & 0o777), (UID, 0o660));
    }
    // Root is no proxy: only the image of the proxy has that user.
    let mut stranger = Wire::connect(&sockets[0]).await;
    assert!(stranger.next().await.is_none(), "closed without a word");
    let mut unlock = system("bash");
    unlock.args([
        "-c",
        "printf '%s\\n' \"$0\" | \"$1\" breakglass unlock --operator-socket \"$2\"",
        PASSPHRASE,
    ]);
    let unlocked = unlock.arg(ours("signctl")).arg(&sockets[1]).output().unwrap();
    assert!(unlocked.status.success(), "{unlocked:?}");
    process.signal(Signal::SIGTERM);
    assert!(process.ended().await.success(), "{}", process.output());
}

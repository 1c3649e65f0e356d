//! The container image, as far as it can be seen without an engine: what the
//! Dockerfile says, and the image's root file system, entered with chroot.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use serde_json::Value;
use system_tests::client::plain;
use system_tests::programs::{ours, repository, system};
use system_tests::{
    Client, Kind, Process, Profile, Protocol, ProxyBuilder, Scratch, World, eventually,
};

use crate::ALICE;

const PROGRAMS: [&str; 3] = ["signing-proxy", "signctl", "pkcs11-worker"];
const UID: u32 = 65532;
const IMAGE: &str = "signing-proxy";

/// One instruction of the Dockerfile: its word, and the rest.
type Instruction = (String, String);

/// The image that the Dockerfile builds on unless told otherwise: `ARG RUST_IMAGE=`, the
/// only argument before the first FROM.
fn base_image() -> String {
    let text = fs::read_to_string(repository().join("Dockerfile")).unwrap();
    let before = text.lines().take_while(|line| !line.starts_with("FROM "));
    let mut arguments: Vec<_> = before.filter_map(|line| line.strip_prefix("ARG ")).collect();
    assert_eq!(arguments.len(), 1, "{arguments:?}");
    arguments.remove(0).strip_prefix("RUST_IMAGE=").unwrap().to_owned()
}

/// The stages of the Dockerfile, each from its FROM on.
fn stages() -> Vec<Vec<Instruction>> {
    let text = fs::read_to_string(repository().join("Dockerfile")).unwrap();
    let text = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let text = text.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let mut stages: Vec<Vec<Instruction>> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (word, rest) = line.trim().split_once(' ').unwrap();
        if word == "FROM" {
            stages.push(Vec::new());
        }
        let Some(stage) = stages.last_mut() else {
            assert_eq!(word, "ARG", "before the first FROM: {line}");
            continue;
        };
        stage.push((word.to_owned(), rest.trim().to_owned()));
    }
    stages
}

/// What the only instruction `word` of the final stage says.
fn final_stage(word: &str) -> String {
    stage_of(IMAGE, word)
}

/// What the only instruction `word` of an image's stage says.
pub(crate) fn stage_of(image: &str, word: &str) -> String {
    let from = ("FROM".to_owned(), format!("scratch AS {image}"));
    let stage = stages().into_iter().find(|stage| stage[0] == from);
    let stage = stage.unwrap_or_else(|| panic!("no stage {image}"));
    let mut found: Vec<_> = stage.into_iter().filter(|(other, _)| other == word).collect();
    assert_eq!(found.len(), 1, "{word}: {found:?}");
    found.remove(0).1
}

/// A command in exec form: a JSON array of words.
pub(crate) fn exec_form(text: &str) -> Vec<String> {
    let words = serde_json::from_str(text);
    assert!(words.is_ok(), "not in exec form: {text}");
    words.unwrap()
}

/// The words of the health check's command.
pub(crate) fn health_check() -> Vec<String> {
    let said = final_stage("HEALTHCHECK");
    exec_form(said.split_once("CMD ").unwrap().1)
}

/// The root file system that `packaging/rootfs.sh` lays out, of the binaries
/// this test was built with.
fn root_file_system(scratch: &Scratch) -> PathBuf {
    root_file_system_of(IMAGE, &PROGRAMS, scratch)
}

pub(crate) fn root_file_system_of(image: &str, programs: &[&str], scratch: &Scratch) -> PathBuf {
    let root = scratch.path("root");
    let made = rootfs_command_of(image, programs, scratch, &root).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    root
}

fn rootfs(scratch: &Scratch, root: &Path) -> Output {
    rootfs_command(scratch, root).output().unwrap()
}

pub(crate) fn rootfs_command(scratch: &Scratch, root: &Path) -> Command {
    rootfs_command_of(IMAGE, &PROGRAMS, scratch, root)
}

fn rootfs_command_of(image: &str, programs: &[&str], scratch: &Scratch, root: &Path) -> Command {
    for program in programs {
        scratch.write(&format!("built/{program}.cdx.json"), "{}");
        let copy = scratch.path(&format!("built/{program}"));
        fs::copy(ours(program), copy).unwrap();
    }
    let mut command = system("bash");
    command
        .arg(repository().join("packaging/rootfs.sh"))
        .arg(image)
        .arg(scratch.path("built"))
        .arg(root);
    command
}

/// `words` as the image's user in `root`, with no other rights or variables.
fn inside(root: &Path, words: &[&str]) -> Command {
    let mut command = system("setpriv");
    command.args(["--no-new-privs", "chroot", "--groups=65532", "--userspec=65532:65532"]);
    command.arg(root).args(words).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command
}

fn output_inside(root: &Path, words: &[&str]) -> String {
    let output = inside(root, words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}{errors}");
    said
}

/// Everything under `root`, as paths from `/`.
pub(crate) fn tree(root: &Path) -> Vec<(String, fs::Metadata)> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            if metadata.is_dir() {
                left.push(entry.path());
            }
            let path = entry.path().strip_prefix(root).unwrap().to_owned();
            found.push((format!("/{}", path.display()), metadata));
        }
    }
    found
}

/// The names of the libraries that `file` names as NEEDED.
fn needed(file: &Path) -> BTreeSet<String> {
    let output = system("readelf").arg("--dynamic").arg(file).output().unwrap();
    assert!(output.status.success(), "{}", file.display());
    let name = |line: &str| Some(line.split_once("(NEEDED)")?.1.split(['[', ']']).nth(1)?.into());
    String::from_utf8(output.stdout).unwrap().lines().filter_map(name).collect()
}

/// Writes the files of a proxy that runs in its image: sockets and state where the image has them,
/// and keys for the image's user only. Returns the config file, as `builder.write()` does.
pub(crate) fn write_for_image(builder: &ProxyBuilder<'_>) -> PathBuf {
    let file = builder.write();
    let text = fs::read_to_string(&file).unwrap();
    let text = text
        .replace("\"admin.sock\"", "\"/run/signing-proxy/admin.sock\"")
        .replace("\"state\"", "\"/var/lib/signing-proxy\"")
        .replace("\"journal\"", "\"/var/lib/signing-proxy/journal\"")
        .replace("allowed_uids = [0]", "allowed_uids = [65532]")
        .replace("http://127.0.0.1:", "http://localhost:");
    fs::write(&file, text).unwrap();
    for name in ["server.key", "audit.key"] {
        std::os::unix::fs::chown(file.with_file_name(name), Some(UID), Some(UID)).unwrap();
    }
    file
}

#[test]
fn the_build_runs_only_scripts_of_the_repository() {
    let stages = stages();
    for (word, rest) in stages.iter().flatten() {
        match word.as_str() {
            "RUN" => {
                let script = rest.split(' ').next().unwrap();
                let is_ours = script.starts_with("packaging/") && script.ends_with(".sh");
                assert!(is_ours && !rest.contains(['&', ';', '|', '$']), "RUN {rest}");
                let mode = fs::metadata(repository().join(script)).unwrap().mode();
                assert_ne!(mode & 0o111, 0, "{script} cannot be run");
            }
            "COPY" if !rest.starts_with("--from=") => {
                let mut sources: Vec<_> = rest.split(' ').collect();
                sources.pop();
                for source in sources {
                    assert!(repository().join(source).exists(), "COPY {rest}");
                }
            }
            _ => assert_ne!(word, "ADD", "{rest}: COPY does less"),
        }
    }
    assert_eq!(stages[0][0].1, "${RUST_IMAGE} AS build");
    let image = base_image();
    assert!(image.starts_with("rust:1.") && image.contains('-'), "no exact version: {image}");
    let manual = fs::read_to_string(repository().join("docs/operating/packaging.md")).unwrap();
    assert!(manual.contains("--build-arg RUST_IMAGE=rust@sha256:") && manual.contains(&image));
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(&manifest).unwrap();
    let oldest = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(image.starts_with(&format!("rust:{oldest}.")), "{image}, but rust-version {oldest}");
}

#[test]
fn the_final_image_is_scratch_and_its_user_is_not_root() {
    assert!(stages().last().unwrap().contains(&("FROM".into(), "scratch AS signing-proxy".into())));
    assert_eq!(final_stage("COPY"), "--from=build /rootfs/signing-proxy/ /");
    assert_eq!(final_stage("USER"), format!("{UID}:{UID}"));
    // Where `dev` keeps its material: a directory that the user can write.
    assert_eq!(final_stage("WORKDIR"), "/var/lib/signing-proxy");
    assert_eq!(final_stage("STOPSIGNAL"), "SIGTERM");
    assert_eq!(exec_form(&final_stage("ENTRYPOINT")), ["/usr/bin/signing-proxy"]);
    let command = exec_form(&final_stage("CMD"));
    assert_eq!(command, ["serve", "--config", "/etc/signing-proxy/signing-proxy.toml"]);
    assert_eq!(health_check(), ["/usr/bin/signctl", "health"]);
    // Without --url it asks where the proxy listens by default.
    let help = Command::new(ours("signctl")).args(["health", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let config = fs::read_to_string(repository().join("config/signing-proxy.toml")).unwrap();
    assert!(help.contains("[default: http://127.0.0.1:9464/health]"), "{help}");
    assert!(config.contains("listen = \"127.0.0.1:9464\""));
    assert!(stages().last().unwrap().iter().all(|(word, _)| word != "RUN"), "scratch has no shell");
}

#[test]
fn the_root_file_system_holds_what_the_programs_load_and_nothing_else_that_runs() {
    let scratch = Scratch::new();
    let root = root_file_system(&scratch);
    let programs = PROGRAMS.map(|program| format!("/usr/bin/{program}"));
    let files: Vec<_> = tree(&root).into_iter().filter(|(_, data)| !data.is_dir()).collect();
    let mut libraries = BTreeSet::new();
    let mut may_run = BTreeSet::from(programs.clone());
    for (path, metadata) in &files {
        assert!(metadata.is_file(), "{path} is neither a file nor a directory");
        let name = path.rsplit('/').next().unwrap().to_owned();
        let bytes = fs::read(root.join(&path[1..])).unwrap();
        if bytes.starts_with(b"\x7fELF") && !programs.contains(path) {
            assert!(path.starts_with("/lib"), "{path}");
            if name.starts_with("ld-") {
                may_run.insert(path.clone());
            }
            libraries.insert(name);
        }
        assert!(!bytes.starts_with(b"#!"), "{path} is a script");
        assert_eq!(metadata.mode() & 0o7022, 0, "{path}: mode {:o}", metadata.mode());
    }
    let executables = files.iter().filter(|(_, data)| data.mode() & 0o111 != 0);
    let executables: BTreeSet<_> = executables.map(|(path, _)| path.clone()).collect();
    assert_eq!(executables, may_run);

    let mut wanted: BTreeSet<String> = BTreeSet::new();
    for program in PROGRAMS {
        let direct = needed(&root.join("usr/bin").join(program));
        assert!(direct.contains("libc.so.6"), "{program}: {direct:?}");
        wanted.extend(direct);
    }
    for (path, _) in &files {
        if libraries.contains(path.rsplit('/').next().unwrap()) {
            wanted.extend(needed(&root.join(&path[1..])));
        }
    }
    assert_eq!(libraries, wanted);
}

#[test]
fn the_user_of_the_image_owns_two_directories_and_can_write_nowhere_else() {
    let scratch = Scratch::new();
    let root = root_file_system(&scratch);
    let mut owned = Vec::new();
    for (path, metadata) in tree(&root) {
        assert_eq!(metadata.mode() & 0o022, 0, "{path}: mode {:o}", metadata.mode());
        if (metadata.uid(), metadata.gid()) != (0, 0) {
            assert_eq!((metadata.uid(), metadata.gid()), (UID, UID), "{path}");
            owned.push((path, metadata.permissions().mode() & 0o7777));
        }
    }
    owned.sort();
    let expected = [("/run/signing-proxy", 0o750), ("/var/lib/signing-proxy", 0o700)];
    assert_eq!(owned, expected.map(|(path, mode)| (path.to_owned(), mode)));
    for (file, line) in [
        ("etc/passwd", "signing-proxy:x:65532:65532:"),
        ("etc/group", "signing-proxy:x:65532:"),
        ("etc/ssl/certs/ca-certificates.crt", "-----BEGIN CERTIFICATE-----"),
        ("usr/share/doc/signing-proxy/copyright", "Apache License"),
        ("usr/share/sbom/signing-proxy.cdx.json", "{}"),
    ] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        assert!(text.contains(line), "{file}: {text}");
    }
    for package in ["libc6", "ca-certificates"] {
        let status = root.join("var/lib/dpkg/status.d").join(package);
        let text = fs::read_to_string(status).unwrap();
        assert!(text.starts_with(&format!("Package: {package}\n")), "{text}");
        assert!(text.contains("\nVersion: "), "{text}");
        assert!(root.join("usr/share/doc").join(package).join("copyright").exists(), "{package}");
    }
    assert!(root.join("etc/signing-proxy").is_dir(), "where the configuration is mounted");
}

#[test]
fn a_root_file_system_is_never_laid_out_over_another_or_in_part() {
    let scratch = Scratch::new();
    scratch.write("root/etc/passwd", "mine");
    let made = rootfs(&scratch, &scratch.path("root"));
    assert!(!made.status.success());
    assert!(String::from_utf8_lossy(&made.stderr).contains("exists"), "{made:?}");
    assert_eq!(fs::read(scratch.path("root/etc/passwd")).unwrap(), b"mine");

    fs::remove_file(scratch.path("built/signctl.cdx.json")).unwrap();
    let script = repository().join("packaging/rootfs.sh");
    let without_sbom = system("bash")
        .arg(script)
        .arg("signing-proxy")
        .args([scratch.path("built"), scratch.path("other")])
        .output()
        .unwrap();
    assert!(!without_sbom.status.success(), "an image without an SBOM is none");
}

#[tokio::test]
async fn in_the_root_file_system_it_checks_serves_signs_and_stops() {
    let world = World::new();
    let root = root_file_system(&world.scratch);
    for program in PROGRAMS {
        let said = output_inside(&root, &[&format!("/usr/bin/{program}"), "--version"]);
        assert_eq!(said.trim(), format!("{program} {}", env!("CARGO_PKG_VERSION")));
    }

    // What is mounted: the configuration, and the hosts that an engine writes.
    let key = world.kms.key(Kind::P256);
    let config =
        world.proxy().directory("root/etc/signing-proxy").signer("s", &key).caller(ALICE, &["s"]);
    write_for_image(&config);
    world.scratch.write("root/etc/hosts", "127.0.0.1 localhost\n");

    let entrypoint = exec_form(&final_stage("ENTRYPOINT"));
    let command = exec_form(&final_stage("CMD"));
    let serve: Vec<_> = entrypoint.iter().chain(&command).map(String::as_str).collect();
    let check: Vec<_> =
        serve.iter().map(|word| if *word == "serve" { "check" } else { word }).collect();
    assert!(output_inside(&root, &check).contains("no mistakes; 1 signer, 1 caller"));

    let init: Vec<_> =
        serve.iter().map(|word| if *word == "serve" { "init" } else { word }).collect();
    assert!(output_inside(&root, &init).contains(" begins"));

    let mut served = inside(&root, &serve);
    served
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let mut process = Process::start(served);
    let (listen, metrics) = process
        .line("the line that it serves", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let text = |key: &str| line[key].as_str().map(str::to_owned);
            (line["message"] == "serving").then(|| Some((text("listen")?, text("metrics")?)))?
        })
        .await;

    // The image's own health check, on the port that this test was given.
    let words = health_check();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let url = format!("http://{metrics}/health");
    eventually("the health check says yes", || {
        let asked = inside(&root, &words).env("SIGNCTL_HEALTH_URL", &url).output().unwrap();
        std::future::ready(asked.status.success().then_some(()))
    })
    .await;
    assert_eq!(plain(&metrics, "/health").await.status, 200);
    let live = inside(&root, &words)
        .env("SIGNCTL_HEALTH_URL", format!("http://{metrics}/livez"))
        .output()
        .unwrap();
    assert_eq!((live.status.code(), live.stdout.as_slice()), (Some(0), &b"ok\n"[..]));

    let certificate = world.pki.issue(&Profile::client(ALICE));
    let alice = Client::connect(&listen, &world.pki.ca_pem, &certificate, Protocol::Http1).await;
    let answer = alice.unwrap().sign_message("s", b"hello").await;
    assert_eq!(answer.status, 200, "{}", answer.text);

    // The operator's hand inside: a freeze turns the health check red, and is kept.
    output_inside(&root, &["/usr/bin/signctl", "freeze", "--reason", "INC-1"]);
    let asked = inside(&root, &words).env("SIGNCTL_HEALTH_URL", &url).output().unwrap();
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    assert!(fs::read_dir(root.join("var/lib/signing-proxy")).unwrap().count() > 0);

    process.signal(Signal::SIGTERM);
    let status = process.ended().await;
    assert!(status.success(), "it ended with {status}");
}

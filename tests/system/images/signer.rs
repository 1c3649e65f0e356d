//! The emergency signer's image serves as another user than the proxy, without a network.

use std::fs;

use serde_json::Value;
use system_tests::breakglass::SignerBuilder;
use system_tests::programs::system;
use system_tests::{Engine, Kind, Process, World};

use super::{SIGNER, WITHOUT_RIGHTS, has_only_rights};
use crate::container_signer::write_for_image;

const UID: u32 = 65533;

#[tokio::test]
async fn it_serves_without_rights_or_network_as_its_own_user() {
    let engine = Engine::new();
    let _ = engine.build(SIGNER.0, SIGNER.1);
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let builder = SignerBuilder::new(&world.scratch).production().min_outage_s(300);
    let mounted = world.scratch.path("mounted");
    fs::create_dir(&mounted).unwrap();
    write_for_image(&builder.replaces("payments", &key), &mounted);
    let config = format!("{}:/etc/breakglass-signer:ro", mounted.display());
    // As docs/operating/packaging.md says; where this machine's own limit cannot be lifted, by a right.
    let mut lifted = system("prlimit");
    let lifted = lifted.args(["--memlock=unlimited:unlimited", "true"]).output().unwrap();
    let (locking, rights) = if lifted.status.success() {
        (["--ulimit", "memlock=-1:-1"], 0)
    } else {
        (["--cap-add", "IPC_LOCK"], 1 << 14)
    };
    let with = |name: &str, verb: &[&str]| {
        let mut command = engine.podman(&WITHOUT_RIGHTS);
        command.args(["--name", name, "--network", "none"]);
        command.args(locking);
        command.args(["--volume", "state:/var/lib/breakglass-signer"]);
        command.args(["--volume", "run:/run/breakglass-signer", "--volume", &config]);
        command.arg(SIGNER.0).args(verb);
        command
    };
    let init = ["init", "--config", "/etc/breakglass-signer/breakglass-signer.toml"];
    let made = with("init", &init).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let mut process = Process::start(with("signer", &[]));
    let is_serving = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == "serving").then_some(())
    };
    process.line("the line that it serves", is_serving).await;
    let pid = engine.said(&["inspect", "--format", "{{.State.Pid}}", "signer"]);
    has_only_rights(pid.trim(), UID, rights);
    let devices = fs::read_to_string(format!("/proc/{}/net/dev", pid.trim())).unwrap();
    assert_eq!(devices.lines().filter(|line| line.contains(':')).count(), 1, "{devices}");
    assert!(devices.contains("lo:"), "{devices}");
    assert!(!process.output().contains("secrets may be swapped out"), "{}", process.output());

    let _ = engine.said(&["stop", "--time", "30", "signer"]);
    let status = process.ended().await;
    assert!(status.success(), "{status}: {}", process.output());
}

//! The proxy's image serves, signs, is healthy, and drains.

use serde_json::Value;
use system_tests::client::plain;
use system_tests::{Client, Engine, Kind, Process, Profile, Protocol, World, eventually};

use super::{PROXY, WITHOUT_RIGHTS, has_no_rights};
use crate::ALICE;
use crate::container::{health_check, write_for_image};

const UID: u32 = 65532;

#[tokio::test]
async fn it_serves_without_rights_on_a_root_that_nobody_can_write() {
    let engine = Engine::new();
    let _ = engine.build(PROXY.0, PROXY.1);
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let mounted = write_for_image(&world.proxy().signer("s", &key).caller(ALICE, &["s"]));
    let mounted = mounted.parent().unwrap().display();
    let config = format!("{mounted}:/etc/signing-proxy:ro");
    let with = |name: &str, verb: &[&str]| {
        let mut command = engine.podman(&WITHOUT_RIGHTS);
        command.args(["--name", name, "--volume", "state:/var/lib/signing-proxy"]);
        command.args(["--volume", "run:/run/signing-proxy", "--volume", &config]);
        for variable in ["AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test"] {
            command.args(["--env", variable]);
        }
        command.args(["--env", "AWS_EC2_METADATA_DISABLED=true", PROXY.0]).args(verb);
        command
    };
    // Without a journal it does not start, and says what to do.
    let refused = with("refused", &[]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("signing-proxy init"), "{said}");
    let init = ["init", "--config", "/etc/signing-proxy/signing-proxy.toml"];
    let made = with("init", &init).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let mut process = Process::start(with("proxy", &[]));
    let (listen, metrics) = process
        .line("the line that it serves", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let text = |key: &str| line[key].as_str().map(str::to_owned);
            (line["message"] == "serving").then(|| Some((text("listen")?, text("metrics")?)))?
        })
        .await;
    eventually("healthy", || async {
        (plain(&metrics, "/health").await.status == 200).then_some(())
    })
    .await;
    let pid = engine.said(&["inspect", "--format", "{{.State.Pid}}", "proxy"]);
    has_no_rights(pid.trim(), UID);

    let certificate = world.pki.issue(&Profile::client(ALICE));
    let alice = Client::connect(&listen, &world.pki.ca_pem, &certificate, Protocol::Http1).await;
    let answer = alice.unwrap().sign_message("s", b"hello").await;
    assert_eq!(answer.status, 200, "{}", answer.text);

    // The image's own check, at the port that this test was given.
    let url = format!("SIGNCTL_HEALTH_URL=http://{metrics}/health");
    let words = health_check();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let exec = [&["exec", "--env", &url, "proxy"], &words[..]].concat();
    let healthy = || engine.run(&exec).status.code();
    assert_eq!(healthy(), Some(0));
    let signctl = |words: &[&str]| {
        let exec = ["exec", "proxy", "/usr/bin/signctl"];
        engine.said(&[&exec[..], words].concat())
    };
    let _ = signctl(&["freeze", "--reason", "INC-1"]);
    assert_eq!(healthy(), Some(1), "it is frozen");
    let _ = signctl(&["unfreeze", "--reason", "over"]);

    let _ = engine.said(&["stop", "--time", "30", "proxy"]);
    let status = process.ended().await;
    assert!(status.success(), "{status}: {}", process.output());
    assert!(process.output().contains("\"stopped\""), "{}", process.output());
}

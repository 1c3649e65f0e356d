//! `docker run IMAGE dev`, as a new user tries it: by what docs/operating/packaging.md says.

use serde_json::Value;
use system_tests::programs::system;
use system_tests::{Engine, Process, eventually};

use super::{PROXY, WITHOUT_RIGHTS};

#[tokio::test]
async fn it_serves_by_itself_is_reached_and_says_that_it_has_no_emergency_signer() {
    let engine = Engine::new();
    let _ = engine.build(PROXY.0, PROXY.1);
    let mut run = engine.podman(&WITHOUT_RIGHTS);
    run.args(["--name", "dev", "--volume", "dev:/var/lib/signing-proxy", PROXY.0, "dev"]);
    run.args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]);
    let mut process = Process::start(run);
    let ready: Value =
        process.line("ready", |line| serde_json::from_str(line.strip_prefix("ready ")?).ok()).await;
    assert_eq!((&ready["healthy"], &ready["breakglass"]), (&true.into(), &Value::Null));
    let printed = process.says("Ctrl-C stops it all").await;
    assert!(printed.contains("NO BREAK-GLASS HERE"), "{printed}");

    // The material is copied out of the container, as the manual does it.
    let out = engine.path("dev").display().to_string();
    let _ = engine.said(&["cp", "dev:/var/lib/signing-proxy/.signing-proxy", &out]);
    let mut curl = system("curl");
    for (flag, file) in [("--cacert", "ca.pem"), ("--cert", "client.pem"), ("--key", "client.key")]
    {
        curl.arg(flag).arg(format!("{out}/pki/{file}"));
    }
    curl.args(["--silent", "--show-error", "-H", "content-type: application/json"]);
    curl.args(["-d", r#"{"message": "aGVsbG8="}"#]);
    let signed = curl.arg(format!("{}/v1/sign", ready["url"].as_str().unwrap())).output().unwrap();
    let answer: Value = serde_json::from_slice(&signed.stdout).unwrap_or_default();
    assert_eq!(answer["signer_kid"], "dev-ed25519", "{signed:?}");
    let _ = engine.said(&["stop", "--time", "30", "dev"]);
    assert!(process.ended().await.success(), "{}", process.output());
}

#[tokio::test]
async fn the_health_check_of_the_image_is_the_engines_own() {
    let engine = Engine::new();
    let _ = engine.build(PROXY.0, PROXY.1);
    // Without another network the default ports are its own, and so is the check as it stands.
    let mut run = engine.podman(&WITHOUT_RIGHTS);
    run.args(["--name", "dev", "--network", "none"]);
    run.args(["--volume", "dev:/var/lib/signing-proxy", PROXY.0, "dev"]);
    let mut process = Process::start(run);
    let is_ready = |line: &str| line.starts_with("ready ").then_some(());
    process.line("ready", is_ready).await;
    let asked = || engine.run(&["healthcheck", "run", "dev"]).status.code();
    eventually("healthy", || std::future::ready((asked() == Some(0)).then_some(()))).await;
    let signctl = ["exec", "dev", "/usr/bin/signctl", "--socket", ".signing-proxy/run/admin.sock"];
    let _ = engine.said(&[&signctl[..], &["freeze", "--reason", "INC-1"]].concat());
    assert_eq!(asked(), Some(1), "it is frozen");
    let _ = engine.said(&["stop", "--time", "30", "dev"]);
    assert!(process.ended().await.success(), "{}", process.output());
}

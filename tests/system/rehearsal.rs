//! `signctl drill --breakglass` under dev: the ceremony is rehearsed and recorded, and nothing real takes part.

use std::process::Command;

use serde_json::{Value, json};
use system_tests::{Scratch, journal, programs};

use crate::dev::dev;

/// A rehearsal with the keys of those approvers; its exit status and what it said.
fn rehearse(scratch: &Scratch, dir: &str, approvers: [&str; 2]) -> (i32, Value) {
    let mut command = Command::new(programs::ours("signctl"));
    command.args(["drill", "--breakglass", "--json", "--socket", "dev/run/admin.sock"]);
    command.args(["--signers", "dev/signers.json", "--dir", dir]);
    command.args(["--signer-config", "dev/breakglass-signer.toml"]);
    for approver in approvers {
        command.arg("--key").arg(format!("dev/approvers/{approver}"));
    }
    let output = command.current_dir(scratch.dir()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{errors}"));
    (output.status.code().unwrap(), said)
}

#[tokio::test]
async fn a_rehearsal_is_recorded_is_no_outage_and_touches_no_real_key() {
    let scratch = Scratch::new();
    let (mut process, ready) = dev(&scratch).await;
    let read = |name: &str| std::fs::read(scratch.path(name)).unwrap();
    let (key, registry) = ("dev/breakglass/keys/emergency-dev.pem", "dev/signers.json");
    let before = (read(key), read(registry));

    let (code, said) = rehearse(&scratch, "rehearsal", ["security", "finance"]);
    assert_eq!((code, &said["ok"]), (0, &json!(true)), "{said:#}");
    let steps: Vec<_> = said["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    let expected = [
        "key", "request", "approve", "unlock", "activate", "sign", "end", "again", "destroy",
        "verify",
    ];
    assert_eq!(steps, expected, "{said:#}");

    // One person is not two.
    let (code, said) = rehearse(&scratch, "again", ["security", "security"]);
    assert_eq!((code, &said["ok"]), (1, &json!(false)), "{said:#}");
    assert!(said["detail"].as_str().unwrap().contains("same_key"), "{said:#}");

    assert_eq!((read(key), read(registry)), before);
    let status = scratch.path("dev/run/admin.sock");
    let mut command = Command::new(programs::ours("signctl"));
    let status = command.arg("--socket").arg(status).args(["breakglass", "status", "--json"]);
    let status: Value = serde_json::from_slice(&status.output().unwrap().stdout).unwrap();
    assert_eq!((&status["outages"], &status["session"]), (&json!([]), &Value::Null), "{status:#}");
    process.signal(nix::sys::signal::Signal::SIGINT);
    assert!(process.ended().await.success(), "{ready}");
    let records = journal::read(&scratch.path("dev/journal"), "rehearsal");
    let came: Vec<_> = records.iter().map(|line| line["record"]["data"]["ok"].clone()).collect();
    assert_eq!(came, [Value::Null, json!(true), Value::Null, json!(false)], "{records:#?}");
    let who = &records[1]["record"]["data"]["approved_by"];
    assert_eq!(who.as_array().unwrap().len(), 2, "{who}");
    for kind in ["session_activated", "session_refused", "unlock", "key_destroyed"] {
        let of_real = journal::read(&scratch.path("dev/breakglass/journal"), kind);
        assert!(of_real.is_empty(), "the real signer heard of it: {of_real:#?}");
    }
}

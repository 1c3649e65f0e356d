//! An incident, from its beginning to its end: what is captured, what survives a restart, and what is left.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use system_tests::{Fault, Proxy, World, journal};

use crate::ALICE;

/// `signctl incident begin` with what this proxy has; its exit status and what it said.
fn begin(proxy: &Proxy<'_>, out: &Path, more: &[&str]) -> (i32, Value) {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (directory, out) = (proxy.socket.parent().unwrap(), text(out));
    let config = text(&directory.join("signing-proxy.toml"));
    let signers = text(&directory.join("signers.json"));
    let metrics = format!("http://{}/metrics", proxy.metrics);
    let words = [
        &["incident", "begin", "--json", "--out", &out, "--config", &config][..],
        &["--signers", &signers, "--metrics-url", &metrics, "--reason", "it fails"],
        more,
    ]
    .concat();
    let (code, said, errors) = proxy.signctl(&words);
    (code, serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{errors}")))
}

async fn status(proxy: &Proxy<'_>) -> Value {
    proxy.admin("GET", "/v1/incident", Value::Null).await.body
}

fn records(proxy: &Proxy<'_>, kind: &str) -> Vec<Value> {
    let lines = journal::read(&proxy.socket.with_file_name("journal"), kind);
    lines.into_iter().map(|line| line["record"]["data"].clone()).collect()
}

#[tokio::test]
async fn an_incident_freezes_captures_survives_a_restart_and_ends_when_nothing_is_left() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let proxy = builder.clone().start().await;
    let out = world.scratch.path("bundle");
    let (code, said) = begin(&proxy, &out, &["--id", "INC-42"]);
    assert_eq!(code, 0, "{said}");
    assert!(said["freeze"].as_str().unwrap().starts_with("frozen (freeze "), "{said}");
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.reason(), "frozen");

    // Anyone can check the bundle, and its list is the one in the journal.
    let checked = Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(&out).output();
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{checked:?}");
    let names = String::from_utf8(checked.stdout).unwrap();
    for name in [
        "incident.json",
        "status.json",
        "doctor.json",
        "metrics.txt",
        "signing-proxy.toml",
        "journal.jsonl",
        "journal.verified.json",
    ] {
        assert!(names.contains(&format!("{name}: OK")), "{names}");
    }
    let captured = &records(&proxy, "incident_captured")[0];
    assert_eq!((&captured["incident"], &captured["sha256"]), (&json!("INC-42"), &said["sha256"]));
    let lines = std::fs::read_to_string(out.join("journal.jsonl")).unwrap();
    assert!(lines.contains("incident_begun"), "{lines}");

    // A second one does not begin beside it; the same one is captured again.
    let (code, _, errors) =
        proxy.signctl(&["incident", "begin", "--id", "INC-43", "--reason", "x", "--no-freeze"]);
    assert!(code == 1 && errors.contains("INC-42 is open"), "{errors}");
    let (code, again) = begin(&proxy, &world.scratch.path("again"), &["--id", "INC-42"]);
    assert_eq!((code, &again["freeze"]), (0, &json!("frozen already")), "{again}");

    // It is open over a restart, and so is what was captured.
    proxy.stop().await;
    let proxy = builder.clone().start_shut().await;
    let open = status(&proxy).await["open"].clone();
    assert_eq!(
        (&open["incident"], &open["captured"]),
        (&json!("INC-42"), &again["sha256"]),
        "{open}"
    );
    let (_, words, _) = proxy.signctl(&["status"]);
    assert!(words.contains("INCIDENT INC-42 since "), "{words}");

    // Frozen still, so it does not end, unless somebody says so.
    let (code, said, _) = proxy.signctl(&["incident", "end", "--reason", "well"]);
    assert!(code == 1 && said.contains("5.4") && said.contains("later: signctl recover"), "{said}");
    proxy.admin("POST", "/v1/unfreeze", json!({"reason": "well"})).await;
    proxy.healthy().await;
    // Nor while credentials and verification are nobody's.
    let (code, said, _) = proxy.signctl(&["incident", "end", "--reason", "well"]);
    assert!(code == 1 && said.contains("5.2  OPEN") && said.contains("5.3  OPEN"), "{said}");
    for section in ["5.2", "5.3"] {
        let done = json!({"section": section, "detail": "alice", "done": true});
        assert_eq!(proxy.admin("POST", "/v1/incident/item", done).await.status, 200);
    }
    let (code, said, errors) = proxy.signctl(&["incident", "end", "--reason", "well"]);
    assert_eq!(code, 0, "{said}{errors}");
    let ended = &records(&proxy, "incident_ended")[0];
    assert_eq!((&ended["left"], &ended["reason"]), (&json!([]), &json!("well")), "{ended}");
    assert_eq!(status(&proxy).await["open"], Value::Null);
    let (code, said, _) = proxy.signctl(&["incident", "end", "--reason", "well"]);
    assert!(code == 1 && said.contains("no incident is open"), "{said}");
    proxy.stop().await;
    let proxy = builder.start().await;
    assert_eq!(status(&proxy).await["open"], Value::Null);
}

#[tokio::test]
async fn what_cannot_be_captured_is_said_and_the_rest_is_captured() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let out = world.scratch.path("bundle");
    let nowhere = ["--id", "INC-1", "--no-freeze", "--config", "/nowhere/x.toml"];
    let (code, said) = begin(&proxy, &out, &nowhere[..3]);
    assert_eq!(code, 0, "{said}");
    let out = world.scratch.path("other");
    let words = [
        &["incident", "begin", "--reason", "why", "--out", out.to_str().unwrap()][..],
        &nowhere,
        &["--metrics-url", "http://127.0.0.1:1/metrics"],
    ]
    .concat();
    let (code, said, _) = proxy.signctl(&words);
    assert_eq!(code, 1, "{said}");
    for (part, flag) in [
        ("NOT CAPTURED: metrics: ", "--metrics-url URL"),
        ("NOT CAPTURED: configuration: /nowhere/x.toml", "--config FILE"),
    ] {
        let line = said.lines().find(|line| line.starts_with(part));
        let fix = format!("; {flag} names another place");
        assert!(line.is_some_and(|line| line.ends_with(&fix)), "{fix}: {said}");
    }
    assert!(out.join("status.json").exists() && out.join("SHA256SUMS").exists());
    // The runbook says so too, also to whoever did not see that command, and with the one that captures it.
    let (_, said, _) = proxy.signctl(&["incident", "status"]);
    let row = said.lines().find(|row| row.starts_with("2.4 ")).unwrap_or_else(|| panic!("{said}"));
    for words in [
        "OPEN",
        "the newest bundle lacks configuration, metrics; ",
        "signctl incident begin --id INC-1 --no-freeze --reason TEXT",
    ] {
        assert!(row.contains(words), "{words}: {row}");
    }
    let captured = &records(&proxy, "incident_captured")[1];
    assert_eq!(captured["missing"], json!(["configuration", "metrics"]), "{captured}");
    let (code, said) = begin(&proxy, &world.scratch.path("whole"), &nowhere[..3]);
    assert_eq!(code, 0, "{said}");
    let open = status(&proxy).await["open"].clone();
    assert_eq!((&open["captured"], &open["missing"]), (&said["sha256"], &Value::Null), "{open}");
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
}

#[tokio::test]
async fn a_bundle_holds_no_secret_of_a_configuration_and_waits_for_no_source_that_hangs() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let config = world.scratch.path("planted.toml");
    let planted =
        "# token: hunter2\npassword = 'hunter2'\nurl = 'https://u:hunter2@kms/'\nkept = 'kms'\n";
    std::fs::write(&config, planted).unwrap();
    let hangs = world.scratch.path("hangs");
    assert!(Command::new("mkfifo").arg(&hangs).status().unwrap().success());
    let out = world.scratch.path("bundle");
    let words = ["--id", "INC-1", "--within", "8", "--config", config.to_str().unwrap()];
    let socket = proxy.socket.to_str().unwrap();
    let (code, said, errors) = proxy.signctl(
        &[
            &["incident", "begin", "--reason", "why", "--out", out.to_str().unwrap()][..],
            &["--metrics-url", &format!("http://{}/metrics", proxy.metrics)],
            &["--signers", hangs.to_str().unwrap(), "--socket", socket],
            &words,
        ]
        .concat(),
    );
    // A registry that nobody writes is waited for, and the journal is left out.
    assert!(code == 1 && said.contains("NOT CAPTURED: journal: it did not come within "), "{said}");
    assert!(errors.contains("INC-1: frozen (freeze "), "{errors}");
    let copied = std::fs::read_to_string(out.join("signing-proxy.toml")).unwrap();
    assert!(copied.contains("kept = 'kms'") && copied.contains("(redacted)"), "{copied}");
    for file in std::fs::read_dir(&out).unwrap() {
        let file = file.unwrap().path();
        let bytes = std::fs::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("hunter2"), "{}", file.display());
    }
    let listed = std::fs::read_to_string(out.join("SHA256SUMS")).unwrap();
    assert!(listed.contains("  status.json\n") && !listed.contains("journal.jsonl"), "{listed}");
}

#[tokio::test]
async fn a_proxy_that_is_gone_leaves_the_rest_to_be_captured() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let out = world.scratch.path("bundle");
    let nobody = world.scratch.path("nobody.sock");
    let journal = proxy.socket.with_file_name("journal");
    let more = ["--id", "INC-1", "--socket", nobody.to_str().unwrap()];
    let (code, said) =
        begin(&proxy, &out, &[&more[..], &["--journal", journal.to_str().unwrap()]].concat());
    assert_eq!((code, &said["recorded"]), (1, &json!(false)), "{said}");
    for (part, why) in [("freeze", "NOT FROZEN"), ("begun", "NOT BEGUN")] {
        assert!(said[part].as_str().unwrap().starts_with(why), "{said}");
    }
    assert!(out.join("journal.jsonl").exists() && out.join("metrics.txt").exists(), "{said}");
    assert!(!out.join("status.json").exists());
}

#[tokio::test]
async fn the_checklist_names_what_is_out_and_an_unfinished_end_is_recorded() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let begun = json!({"incident": "INC-1", "reason": "it fails"});
    let begun = proxy.admin("POST", "/v1/incident/begin", begun).await;
    assert_eq!(begun.status, 200, "{}", begun.text);
    key.break_with(Fault::Bare503);
    proxy.unhealthy_for("upstream_unhealthy").await;
    let (code, said, _) = proxy.signctl(&["incident", "status"]);
    assert!(code == 1 && said.contains("full outage: ec not well"), "{said}");
    for row in ["2.1  OPEN", "2.2  ask", "2.4  OPEN", "5.1  OPEN"] {
        assert!(said.contains(row), "{said}");
    }
    let (code, said, errors) =
        proxy.signctl(&["incident", "end", "--reason", "false alarm", "--unfinished"]);
    assert_eq!(code, 0, "{said}{errors}");
    let ended = &records(&proxy, "incident_ended")[0];
    assert_eq!(ended["left"], json!(["2.1", "2.4", "5.1", "5.2", "5.3", "5.4"]), "{ended}");
}

#[tokio::test]
async fn an_incident_is_named_in_a_way_that_fits_a_file_and_a_bundle_by_its_sha256() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    for (path, body) in [
        ("begin", json!({"incident": "../x", "reason": "why"})),
        ("begin", json!({"incident": "INC-1", "reason": "two\nlines"})),
        ("captured", json!({"incident": "INC-1", "sha256": "00"})),
        ("captured", json!({"incident": "INC-1", "sha256": "0".repeat(64), "missing": ["x"]})),
        ("end", json!({"reason": ""})),
    ] {
        let answer = proxy.admin("POST", &format!("/v1/incident/{path}"), body.clone()).await;
        assert_eq!((answer.status, answer.reason()), (400, "invalid_request"), "{path} {body}");
    }
    let none = json!({"incident": "INC-1", "sha256": "0".repeat(64)});
    let answer = proxy.admin("POST", "/v1/incident/captured", none).await;
    assert_eq!(answer.status, 409, "{}", answer.text);
}

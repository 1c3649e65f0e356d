//! Where a webhook begins, and what is kept of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use system_tests::postgres::Postgres;
use system_tests::trail::Trail;
use system_tests::{Kind, Manner, Receiver, World, eventually};

use super::{KEY_FILE, comes, events, journal_of, json_at, words};
use crate::ALICE;

#[tokio::test]
async fn a_new_webhook_is_told_of_what_comes_and_knows_what_is_in_force() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world.proxy().signer("payments", &key).caller(ALICE, &["payments"]).start().await;
    let postgres = Postgres::start().await;
    let registry = world.scratch.path("proxy/signers.json");
    let fleet_of = |reason: &str| json!({"reason": reason});
    assert_eq!(proxy.admin("POST", "/v1/freeze", fleet_of("before it")).await.status, 200);
    let receiver = Receiver::start();
    receiver.set(Manner::Answer(503, String::new()));
    let mut trail = Trail::new(&[("proxy", &journal_of(&world))], &registry, &postgres).webhook(
        "ops",
        &json_at(&receiver.url("/")),
        &[KEY_FILE],
    );
    trail.start();
    let file = trail.path("state/ops.json");
    let state = eventually("a place", || async {
        let text = fs::read_to_string(&file).ok()?;
        text.contains("signing-proxy").then_some(text)
    })
    .await;
    assert!(!state.contains("hook") && !state.contains("whsec_"), "{state}");
    // Told although nobody could be told when it happened.
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", fleet_of("after it")).await.status, 200);
    trail.kill().await;
    receiver.mend();
    trail.start();
    let found = comes(&receiver, "unfrozen").await;
    assert!(!words(&found).contains(&"frozen"), "{:?}", words(&found));
    assert_eq!(words(&found)[0], "notifications_begun");
    let after = found.iter().find(|event| event["event"] == "unfrozen").unwrap();
    assert_eq!(after["data"]["frozen"], false);
    assert_eq!(after["data"]["reason"], "after it");
}

#[tokio::test]
async fn one_process_keeps_the_state_and_a_damaged_one_is_never_guessed_at() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world.proxy().signer("payments", &key).caller(ALICE, &["payments"]).start().await;
    let postgres = Postgres::start().await;
    let registry = world.scratch.path("proxy/signers.json");
    let receiver = Receiver::start();
    let mut trail = Trail::new(&[("proxy", &journal_of(&world))], &registry, &postgres).webhook(
        "ops",
        &json_at(&receiver.url("/")),
        &[KEY_FILE],
    );
    trail.start();
    comes(&receiver, "notifications_begun").await;
    let second = trail.verb("serve").output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another signing-trail uses this directory"), "{said}");
    trail.kill().await;

    let file = trail.path("state/ops.json");
    let whole = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0, "for its owner only");
    for damaged in [
        "",
        "{}",
        "[]",
        &whole[..whole.len() / 2],
        &whole.replace("\"version\":1", "\"version\":2"),
    ] {
        fs::write(&file, damaged).unwrap();
        trail.start();
        trail.process().says("the state of a webhook cannot be kept").await;
        // The rows go on.
        trail.holds("signing-proxy", 1).await;
        let (output, status) = trail.status().await;
        assert_eq!(output.status.code(), Some(1), "{status}");
        let trouble = status["notifications"][0]["trouble"].as_str().unwrap();
        assert!(trouble.contains("remove the file"), "{trouble}");
        trail.kill().await;
        assert_eq!(fs::read_to_string(&file).unwrap(), damaged, "it is kept for a person");
    }
    fs::write(&file, &whole).unwrap();
    let before = events(&receiver).len();
    trail.start();
    let body = json!({"reason": "r"});
    assert_eq!(proxy.admin("POST", "/v1/freeze", body).await.status, 200);
    let found = comes(&receiver, "frozen").await;
    let begun = words(&found).iter().filter(|word| **word == "notifications_begun").count();
    assert_eq!((begun, found.len() > before), (1, true));
}

//! A disk that hangs while a session is in force: whoever asked for what is on it waits, and nobody else does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use system_tests::breakglass::{EMERGENCY_KID, Signer, Wire};
use system_tests::{Hang, Tail, eventually};

use super::hostile::operator;
use super::session::{checked, session_ended};
use super::{KID, Site};

/// A session is in force, and its signatures are answered.
async fn signs(proxy: &mut Wire, session: &str) {
    let answer = proxy.sign(session, KID, b"meanwhile").await;
    assert!(answer["signed"].is_object(), "{answer}");
}

/// An operator of the signer ends the session, and its proxy hears so.
async fn ends(signer: &Signer<'_>, proxy: &mut Wire) {
    let (ended, said) = operator(signer, &["end", "--reason", "over"]).await;
    assert!(ended, "{said}");
    assert_eq!(session_ended(proxy).await["reason"], "operator");
}

async fn state(proxy: &mut Wire) -> Value {
    proxy.ask(json!({"status": {}})).await["status"]["state"].clone()
}

#[tokio::test]
async fn i8_a_hanging_disk_of_the_tree_holds_up_no_signature_and_no_end_and_is_waited_for() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let session = signer.activated(&mut proxy, &signer.request()).await;
    let nodes = signer.builder.path("state/tree-nodes");
    eventually("nodes on disk", || {
        std::future::ready((nodes.metadata().unwrap().len() > 64).then_some(()))
    })
    .await;
    let log = state(&mut proxy).await["head"]["log"].clone();
    let extend = || json!({"extend": {"log": log, "size": 1}});
    let hang = Hang::of(signer.process.pid(), "pread64", &nodes).await;
    let waits = proxy.send(extend()).await;
    // A proxy that is gone meanwhile leaves nothing behind.
    let mut gone = signer.connect().await;
    gone.send(extend()).await;
    drop(gone);
    signs(&mut proxy, &session).await;
    assert_eq!(state(&mut proxy).await["session"]["session"], session);
    ends(&signer, &mut proxy).await;
    let mut another = signer.connect().await;
    let waits_too = another.send(extend()).await;
    drop(hang);
    for (mut proxy, id) in [(proxy, waits), (another, waits_too)] {
        let extends = proxy.next().await.unwrap()["extends"].clone();
        assert_eq!(extends["id"], json!(id), "{extends}");
        let path = extends["hashes"].as_array();
        assert!(path.is_some_and(|path| !path.is_empty()), "time makes it no path: {extends}");
    }
}

#[tokio::test]
async fn i8_a_hanging_disk_of_a_key_holds_up_no_signature_and_no_end_and_is_told() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let session = signer.activated(&mut proxy, &signer.request()).await;
    let file = signer.builder.path("emergency.pem");
    let hang = Hang::of(signer.process.pid(), "openat", &file).await;
    proxy.send(json!({"status": {}})).await;
    signs(&mut proxy, &session).await;
    // Its key is open already.
    let open = state(&mut proxy).await;
    assert_eq!(open["keys"][0]["state"], "open", "{open}");
    ends(&signer, &mut proxy).await;
    let unknown = state(&mut proxy).await;
    assert_eq!(unknown["keys"][0]["state"], "missing", "{unknown}");
    let why = unknown["cannot_arm"][0].as_str().unwrap_or_default();
    assert!(why.contains("its disk has not answered"), "{unknown}");
    // A destruction waits for that disk, and the connection does not.
    let ask = json!({"emergency_kid": EMERGENCY_KID, "reason": "after", "by": "uid 0"});
    let destroy = proxy.send(json!({"destroy": ask})).await;
    assert_eq!(state(&mut proxy).await["keys"][0]["state"], "revoked");
    drop(hang);
    let done = proxy.next().await.unwrap();
    assert_eq!(done["destroyed"]["id"], json!(destroy), "{done}");
    assert_eq!(state(&mut proxy).await["keys"][0]["state"], "destroyed");
}

#[tokio::test]
async fn i8_a_key_whose_disk_hangs_says_nothing_of_the_other_keys() {
    let site = Site::new();
    let signer = site.signer().second_key().start().await;
    let mut proxy = signer.connect().await;
    let hang = Hang::of(signer.process.pid(), "openat", &signer.builder.path("second.pem")).await;
    has_keys(&mut proxy, ["sealed", "missing"]).await;
    let mut request = signer.request();
    request["replaces"] = json!([KID]);
    let session = signer.activated(&mut proxy, &request).await;
    signs(&mut proxy, &session).await;
    drop(hang);
    has_keys(&mut proxy, ["open", "sealed"]).await;
}

/// Waits until the two keys are so.
async fn has_keys(proxy: &mut Wire, expected: [&str; 2]) {
    let begin = Instant::now();
    loop {
        let state = state(proxy).await;
        let of = |kid| {
            let keys = state["keys"].as_array().unwrap();
            keys.iter().find(|key| key["kid"] == kid).unwrap()["state"].as_str().unwrap()
        };
        if [of(EMERGENCY_KID), of("second")] == expected {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{state}");
    }
}

/// More connections than a proxy may have.
const CONNECTIONS: usize = 12;

#[tokio::test]
async fn i8_proxies_that_go_while_a_destruction_hangs_keep_no_place() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    signer.activated(&mut proxy, &signer.request()).await;
    let end = || json!({"end": {"reason": "over", "by": "uid 0"}});
    assert!(proxy.ask(end()).await["ended"].is_object());
    let file = signer.builder.path("emergency.pem");
    let hang = Hang::of(signer.process.pid(), "?unlink,unlinkat", &file).await;
    for _ in 0..CONNECTIONS {
        let mut gone = signer.connect().await;
        let ask = json!({"emergency_kid": EMERGENCY_KID, "reason": "after", "by": "uid 0"});
        gone.send(json!({"destroy": ask})).await;
        // It was read.
        assert_eq!(gone.ask(end()).await["refused"]["reason"], "no_session");
    }
    // What began is finished, though whoever asked is gone; what had not begun left nothing.
    assert_eq!(state(&mut proxy).await["keys"][0]["state"], "revoked");
    drop(hang);
    eventually("it is destroyed", || std::future::ready((!file.exists()).then_some(()))).await;
    signer.process.says("an emergency key is destroyed").await;
    assert_eq!(state(&mut proxy).await["keys"][0]["state"], "destroyed");
    let found = checked(&signer, &[], Tail::Whole);
    assert_eq!(found["types"]["key_destroyed"], 1, "{found}");
}

#[tokio::test]
async fn i8_proxies_that_go_while_an_activation_hangs_keep_no_place_and_leave_no_session() {
    let site = Site::new();
    let signer = site.signer().start().await;
    signer.unlock().await;
    let ask = signer.activation(&signer.request());
    let hang = Hang::of(signer.process.pid(), "read", &signer.builder.path("emergency.pem")).await;
    for _ in 0..CONNECTIONS {
        let mut gone = signer.connect().await;
        gone.send(ask.clone()).await;
    }
    let mut proxy = signer.connect().await;
    let none = proxy.ask(json!({"end": {"reason": "over", "by": "uid 0"}})).await;
    assert_eq!(none["refused"]["reason"], "no_session", "{none}");
    drop(hang);
    // The one that began is over as it begins, and none of the others does.
    signer.process.says("a break-glass session is over, and its key wiped; destroy the key").await;
    assert!(state(&mut proxy).await["session"].is_null());
    let found = checked(&signer, &[], Tail::Whole);
    let count = |kind: &str| found["types"][kind].as_u64().unwrap_or(0);
    assert_eq!((count("session_activated"), count("session_ended")), (1, 1), "{found}");
}

//! The file of the freeze and the seals can add to what the journal tells, and take nothing away.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use serde_json::{Value, json};
use system_tests::{Fault, Key, Kind, Proxy, ProxyBuilder, World, eventually};

use crate::ALICE;
use crate::audit_tools::audit;

fn stored(world: &World) -> PathBuf {
    world.scratch.path("proxy/state/freeze-and-seals.json")
}

/// What it says as it ends, and whether it went well.
fn said(output: &Output) -> (bool, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn rebuild(builder: &ProxyBuilder<'_>, reason: &str) -> (bool, String) {
    let config = builder.write();
    said(&builder.verb("state rebuild", &config).args(["--reason", reason]).output().unwrap())
}

/// A proxy that froze and stopped.
async fn frozen<'w>(world: &'w World, key: &Key, reason: &str) -> ProxyBuilder<'w> {
    let builder = world.proxy().signer("ec", key).caller(ALICE, &["ec"]);
    let proxy = builder.clone().start().await;
    proxy.admin("POST", "/v1/freeze", json!({"reason": reason})).await;
    proxy.stop().await;
    builder
}

async fn refused(proxy: &Proxy<'_>) -> String {
    proxy.client(ALICE).await.sign_message("ec", b"hi").await.reason().to_owned()
}

/// The newest record of that kind.
fn newest(builder: &ProxyBuilder<'_>, kind: &str) -> Value {
    let (code, out, errors) =
        audit(&builder.journal(), &["--json", "tail", "--type", kind, "-n", "1"]);
    assert_eq!(code, 0, "{errors}");
    let line: Value = serde_json::from_str(out.trim()).unwrap();
    line["record"].clone()
}

#[tokio::test]
async fn i7_a_freeze_outlives_the_file_that_held_it() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = frozen(&world, &key, "INC-42").await;
    let (is_rebuilt, why) = rebuild(&builder, "no need");
    assert!(!is_rebuilt && why.contains("nothing to rebuild"), "{why}");

    // Without the file nothing starts, whoever removed it.
    fs::remove_file(stored(&world)).unwrap();
    let (starts, why) = said(&builder.command().output().unwrap());
    assert!(!starts && why.contains("state rebuild"), "{why}");
    let (is_rebuilt, why) = rebuild(&builder, "two\nlines");
    assert!(!is_rebuilt && why.contains("one line"), "{why}");
    let (is_rebuilt, told) = rebuild(&builder, "INC-43: the disk was replaced");
    assert!(is_rebuilt && told.contains("frozen"), "{told}");
    let proxy = builder.clone().start_shut().await;
    proxy.unhealthy_for("frozen").await;
    assert_eq!(refused(&proxy).await, "frozen");
    let status = proxy.admin("GET", "/v1/status", json!(null)).await;
    let reason = status.body["freeze"]["reason"].as_str().unwrap_or_else(|| panic!("{status:?}"));
    assert!(reason.contains("INC-43") && reason.contains("INC-42"), "{reason}");
    let start = newest(&builder, "start");
    assert!(start["data"]["freeze"]["reason"].as_str().unwrap().contains("INC-43"), "{start}");
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await.status, 200);
    proxy.healthy().await;
    proxy.stop().await;

    // An end that was recorded is one, also without the file; what made the file anew is another.
    fs::remove_file(stored(&world)).unwrap();
    assert!(rebuild(&builder, "again").0);
    let proxy = builder.clone().start_shut().await;
    proxy.unhealthy_for("frozen").await;
    let status = proxy.admin("GET", "/v1/status", json!(null)).await;
    assert!(!status.body["freeze"]["reason"].to_string().contains("INC-4"), "{status:?}");
}

#[tokio::test]
async fn i7_a_file_that_says_less_than_the_journal_frees_nothing() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let proxy = builder.clone().start().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    let before = fs::read(stored(&world)).unwrap();
    key.break_with(Fault::CorruptSignature);
    proxy.unhealthy_for("sealed").await;
    proxy.admin("POST", "/v1/freeze", json!({"reason": "INC-44"})).await;
    key.mend();
    proxy.stop().await;
    let witness = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
    // The file of yesterday, and one that a hand emptied.
    let now = witness(&fs::read(stored(&world)).unwrap());
    let mut emptied = now.clone();
    (emptied["freeze"], emptied["seals"]) = (json!(null), json!({}));
    for older in [witness(&before), emptied] {
        fs::write(stored(&world), older.to_string()).unwrap();
        let proxy = builder.clone().start_shut().await;
        proxy.unhealthy_for("frozen").await;
        let status = proxy.admin("GET", "/v1/status", json!(null)).await;
        assert_eq!(status.body["freeze"]["reason"], "INC-44", "{status:?}");
        assert_eq!(status.body["signers"][0]["state"], "sealed", "{status:?}");
        proxy.stop().await;
    }
    let proxy = builder.clone().start_shut().await;
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await.status, 200);
    proxy.unhealthy_for("sealed").await;
    let unsealed = json!({"signer_kid": "ec", "reason": "it was a drill"});
    assert_eq!(proxy.admin("POST", "/v1/unseal", unsealed).await.status, 200);
    proxy.healthy().await;
    proxy.stop().await;
    let start = newest(&builder, "start");
    assert_eq!(start["data"]["freeze"]["reason"], "INC-44", "{start}");
    builder.clone().start().await.stop().await;
    let start = newest(&builder, "start");
    assert_eq!((&start["data"]["freeze"], &start["data"]["seals"]), (&json!(null), &json!([])));
}

#[tokio::test]
async fn a_new_journal_ends_no_freeze_and_a_damaged_file_is_kept() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = frozen(&world, &key, "INC-45").await;
    fs::rename(builder.journal(), world.scratch.path("proxy/old-journal")).unwrap();
    // `command` makes the journal.
    let proxy = builder.clone().start_shut().await;
    proxy.unhealthy_for("frozen").await;
    proxy.stop().await;
    fs::write(stored(&world), "{\"freeze\": nul").unwrap();
    let (is_rebuilt, told) = rebuild(&builder, "INC-46");
    assert!(is_rebuilt, "{told}");
    let aside = stored(&world).with_file_name("freeze-and-seals.json.aside-1");
    assert!(told.contains(aside.to_str().unwrap()), "{told}");
    assert_eq!(fs::read_to_string(aside).unwrap(), "{\"freeze\": nul");
}

#[tokio::test]
async fn an_end_that_was_recorded_and_could_not_be_stored_is_none() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = frozen(&world, &key, "INC-47").await;
    let proxy = builder.clone().start_shut().await;
    proxy.unhealthy_for("frozen").await;
    // A directory that is not empty lets no file take its place.
    // The proxy may be storing how far its journal is.
    eventually("a directory in place of the file", || {
        let _ = fs::remove_file(stored(&world));
        std::future::ready(fs::create_dir_all(stored(&world).join("full")).ok())
    })
    .await;
    assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 1);
    assert_eq!(refused(&proxy).await, "frozen");
    proxy.stop().await;
    fs::remove_dir_all(stored(&world)).unwrap();
    let (is_rebuilt, told) = rebuild(&builder, "INC-48");
    assert!(is_rebuilt, "{told}");
    let proxy = builder.start_shut().await;
    let status = proxy.admin("GET", "/v1/status", json!(null)).await;
    assert!(status.body["freeze"]["reason"].as_str().unwrap().contains("INC-47"), "{status:?}");
}

//! The journal, through the whole proxy: every signature is on disk before it leaves, and
//! where none can be recorded nothing is signed.

use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use signing_core::journal::{Frame, Outline};
use system_tests::{
    Client, Fault, Key, Kind, Profile, Protocol, Proxy, ProxyBuilder, World, eventually,
};

use crate::ALICE;

/// Every record in a journal: its type and its data.
fn records(journal: &Path) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for segment in audit::scan::segments(journal).unwrap() {
        let mut frames = audit::scan::Frames::open(&segment).unwrap();
        while let audit::scan::Step::Frame(_, frame) = frames.step().unwrap() {
            let Frame::Entry(entry) = frame else { continue };
            let (Outline { data, r#type, .. }, _) = Outline::parse(entry.body).unwrap();
            found.push((r#type, data));
        }
    }
    found
}

fn of_type<'r>(records: &'r [(String, Value)], word: &str) -> Vec<&'r Value> {
    records.iter().filter(|(r#type, _)| r#type == word).map(|(_, data)| data).collect()
}

fn builder<'w>(world: &'w World, key: &Key) -> ProxyBuilder<'w> {
    world.proxy().signer("ec", key).caller(ALICE, &["ec"])
}

async fn proxy(world: &World) -> Proxy<'_> {
    builder(world, &world.kms.key(Kind::P256)).start().await
}

#[tokio::test]
async fn i6_a_signature_is_in_the_journal_that_its_receipt_names() {
    let world = World::new();
    let proxy = proxy(&world).await;
    let alice = proxy.client(ALICE).await;
    let body = json!({"message": "aGk=", "justification": "order 4711"});
    let answer = alice.post("/v1/sign", &body).await;
    let receipt = &answer.body["audit"];
    let records = records(&world.proxy().journal());
    let seq = usize::try_from(receipt["seq"].as_u64().unwrap()).unwrap();
    let (word, signed) = &records[seq - 1];
    assert_eq!(word, "signed");
    assert_eq!(signed["caller"], ALICE);
    assert_eq!(signed["signer_kid"], "ec");
    assert_eq!(signed["algorithm"], "ECDSA_SHA_256");
    assert_eq!(signed["signature"], answer.body["signature"]);
    assert_eq!(signed["request_id"], answer.body["request_id"]);
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"hi");
    assert_eq!(signed["input_digest"], format!("sha256:{}", hex::encode(sha256)));
    let intent = usize::try_from(signed["intent"].as_u64().unwrap()).unwrap();
    assert!(intent < seq, "the intent comes first");
    let (word, intent) = &records[intent - 1];
    assert_eq!((word.as_str(), &intent["justification"]), ("intent", &json!("order 4711")));
    let status = proxy.admin("GET", "/v1/status", Value::Null).await.body;
    assert_eq!(status["audit"]["log"], receipt["log"]);
}

#[tokio::test]
async fn what_changes_whether_it_signs_is_recorded_with_who_did_it() {
    let world = World::new();
    let proxy = proxy(&world).await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(proxy.admin("POST", "/v1/freeze", json!({"reason": "INC-9"})).await.status, 200);
    assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "frozen");
    assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "frozen");
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await.status, 200);
    let reloaded = proxy.admin("POST", "/v1/reload", json!({})).await;
    assert_eq!(reloaded.status, 200, "{reloaded:?}");
    proxy.stop().await;
    let records = records(&world.proxy().journal());
    let words: Vec<_> = records.iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(words.first().copied(), Some("init"));
    assert_eq!(words[1], "start");
    assert_eq!(words.last().copied(), Some("stop"));
    let [frozen] = of_type(&records, "freeze")[..] else { panic!("{words:?}") };
    assert_eq!(frozen["reason"], "INC-9");
    assert!(frozen["by"].as_str().unwrap().starts_with("uid 0"), "{frozen}");
    let [unfrozen] = of_type(&records, "unfreeze")[..] else { panic!("{words:?}") };
    assert_eq!((&unfrozen["reason"], &unfrozen["by"]), (&json!("over"), &frozen["by"]));
    assert_eq!((&unfrozen["frozen_for"], &unfrozen["frozen_by"]), (&json!("INC-9"), &frozen["by"]));
    assert_eq!(of_type(&records, "reload").len(), 1);
    assert!(of_type(&records, "gate").iter().any(|gate| gate["to"] == "open"), "{words:?}");
    // Refusals are counted, not written one by one.
    let [refusals] = of_type(&records, "refusals")[..] else { panic!("{words:?}") };
    let refused = refusals["refused"].as_array().unwrap();
    let frozen = refused.iter().find(|refused| refused["reason"] == "frozen").unwrap();
    assert_eq!((&frozen["count"], &frozen["caller"]), (&json!(2), &json!(ALICE)));
}

#[tokio::test]
async fn an_intent_that_a_crash_left_open_is_concluded_as_indeterminate() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let mut proxy = builder(&world, &key).start().await;
    let alice = proxy.client(ALICE).await;
    key.break_with(Fault::Hold);
    let asking = tokio::spawn(async move { alice.sign_message("ec", b"hi").await });
    let journal = world.proxy().journal();
    let intents = || of_type(&records(&journal), "intent").len();
    eventually("the intent", || std::future::ready((intents() == 1).then_some(()))).await;
    proxy.process.signal(Signal::SIGKILL);
    let _ = proxy.process.ended().await;
    asking.abort();
    key.mend();

    let again = builder(&world, &key).start().await;
    let records = records(&journal);
    let starts = of_type(&records, "start");
    assert_eq!(starts.last().unwrap()["open_intents"], 1);
    let [failed] = of_type(&records, "failed")[..] else { panic!("{records:?}") };
    assert_eq!((&failed["reason"], &failed["caller"]), (&json!("indeterminate"), &json!(ALICE)));
    // What the KMS's own log is searched for.
    let intent = of_type(&records, "intent")[0];
    for name in ["attempt", "door", "region", "upstream"] {
        assert!(intent[name].is_string() && failed[name] == intent[name], "{name} of {failed}");
    }
    assert_eq!(again.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
}

#[tokio::test]
async fn i7_a_deleted_journal_is_never_replaced_silently() {
    let world = World::new();
    let builder = builder(&world, &world.kms.key(Kind::P256));
    builder.clone().start().await.stop().await;
    let config = builder.write();
    let journal = builder.journal();
    let moved = world.scratch.path("moved");
    std::fs::rename(&journal, &moved).unwrap();
    let refused = builder.verb("serve", &config).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("signing-proxy init"), "{said}");

    // A new one says which one it replaces.
    assert!(builder.verb("init", &config).output().unwrap().status.success());
    let records = records(&journal);
    assert!(records[0].1["replaces"].as_str().unwrap().contains(':'), "{records:?}");
    // A second init changes nothing.
    assert!(!builder.verb("init", &config).output().unwrap().status.success());

    // The old one, put back, is not the one that is known now.
    std::fs::remove_dir_all(&journal).unwrap();
    std::fs::rename(&moved, &journal).unwrap();
    let refused = builder.verb("serve", &config).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("bring the journal back"), "{said}");
}

#[tokio::test]
async fn a_journal_that_is_taken_away_seals_until_a_restart_and_an_operator() {
    let world = World::new();
    let builder = builder(&world, &world.kms.key(Kind::P256));
    let proxy = builder.clone().start().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    let (journal, aside) = (world.proxy().journal(), world.scratch.path("aside"));
    std::fs::rename(&journal, &aside).unwrap();
    let refused = alice.sign_message("ec", b"hi").await;
    assert_eq!((refused.status, refused.reason()), (503, "audit_unavailable"), "{refused:?}");
    proxy.unhealthy_for("audit_unavailable").await;
    proxy.audit_sealed().await;

    // Back in its place, it is not trusted again.
    std::fs::rename(&aside, &journal).unwrap();
    assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "audit_unavailable");
    let unseal = json!({"audit": true, "reason": "the mount is back, INC-9"});
    let refused = proxy.admin("POST", "/v1/unseal", unseal.clone()).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.body["note"].as_str().unwrap().contains("restart"), "{refused:?}");
    proxy.audit_seal_stored().await;
    drop(proxy);

    let again = builder.start_shut().await;
    again.unhealthy_for("audit_unavailable").await;
    let unsealed = again.admin("POST", "/v1/unseal", unseal).await;
    assert_eq!((unsealed.status, &unsealed.body["unsealed"]), (200, &json!(true)), "{unsealed:?}");
    again.healthy().await;
    assert_eq!(again.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    let records = records(&journal);
    let [unseal] = of_type(&records, "unseal")[..] else { panic!("{records:?}") };
    assert_eq!(unseal["reason"], "the mount is back, INC-9");
}

#[tokio::test]
async fn a_log_that_nobody_reads_or_can_write_to_holds_up_nothing() {
    let world = World::new();
    let mut child = builder(&world, &world.kms.key(Kind::P256))
        .command()
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = std::io::BufReader::new(child.stderr.take().unwrap());
    let serving = loop {
        let mut line = String::new();
        assert!(std::io::BufRead::read_line(&mut log, &mut line).unwrap() > 0, "it ended");
        let line: Value = serde_json::from_str(&line).unwrap_or_default();
        if line["message"] == "serving" {
            break line;
        }
    };
    drop(log); // whoever collects the log is gone
    let metrics = serving["metrics"].as_str().unwrap().to_owned();
    eventually("healthy", || async {
        (system_tests::client::plain(&metrics, "/health").await.status == 200).then_some(())
    })
    .await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let listen = serving["listen"].as_str().unwrap();
    let alice =
        Client::connect(listen, &world.pki.ca_pem, &certificate, Protocol::Http1).await.unwrap();
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

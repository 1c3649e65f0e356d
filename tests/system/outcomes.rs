//! Outcome lines: every signature has one before it leaves, and where none can be
//! written nothing is signed.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Stdio};

use serde_json::{Value, json};
use system_tests::{Client, Kind, Profile, Protocol, World};

use crate::ALICE;

fn outcomes(log: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "outcome").collect()
}

#[tokio::test]
async fn every_signature_has_its_line_whatever_the_log_level() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .environment(
            "RUST_LOG",
            "info,outcome=off,aws_smithy_runtime::client=trace,hyper_util=trace",
        )
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    let body = json!({"message": "aGk=", "justification": "order 4711"});
    let answer = alice.post("/v1/sign", &body).await;
    // Written before it left, though perhaps not yet read.
    let log = proxy.process.says(answer.body["request_id"].as_str().unwrap()).await;
    let lines = outcomes(&log);
    let line = lines.iter().find(|line| line["request_id"] == answer.body["request_id"]).unwrap();
    assert_eq!(line["outcome"], "signed");
    assert_eq!(line["caller"], ALICE);
    assert_eq!(line["signer_kid"], "ec");
    assert_eq!(line["justification"], "order 4711");
    let sha256 =
        |bytes: &[u8]| hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes));
    assert_eq!(line["input_digest"], format!("sha256:{}", sha256(b"hi")));
    assert_eq!(line["signature_sha256"], sha256(&answer.signature()));
    assert!(!log.contains(answer.body["signature"].as_str().unwrap()), "no signature in the log");
    assert!(!log.contains("TrentService"), "the SDK does not log requests, whatever is asked for");
}

/// A healthy proxy whose log the test itself holds, with the address of its metrics
/// and a client.
async fn with_its_log(world: &World) -> (Child, BufReader<ChildStderr>, String, Client) {
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]);
    let mut child = builder.command().stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let serving = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
        let line: Value = serde_json::from_str(&line).unwrap_or_default();
        if line["message"] == "serving" {
            break line;
        }
    };
    let metrics = serving["metrics"].as_str().unwrap().to_owned();
    system_tests::eventually("healthy", || async {
        (system_tests::client::plain(&metrics, "/health").await.status == 200).then_some(())
    })
    .await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let listen = serving["listen"].as_str().unwrap();
    let alice =
        Client::connect(listen, &world.pki.ca_pem, &certificate, Protocol::Http1).await.unwrap();
    (child, log, metrics, alice)
}

#[tokio::test]
async fn a_log_that_nobody_can_write_to_stops_signing_and_nothing_else() {
    let world = World::new();
    let (mut child, log, _, alice) = with_its_log(&world).await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    drop(log); // whoever collects the log is gone
    let refused = alice.sign_message("ec", b"hi").await;
    assert_eq!((refused.status, refused.reason()), (503, "audit_unavailable"), "{refused:?}");
    // An operator is still heard, and a freeze still survives.
    let socket = world.scratch.path("proxy/admin.sock");
    let frozen =
        system_tests::client::admin(&socket, "POST", "/v1/freeze", json!({"reason": "INC-9"}))
            .await;
    assert_eq!(frozen.status, 200, "{frozen:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    let stored = std::fs::read_to_string(world.scratch.path("proxy/state/freeze-and-seals.json"));
    assert!(stored.unwrap().contains("INC-9"));
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_signing_until_somebody_does_and_no_line_is_torn() {
    let world = World::new();
    let (mut child, log, metrics, alice) = with_its_log(&world).await;
    let mut signed = 0;
    let refused = loop {
        let answer = alice.sign_message("ec", b"hi").await;
        if answer.status != 200 {
            break answer;
        }
        signed += 1;
        assert!(signed < 10_000, "a pipe takes no end of lines");
    };
    assert_eq!((refused.status, refused.reason()), (503, "audit_unavailable"), "{refused:?}");
    assert_eq!(system_tests::client::plain(&metrics, "/livez").await.status, 200);

    let reading = std::thread::spawn(move || log.lines().collect::<Result<Vec<_>, _>>().unwrap());
    system_tests::eventually("signing again", || async {
        (alice.sign_message("ec", b"hi").await.status == 200).then_some(())
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    let lines: Vec<Value> =
        reading.join().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes = lines.iter().filter(|line| line["outcome"] == "signed").count();
    assert!(outcomes > signed, "{outcomes} lines of more than {signed} signatures");
}

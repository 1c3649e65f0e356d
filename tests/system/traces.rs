//! A caller's trace is found wherever its request is named: in the journal, and in the log.

use http::Method;
use serde_json::{Value, json};
use system_tests::journal::read;
use system_tests::{Fault, Kind, Operation, World, eventually};

use crate::ALICE;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_trace_stands_beside_the_request_id_in_the_journal_and_in_the_log() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy =
        world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let client = proxy.client(ALICE).await;
    let asked = async |id: &str, trace: &str, deadline_ms: &str, kid: &str| {
        let headers = [
            ("content-type", "application/json"),
            ("x-request-id", id),
            ("traceparent", trace),
            ("signing-deadline-ms", deadline_ms),
        ];
        let body = json!({"signer_kid": kid, "message": "aGk="}).to_string();
        client.send(Method::POST, "/v1/sign", &headers, body).await.unwrap()
    };
    assert_eq!(asked("signed", TRACE, "4000", "ec").await.status, 200);
    assert_eq!(asked("refused", TRACE, "4000", "unknown").await.status, 404);
    // Its answer comes after its client was told that nobody knows.
    key.set(Operation::Sign, Fault::Hold);
    assert_eq!(asked("late", TRACE, "300", "ec").await.status, 504);
    key.mend();
    let logged = async |id: &str| -> Value {
        eventually(&format!("the log to name {id}"), || async {
            let output = proxy.process.output();
            let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.into_iter().find(|line| line["request_id"] == id)
        })
        .await
    };
    let refused = logged("refused").await;
    assert_eq!((&refused["target"], &refused["traceparent"]), (&json!("refusal"), &json!(TRACE)));
    assert_eq!(refused["title"], "No such signer");
    // A signer is named once it is known, and never in the caller's words.
    assert_eq!(refused.get("signer_kid"), None);
    let late = eventually("the late answer", || async {
        let output = proxy.process.output();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| line["outcome"] == "not_delivered")
    })
    .await;
    assert_eq!((&late["request_id"], &late["traceparent"]), (&json!("late"), &json!(TRACE)));
    // What is no trace is written nowhere: at most one line a second, so until it is there.
    let frozen = proxy.admin("POST", "/v1/freeze", json!({"reason": "a trial"})).await;
    assert_eq!(frozen.status, 200);
    eventually("a refusal without a trace", || async {
        let id = "mistaken";
        assert_eq!(asked(id, "00-forged", "4000", "ec").await.status, 503);
        proxy.process.output().contains(id).then_some(())
    })
    .await;
    let mistaken = logged("mistaken").await;
    assert_eq!((mistaken.get("traceparent"), &mistaken["signer_kid"]), (None, &json!("ec")));
    proxy.stop().await;
    let intents = read(&world.scratch.path("proxy/journal"), "intent");
    let traced: Vec<_> = intents.iter().map(|intent| &intent["record"]["data"]).collect();
    let traced: Vec<_> =
        traced.iter().map(|intent| (&intent["request_id"], &intent["traceparent"])).collect();
    assert_eq!(
        traced,
        [(&json!("signed"), &json!(TRACE)), (&json!("late"), &json!(TRACE))],
        "{intents:#?}"
    );
}

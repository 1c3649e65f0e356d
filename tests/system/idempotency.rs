//! `Idempotency-Key`: asked again, the same signature, without asking the upstream.

use http::Method;
use serde_json::json;
use system_tests::{Answer, Client, Fault, Kind, Operation, World, eventually};

use crate::ALICE;
use crate::breakglass::records;

async fn sign(client: &Client, key: &str, kid: &str, message: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let body = json!({"signer_kid": kid, "message": message}).to_string();
    client.send(Method::POST, "/v1/sign", &headers, body).await.unwrap()
}

#[tokio::test]
async fn the_same_key_and_input_get_the_same_signature_from_one_call() {
    let world = World::new();
    let (ec, other) = (world.kms.key(Kind::P256), world.kms.key(Kind::P256));
    let proxy = world
        .proxy()
        .rare_canaries()
        .signer("ec", &ec)
        .signer("other", &other)
        .caller(ALICE, &["ec", "other"])
        .caller("bob.example", &["ec"])
        .start()
        .await;
    let (alice, bob) = (proxy.client(ALICE).await, proxy.client("bob.example").await);
    let calls = ec.calls(Operation::Sign);
    let first = sign(&alice, "order-1", "ec", "aGk=").await;
    let again = sign(&proxy.http2_client(ALICE).await, "order-1", "ec", "aGk=").await;
    assert_eq!((first.status, again.status), (200, 200), "{again:?}");
    // ECDSA signatures are random: the same one twice was made once.
    assert_eq!(first.signature(), again.signature());
    assert_eq!(ec.calls(Operation::Sign) - calls, 1);
    for (case, conflict) in [
        ("other input", sign(&alice, "order-1", "ec", "eW8=").await),
        ("another signer", sign(&alice, "order-1", "other", "aGk=").await),
    ] {
        assert_eq!((conflict.status, conflict.reason()), (409, "idempotency_conflict"), "{case}");
    }
    for (case, fresh) in [
        ("another key", sign(&alice, "order-2", "ec", "aGk=").await),
        ("another caller", sign(&bob, "order-1", "ec", "aGk=").await),
        ("no key", alice.sign_message("ec", b"hi").await),
    ] {
        assert_eq!(fresh.status, 200, "{case}");
        assert_ne!(fresh.signature(), first.signature(), "{case}");
    }
    for bad in ["", "with space", &"x".repeat(129)] {
        assert_eq!(sign(&alice, bad, "ec", "aGk=").await.reason(), "invalid_request", "{bad:?}");
    }
}

#[tokio::test]
async fn a_replay_passes_the_gate_again_and_never_crosses_a_seal() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy =
        world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    let first = sign(&alice, "order-1", "ec", "aGk=").await;
    assert_eq!(proxy.admin("POST", "/v1/freeze", json!({"reason": "x"})).await.status, 200);
    assert_eq!(sign(&alice, "order-1", "ec", "aGk=").await.reason(), "frozen");
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await.status, 200);
    let again = sign(&alice, "order-1", "ec", "aGk=").await;
    assert_eq!(again.signature(), first.signature(), "a freeze is no reason to forget");
    key.break_with(Fault::CorruptSignature);
    assert_eq!(sign(&alice, "order-2", "ec", "aGk=").await.reason(), "signature_rejected");
    proxy.unhealthy_for("sealed").await;
    assert_eq!(sign(&alice, "order-1", "ec", "aGk=").await.reason(), "sealed");
    key.mend();
    assert_eq!(proxy.signctl(&["unseal", "ec", "--reason", "checked"]).0, 0);
    proxy.healthy().await;
    let after = sign(&alice, "order-1", "ec", "aGk=").await;
    assert_eq!(after.status, 200);
    assert_ne!(
        after.signature(),
        first.signature(),
        "what was signed before the seal is forgotten"
    );
}

#[tokio::test]
async fn what_was_not_given_out_is_asked_anew_and_what_is_under_way_conflicts() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy =
        world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    key.break_with(Fault::NotJson);
    assert_eq!(sign(&alice, "order-1", "ec", "aGk=").await.reason(), "indeterminate");
    key.mend();
    assert_eq!(sign(&alice, "order-1", "ec", "aGk=").await.status, 200, "not kept: asked anew");
    key.break_with(Fault::Latency(std::time::Duration::from_millis(600)));
    let first = proxy.client(ALICE).await;
    let first = tokio::spawn(async move { sign(&first, "order-2", "ec", "aGk=").await });
    eventually("the first in flight", || async {
        (proxy.metric("signing_proxy_inflight_requests").await == Some(1.0)).then_some(())
    })
    .await;
    let second = sign(&alice, "order-2", "ec", "aGk=").await;
    assert_eq!((second.status, second.reason()), (409, "idempotency_conflict"), "{second:?}");
    let first = first.await.unwrap();
    assert_eq!(sign(&alice, "order-2", "ec", "aGk=").await.signature(), first.signature());
}

#[tokio::test]
async fn what_came_after_its_caller_was_told_that_nothing_did_is_withheld_and_not_kept() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy =
        world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    key.break_with(Fault::Latency(std::time::Duration::from_millis(600)));
    let body = json!({"signer_kid": "ec", "message": "aGk="});
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "order-1"),
        ("signing-deadline-ms", "100"),
    ];
    let told = alice.send(Method::POST, "/v1/sign", &headers, body.to_string()).await.unwrap();
    assert_eq!((told.status, told.reason()), (504, "indeterminate"), "{}", told.text);
    let journal = world.scratch.path("proxy/journal");
    let withheld = || records(&journal, "withheld");
    eventually("its record", || async { (withheld().len() == 1).then_some(()) }).await;
    assert_eq!(withheld()[0]["reason"], "indeterminate");
    key.mend();
    let withheld = records(&journal, "signed")[0]["signature"].clone();
    let again = sign(&alice, "order-1", "ec", "aGk=").await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert_ne!(withheld, again.body["signature"], "asked anew");
}

#[tokio::test]
async fn a_header_that_decides_something_and_is_there_twice_is_refused() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let json = ("content-type", "application/json");
    let body = r#"{"message": "aGk="}"#;
    for client in [proxy.client(ALICE).await, proxy.http2_client(ALICE).await] {
        for (name, values, status, reason) in [
            ("idempotency-key", ["a", "b"], 400, "invalid_request"),
            ("idempotency-key", ["a", "a"], 400, "invalid_request"),
            ("signing-deadline-ms", ["1", "5000"], 400, "invalid_request"),
            ("signing-receipt", ["proof", "proof"], 400, "invalid_request"),
            ("content-type", ["application/json", "text/plain"], 415, "unsupported_media_type"),
        ] {
            let twice = values.map(|value| (name, value));
            let one = if name == json.0 { vec![] } else { vec![json] };
            let headers = [&one[..], &twice].concat();
            let answer = client.send(http::Method::POST, "/v1/sign", &headers, body).await.unwrap();
            assert_eq!((answer.status, answer.reason()), (status, reason), "{name} {values:?}");
        }
    }
}

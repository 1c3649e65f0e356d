//! What records say of calls to upstreams, and what the upstream saw of the same calls.

use serde_json::{Value, json};
use system_tests::journal::read;
use system_tests::{Fault, Key, Kind, Kms, Operation, Received, World, eventually};

use crate::ALICE;
use crate::doctor::doctor;

/// How often the KMS was asked to sign with that key.
fn signs(key: &Key) -> usize {
    key.received().iter().filter(|call| call.operation == Operation::Sign).count()
}

/// That call, which has to be there once.
fn call(key: &Key, attempt: &str) -> Received {
    let received = key.received();
    let calls: Vec<_> = received.iter().filter(|call| call.attempt() == Some(attempt)).collect();
    let [call] = calls[..] else { panic!("{attempt}: {calls:?} of {received:?}") };
    let [user_agent, amazons] = &call.user_agents;
    assert_eq!(
        user_agent,
        &format!("signing-proxy/{} attempt/{attempt}", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(amazons, user_agent);
    call.clone()
}

/// The data of the records of that type.
fn data(world: &World, kind: &str) -> Vec<Value> {
    let records = read(&world.scratch.path("proxy/journal"), kind);
    records.iter().map(|record| record["record"]["data"].clone()).collect()
}

/// The calls of all `probes` records.
fn probes(world: &World) -> Vec<Value> {
    let records = data(world, "probes");
    records.iter().flat_map(|data| data["calls"].as_array().unwrap().clone()).collect()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} of {value}"))
}

#[tokio::test]
async fn a_record_names_the_call_that_the_kms_saw_whatever_came_of_it() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .rare_canaries()
        .kms("call_timeout_ms = 300\nconnect_timeout_ms = 100\nretries_per_second_max = 0")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    key.break_with(Fault::Error("ThrottlingException", 400));
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 503);
    key.break_with(Fault::Hang);
    assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "indeterminate");
    key.break_with(Fault::Bare503);
    key.name_answers("no id: \"of\" ours");
    assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "indeterminate");
    proxy.stop().await;

    let intents = data(&world, "intent");
    let signed = data(&world, "signed").remove(0);
    let failed = data(&world, "failed");
    let reasons: Vec<_> = failed.iter().map(|failed| text(failed, "reason")).collect();
    assert_eq!(reasons, ["upstream_throttled", "indeterminate", "indeterminate"]);
    for (at, (intent, outcome)) in
        intents.iter().zip([&signed].into_iter().chain(&failed)).enumerate()
    {
        let attempt = text(outcome, "attempt");
        assert_eq!(attempt, format!("{}-1", text(intent, "attempt")));
        for data in [intent, outcome] {
            assert_eq!((text(data, "upstream"), text(data, "region")), ("aws-kms", "eu-test-1"));
            assert_eq!(text(data, "door"), "mtls");
        }
        assert_eq!(outcome.get("earlier_attempts"), None);
        // Of a call that timed out the KMS's own log tells, by the attempt alone; and an id of
        // other characters than KMS's is no id.
        let seen = call(&key, attempt).request_id;
        let expected = (at < 2).then(|| json!(seen));
        assert_eq!(outcome.get("upstream_request_id"), expected.as_ref(), "{outcome}");
    }
}

#[tokio::test]
async fn each_call_of_a_request_has_its_own_attempt() {
    let (world, other) = (World::new(), Kms::start_in("eu-test-2"));
    let key = world.kms.key(Kind::P256);
    let replica = other.replica(&key);
    let proxy = world
        .proxy()
        .rare_canaries()
        .kms("retries_per_second_max = 1000")
        .signer("ec", &key)
        .replica("ec", &other, &replica)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    eventually("both are open", || async {
        (proxy.health().await.body["outage"] == "none").then_some(())
    })
    .await;
    key.break_with(Fault::Error("KMSInternalException", 500));
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    proxy.stop().await;

    let (intent, signed) = (data(&world, "intent").remove(0), data(&world, "signed").remove(0));
    let order = text(&intent, "attempt");
    assert_eq!(text(&intent, "region"), "eu-test-1");
    let (first, second) =
        (call(&key, &format!("{order}-1")), call(&replica, &format!("{order}-2")));
    assert_eq!(text(&signed, "attempt"), format!("{order}-2"));
    assert_eq!(text(&signed, "region"), "eu-test-2");
    assert_eq!(text(&signed, "upstream_request_id"), second.request_id);
    assert_eq!(
        signed["earlier_attempts"],
        json!([{
            "attempt": format!("{order}-1"), "reason": "unavailable", "region": "eu-test-1",
            "upstream": "aws-kms", "upstream_request_id": first.request_id,
        }])
    );
}

#[tokio::test]
async fn the_same_upstream_is_asked_again_under_another_attempt() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .rare_canaries()
        .kms("retries_per_second_max = 1000")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    key.break_with(Fault::Error("KMSInternalException", 500));
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 503);
    proxy.stop().await;
    let failed = data(&world, "failed").remove(0);
    let order = text(&data(&world, "intent")[0], "attempt").to_owned();
    assert_eq!(text(&failed, "attempt"), format!("{order}-2"));
    assert_eq!(failed["earlier_attempts"][0]["attempt"], format!("{order}-1"));
    for number in [1, 2] {
        call(&key, &format!("{order}-{number}"));
    }
}

#[tokio::test]
async fn a_kept_signature_is_given_out_again_without_an_attempt() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy =
        world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let client = proxy.client(ALICE).await;
    let headers = [("content-type", "application/json"), ("idempotency-key", "once")];
    for _ in 0..2 {
        let body = json!({"signer_kid": "ec", "message": "aGk="}).to_string();
        let answer = client.send(http::Method::POST, "/v1/sign", &headers, body).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    proxy.stop().await;
    for kind in ["intent", "signed"] {
        let [first, again] = &data(&world, kind)[..] else { panic!("{kind}") };
        assert!(first["attempt"].is_string() && first["upstream"].is_string(), "{first}");
        for name in ["attempt", "upstream", "region", "upstream_request_id"] {
            assert_eq!(again.get(name), None, "{again}");
        }
    }
}

#[tokio::test]
async fn calls_that_no_caller_asked_for_are_recorded_together() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy =
        world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    // Both of the proxy's clients.
    assert_eq!(doctor(&proxy).0, 0);
    // Within ten seconds and without a stop.
    eventually("they are recorded", || async { (!probes(&world).is_empty()).then_some(()) }).await;
    key.break_with(Fault::Error("DisabledException", 400));
    assert_ne!(doctor(&proxy).0, 0);
    proxy.stop().await;

    // Every call: whatever else the KMS saw with these credentials was not made here.
    let (recorded, seen) = (probes(&world), key.received());
    assert_eq!(recorded.len(), seen.len(), "{recorded:#?} {seen:#?}");
    for probe in &recorded {
        let call = call(&key, text(probe, "attempt"));
        assert_eq!(text(probe, "upstream_request_id"), call.request_id);
        assert_eq!(text(probe, "operation"), format!("{:?}", call.operation));
        assert_eq!((text(probe, "upstream"), text(probe, "region")), ("aws-kms", "eu-test-1"));
        assert_eq!(text(probe, "signer_kid"), "ec");
    }
    let of = |purpose: &str| -> Vec<&str> {
        let of = recorded.iter().filter(|probe| probe["purpose"] == purpose);
        of.filter(|probe| probe["operation"] == "Sign")
            .map(|probe| text(probe, "outcome"))
            .collect()
    };
    assert!(of("canary").starts_with(&["signed"]), "{recorded:#?}");
    assert_eq!(of("doctor"), ["signed", "signed", "key_unavailable", "key_unavailable"]);
    assert!(recorded.iter().any(|probe| probe["purpose"] == "warmth"), "{recorded:#?}");
}

#[tokio::test]
async fn a_canary_that_is_never_answered_is_recorded() {
    let (world, key) = World::one_signer();
    key.break_with(Fault::Hang);
    let proxy = world.proxy_of(&key).start_shut().await;
    eventually("a second canary", || async { (signs(&key) > 1).then_some(()) }).await;
    proxy.stop().await;
    let recorded = probes(&world);
    let first = recorded.iter().find(|probe| probe["operation"] == "Sign").unwrap();
    assert_eq!((text(first, "purpose"), text(first, "outcome")), ("canary", "indeterminate"));
    assert_eq!(first.get("upstream_request_id"), None);
    call(&key, text(first, "attempt"));
}

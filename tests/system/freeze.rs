//! The freeze: at once, over everything, across restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use system_tests::{Fault, Operation, World, eventually};

use crate::ALICE;

#[tokio::test]
async fn the_very_next_request_after_a_freeze_is_refused() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let alice = proxy.client(ALICE).await;
    for _ in 0..20 {
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
        let frozen = proxy.admin("POST", "/v1/freeze", json!({"reason": "INC-1"})).await;
        assert_eq!((frozen.status, &frozen.body["frozen"]), (200, &json!(true)));
        let refused = alice.sign_message("ec", b"hi").await;
        assert_eq!((refused.status, refused.reason()), (503, "frozen"), "{refused:?}");
        assert!(refused.body["detail"].as_str().unwrap().contains("INC-1"));
        assert_eq!(
            proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await.status,
            200
        );
    }
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
}

#[tokio::test]
async fn i1_no_signature_arrives_after_a_freeze_was_answered() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    for round in 0..5 {
        let frozen = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for number in 0..8 {
            let client = if number % 2 == 0 {
                proxy.client(ALICE).await
            } else {
                proxy.http2_client(ALICE).await
            };
            let frozen = Arc::clone(&frozen);
            clients.push(tokio::spawn(async move {
                let mut signed = 0;
                loop {
                    let asked_after = frozen.load(Ordering::SeqCst);
                    let answer = client
                        .send(
                            http::Method::POST,
                            "/v1/sign",
                            &[("content-type", "application/json")],
                            json!({"message": "aGk="}).to_string(),
                        )
                        .await;
                    match answer {
                        // A connection that was cut carries no signature.
                        Err(_) => return signed,
                        Ok(answer) if answer.status == 200 => {
                            assert!(!asked_after, "asked and signed after the freeze was answered");
                            signed += 1;
                        }
                        Ok(answer) => {
                            let reason = answer.reason();
                            assert!(
                                matches!(reason, "frozen" | "gate_closed_in_flight"),
                                "{answer:?}"
                            );
                            if asked_after {
                                return signed;
                            }
                        }
                    }
                }
            }));
        }
        eventually("traffic", || async {
            let series = "signing_proxy_requests_total{result=\"signed\",reason=\"\",signer_kid=\"ec\",mode=\"normal\"}";
            let signed = proxy.metric(series).await.unwrap_or_default();
            (signed > f64::from(round + 1) * 30.0).then_some(())
        })
        .await;
        let answer = proxy.admin("POST", "/v1/freeze", json!({"reason": "stop"})).await;
        assert_eq!(answer.status, 200);
        frozen.store(true, Ordering::SeqCst);
        let mut signed = 0;
        for client in clients {
            signed += client.await.unwrap();
        }
        assert!(signed > 0);
        assert_eq!(
            proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await.status,
            200
        );
    }
}

#[tokio::test]
async fn i1_a_signature_that_was_under_way_when_it_froze_is_withheld() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let alice = proxy.client(ALICE).await;
    key.break_with(Fault::Latency(std::time::Duration::from_millis(500)));
    let before = key.calls(Operation::Sign);
    let asked = tokio::spawn(async move { alice.sign_message("ec", b"hi").await });
    eventually("the request at the upstream", || async {
        let in_flight = proxy.metric("signing_proxy_inflight_requests").await == Some(1.0);
        (in_flight && key.calls(Operation::Sign) > before).then_some(())
    })
    .await;
    // Even if the freeze has ended when the signature comes: another epoch.
    assert_eq!(proxy.admin("POST", "/v1/freeze", json!({"reason": "INC-2"})).await.status, 200);
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await.status, 200);
    let answer = asked.await.unwrap();
    assert_eq!((answer.status, answer.reason()), (503, "gate_closed_in_flight"), "{answer:?}");
    assert!(answer.body.get("signature").is_none());
    let withheld = r#"audit_records_total{type="withheld"}"#;
    eventually("the record", || async {
        (proxy.metric(withheld).await == Some(1.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_freeze_survives_a_restart_and_kill_9() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let proxy = builder.clone().start().await;
    let (code, said, _) = proxy.signctl(&["freeze", "--reason", "INC-3"]);
    assert_eq!(code, 0, "{said}");
    drop(proxy); // kill -9
    let proxy = builder.clone().start_shut().await;
    proxy.unhealthy_for("frozen").await;
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.reason(), "frozen");
    let status = proxy.admin("GET", "/v1/status", json!(null)).await;
    assert_eq!(status.body["freeze"]["reason"], "INC-3");
    assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 0);
    proxy.healthy().await;
    proxy.stop().await;
    let proxy = builder.start().await;
    assert_eq!(
        proxy.client(ALICE).await.sign_message("ec", b"hi").await.status,
        200,
        "so does its end"
    );
}

#[tokio::test]
async fn the_environment_freezes_at_the_start() {
    for (variable, value, reason) in [
        ("SIGNING_DISABLED_REASON", "KMS outage", "KMS outage"),
        ("DEPLOY_BLOCK_SIGNING", "Yes", "DEPLOY_BLOCK_SIGNING is set"),
    ] {
        let (world, key) = World::one_signer();
        let builder = world.proxy_of(&key);
        let proxy = builder.clone().environment(variable, value).start_shut().await;
        proxy.unhealthy_for("frozen").await;
        let refused = proxy.client(ALICE).await.sign_message("ec", b"hi").await;
        assert_eq!(refused.reason(), "frozen");
        assert!(refused.body["detail"].as_str().unwrap().contains(reason), "{refused:?}");
        proxy.stop().await;
        // It is a freeze like any other: it ends when an operator ends it.
        let proxy = builder.start_shut().await;
        proxy.unhealthy_for("frozen").await;
        assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 0);
        proxy.healthy().await;
    }
}

#[tokio::test]
async fn no_incident_text_on_the_listener_that_authenticates_nobody() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    proxy.admin("POST", "/v1/freeze", json!({"reason": "INC-4 secret words"})).await;
    let health = proxy.unhealthy_for("frozen").await;
    assert!(!health.text.contains("secret words"), "{}", health.text);
    assert!(!proxy.metrics().await.contains("secret words"));
    let known = proxy.client(ALICE).await.get("/health").await;
    assert!(known.text.contains("secret words"), "a caller may know: {}", known.text);
}

#[tokio::test]
async fn a_state_that_can_not_be_read_signs_nothing() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let proxy = builder.clone().start().await;
    proxy.admin("POST", "/v1/freeze", json!({"reason": "INC-5"})).await;
    proxy.stop().await;
    world.scratch.write("proxy/state/freeze-and-seals.json", "{\"freeze\": nul");
    let output = builder.command().output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("freeze-and-seals.json") && said.contains("state rebuild"), "{said}");
}

#[tokio::test]
async fn two_proxies_do_not_share_a_state_directory() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let proxy = builder.clone().start().await;
    let output = builder
        .environment("SIGNING_PROXY__ADMIN__SOCKET", "other.sock")
        .command()
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another signing-proxy"), "{said}");
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
}

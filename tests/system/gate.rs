//! The gate in the sign path: break the upstream, and nothing is signed; mend
//! it, and it signs again without a restart. Every fault twice: it took effect,
//! and it did not stay.

use std::time::Duration;

use system_tests::{Fault, Kind, Operation, World, eventually};

use crate::ALICE;

/// What faults that are evidence of an outage or a limit do, and what the gate
/// says of them.
fn faults() -> Vec<(Fault, &'static str)> {
    vec![
        (Fault::Error("KMSInternalException", 500), "upstream_unhealthy"),
        (Fault::Error("DependencyTimeoutException", 503), "upstream_unhealthy"),
        (Fault::Error("KeyUnavailableException", 500), "upstream_unhealthy"),
        (Fault::Error("ValidationException", 400), "upstream_unhealthy"),
        (Fault::Error("ThrottlingException", 400), "upstream_throttled"),
        (Fault::Error("DisabledException", 400), "key_unavailable"),
        (Fault::Error("KMSInvalidStateException", 400), "key_unavailable"),
        (Fault::Error("NotFoundException", 400), "key_unavailable"),
        (Fault::Error("AccessDeniedException", 400), "key_unavailable"),
        (Fault::Error("InvalidKeyUsageException", 400), "key_unavailable"),
        (Fault::Error("ExpiredTokenException", 400), "key_unavailable"),
        (Fault::Error("UnrecognizedClientException", 400), "key_unavailable"),
        (Fault::Error("InvalidSignatureException", 403), "key_unavailable"),
        (Fault::Hang, "upstream_unhealthy"),
        (Fault::Reset, "upstream_unhealthy"),
        (Fault::ResetMidAnswer, "upstream_unhealthy"),
        (Fault::NotJson, "upstream_unhealthy"),
        (Fault::Bare503, "upstream_unhealthy"),
    ]
}

#[tokio::test]
async fn i2_every_upstream_fault_shuts_the_gate_and_its_end_opens_it_again() {
    let world = World::new();
    // The shortest probe time-out that a busy machine bears, since one fault hangs.
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .gate(
            "lease_ms = 2600\nprobe_interval_ms = 100\nprobe_timeout_ms = 1500\n\
             recovery_probe_interval_ms = 20\nrecovery_min_ms = 0\nsuccesses_to_open = 2",
        )
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    for (fault, reason) in faults() {
        key.break_with(fault.clone());
        proxy.unhealthy_for(reason).await;
        let refused = alice.sign_message("ec", b"hi").await;
        assert_eq!((refused.status, refused.reason()), (503, reason), "{fault:?}: {refused:?}");
        assert!(!refused.header("retry-after").is_empty(), "{fault:?}");
        assert_eq!(proxy.metric("signing_proxy_health").await, Some(0.0), "{fault:?}");
        key.mend();
        proxy.healthy().await;
        let signed = alice.sign_message("ec", b"hi").await;
        assert_eq!(signed.status, 200, "after {fault:?}: {signed:?}");
        assert_eq!(proxy.metric("signing_proxy_health").await, Some(1.0), "{fault:?}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn i8_a_shut_gate_refuses_without_waiting_for_a_hanging_upstream() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let alice = proxy.client(ALICE).await;
    key.break_with(Fault::Hang);
    proxy.unhealthy_for("upstream_unhealthy").await;
    let calls = key.calls(Operation::Sign);
    for _ in 0..200 {
        assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "upstream_unhealthy");
    }
    // A canary may have been on its way; callers' requests were not.
    assert!(key.calls(Operation::Sign) - calls < 20, "requests reached a hanging upstream");
}

#[tokio::test]
async fn i10_what_is_known_of_a_failed_call_decides_its_answer() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    // Canaries are rare here, and many failures are borne: the answers are traffic's own.
    let proxy = world
        .proxy()
        .rare_canaries()
        .kms("call_timeout_ms = 700\nconnect_timeout_ms = 300")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    for (fault, status, reason) in [
        (Fault::Error("KMSInternalException", 500), 503, "upstream_unhealthy"),
        (Fault::Error("ThrottlingException", 400), 503, "upstream_throttled"),
        (Fault::Hang, 504, "indeterminate"),
        (Fault::Reset, 504, "indeterminate"),
        (Fault::ResetMidAnswer, 504, "indeterminate"),
        (Fault::NotJson, 504, "indeterminate"),
    ] {
        key.break_with(fault.clone());
        let answer = alice.sign_message("ec", b"hi").await;
        assert_eq!((answer.status, answer.reason()), (status, reason), "{fault:?}");
        key.mend();
        let signed = alice.sign_message("ec", b"hi").await;
        assert_eq!(signed.status, 200, "after {fault:?}: {signed:?}");
    }
}

#[tokio::test]
async fn only_what_was_certainly_not_signed_is_tried_again_and_only_once() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .rare_canaries()
        .kms("call_timeout_ms = 700\nconnect_timeout_ms = 300")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    for (fault, attempts) in [
        (Fault::Error("KMSInternalException", 500), 2),
        (Fault::Error("ThrottlingException", 400), 1),
        (Fault::Error("ValidationException", 400), 1),
        (Fault::Hang, 1),
        (Fault::NotJson, 1),
    ] {
        key.break_with(fault.clone());
        let before = key.calls(Operation::Sign);
        assert_ne!(alice.sign_message("ec", b"hi").await.status, 200);
        assert_eq!(key.calls(Operation::Sign) - before, attempts, "{fault:?}");
        key.mend();
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    }
}

#[tokio::test]
async fn failures_of_traffic_shut_the_gate_before_any_canary() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let gate = "lease_ms = 60000\nprobe_interval_ms = 50000\nrecovery_probe_interval_ms = 20\n\
                recovery_min_ms = 0\nsuccesses_to_open = 1\nfailures_to_shut = 3";
    let proxy = world.proxy().gate(gate).signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    key.break_with(Fault::Error("KMSInternalException", 500));
    for _ in 0..3 {
        assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "upstream_unhealthy");
    }
    proxy.unhealthy_for("upstream_unhealthy").await;
    key.mend();
    proxy.healthy().await;
}

#[tokio::test]
async fn successes_of_traffic_make_canaries_unnecessary() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let alice = proxy.client(ALICE).await;
    let (start, before) = (std::time::Instant::now(), key.calls(Operation::Sign));
    let mut signed = 0;
    // Probes would come every 200 ms.
    while start.elapsed() < Duration::from_secs(2) {
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
        signed += 1;
    }
    let canaries = key.calls(Operation::Sign) - before - signed;
    assert!(canaries <= 2, "{canaries} canaries beside {signed} signatures");
}

#[tokio::test]
async fn an_upstream_that_can_not_be_reached_at_the_start_is_no_reason_not_to_start() {
    let (world, key) = World::one_signer();
    key.set(Operation::GetPublicKey, Fault::Reset);
    let proxy = world.proxy_of(&key).start_shut().await;
    proxy.unhealthy_for("upstream_unhealthy").await;
    assert_eq!(
        proxy.client(ALICE).await.sign_message("ec", b"hi").await.reason(),
        "upstream_unhealthy"
    );
    key.mend();
    proxy.healthy().await;
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
}

#[tokio::test]
async fn i2_a_gate_is_shut_until_a_canary_has_verified() {
    let (world, key) = World::one_signer();
    key.set(Operation::GetPublicKey, Fault::Hang);
    let proxy = world.proxy_of(&key).start_shut().await;
    let answer = proxy.client(ALICE).await.sign_message("ec", b"hi").await;
    assert_eq!((answer.status, answer.reason()), (503, "starting"), "{answer:?}");
    assert_eq!(proxy.health().await.status, 503);
}

#[tokio::test]
async fn one_bad_signer_does_not_stop_the_others() {
    let world = World::new();
    let (good, bad) = (world.kms.key(Kind::Ed25519), world.kms.key(Kind::P256));
    let proxy = world
        .proxy()
        .signer("good", &good)
        .signer("bad", &bad)
        .caller(ALICE, &["good", "bad"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    bad.break_with(Fault::Error("DisabledException", 400));
    proxy.unhealthy_for("key_unavailable").await;
    assert_eq!(alice.sign_message("bad", b"hi").await.reason(), "key_unavailable");
    assert_eq!(alice.sign_message("good", b"hi").await.status, 200);
    let health = |kid| format!("signing_proxy_signer_health{{signer_kid=\"{kid}\"}}");
    assert_eq!(proxy.metric(&health("good")).await, Some(1.0));
    assert_eq!(proxy.metric(&health("bad")).await, Some(0.0));
    assert_eq!(proxy.metric("signing_proxy_health").await, Some(0.0));
}

#[tokio::test]
async fn work_goes_on_when_the_client_hangs_up_after_the_intent() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    key.break_with(Fault::Latency(Duration::from_millis(400)));
    let signed = r#"audit_records_total{type="signed"}"#;
    let before = proxy.metric(signed).await;
    let alice = proxy.client(ALICE).await;
    let asked = tokio::spawn(async move { alice.sign_message("ec", b"hi").await });
    eventually("the request in flight", || async {
        (proxy.metric("signing_proxy_inflight_requests").await == Some(1.0)).then_some(())
    })
    .await;
    asked.abort();
    assert!(asked.await.unwrap_err().is_cancelled());
    eventually("the outcome of the abandoned request", || async {
        (proxy.metric(signed).await > before).then_some(())
    })
    .await;
    eventually("its slot given back", || async {
        (proxy.metric("signing_proxy_inflight_requests").await == Some(0.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_caller_can_shut_the_gate_with_what_the_upstream_rejects() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let gate = "lease_ms = 60000\nprobe_interval_ms = 50000\nrecovery_probe_interval_ms = 20\n\
                recovery_min_ms = 0\nsuccesses_to_open = 1\nfailures_to_shut = 3";
    let proxy = world.proxy().gate(gate).signer("ed", &key).caller(ALICE, &["ed"]).start().await;
    let alice = proxy.client(ALICE).await;
    // KMS takes no empty message, so it is not asked to.
    let calls = key.calls(Operation::Sign);
    assert_eq!(alice.sign_message("ed", b"").await.reason(), "invalid_request");
    assert_eq!(key.calls(Operation::Sign), calls);
    key.break_with(Fault::Error("ValidationException", 400));
    for _ in 0..10 {
        assert_eq!(alice.sign_message("ed", b"hi").await.status, 503);
    }
    key.mend();
    assert_eq!(alice.sign_message("ed", b"hi").await.status, 200);
    let shut = "signing_proxy_gate_transitions_total{signer_kid=\"ed\",from=\"open\",to=\"shut\"}";
    assert_eq!(proxy.metric(shut).await, None, "the gate never shut");
}

#[tokio::test]
async fn a_signer_that_the_registry_revoked_is_not_healthy() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let mut entry = system_tests::proxy::entry("ec", &key);
    entry["revokedAt"] = "2026-01-02T00:00:00Z".into();
    let proxy = world
        .proxy()
        .signer("ec", &key)
        .registered(entry)
        .caller(ALICE, &["ec"])
        .start_shut()
        .await;
    proxy.unhealthy_for("key_unavailable").await;
    let answer = proxy.client(ALICE).await.sign_message("ec", b"hi").await;
    assert_eq!(answer.reason(), "key_unavailable");
    assert!(answer.body["detail"].as_str().unwrap().contains("revoked"), "{answer:?}");
}

//! The main job: a signature comes back, and others verify it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::json;
use system_tests::{Kind, Operation, World, openssl};

use crate::ALICE;

fn sha256(message: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message).as_ref().to_vec()
}

#[tokio::test]
async fn openssl_verifies_what_both_kinds_of_key_sign() {
    let world = World::new();
    let (ed, ec) = (world.kms.key(Kind::Ed25519), world.kms.key(Kind::P256));
    let proxy = world
        .proxy()
        .signer("ed", &ed)
        .signer("ec", &ec)
        .caller(ALICE, &["ed", "ec"])
        .start()
        .await;
    for client in [proxy.client(ALICE).await, proxy.http2_client(ALICE).await] {
        for (kid, key) in [("ed", &ed), ("ec", &ec)] {
            let answer = client.sign_message(kid, b"a message").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.body["signer_kid"], kid);
            assert_eq!(answer.body["algorithm"], key.kind.algorithm());
            assert_eq!(answer.body["mode"], "normal");
            assert!(openssl::verifies(key, b"a message", &answer.signature()));
            assert!(!openssl::verifies(key, b"another message", &answer.signature()));
        }
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_long_message_is_hashed_here_for_digest_algorithms_and_refused_for_ed25519() {
    let world = World::new();
    let (ed, ec) = (world.kms.key(Kind::Ed25519), world.kms.key(Kind::P256));
    let proxy = world
        .proxy()
        .signer("ed", &ed)
        .signer("ec", &ec)
        .caller(ALICE, &["ed", "ec"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    let long = vec![7; 4097];
    assert!(openssl::verifies(&ec, &long, &alice.sign_message("ec", &long).await.signature()));
    assert_eq!(alice.sign_message("ed", &long).await.reason(), "message_too_large");
    assert!(openssl::verifies(
        &ed,
        &long[1..],
        &alice.sign_message("ed", &long[1..]).await.signature()
    ));
}

#[tokio::test]
async fn verify_says_yes_to_the_signature_and_no_to_anything_else() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy =
        world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    let signature = alice.sign_message("ec", b"a message").await.body["signature"].clone();
    let calls = key.calls(Operation::Sign);
    for (message, expected) in [(&b"a message"[..], true), (b"another", false)] {
        let body = json!({"message": STANDARD.encode(message), "signature": signature, "signer_kid": "ec"});
        let answer = alice.post("/v1/verify", &body).await;
        assert_eq!(
            (answer.status, &answer.body),
            (200, &json!({"verified": expected, "signer_kid": "ec", "purpose": "signing"}))
        );
    }
    let digest = STANDARD.encode(sha256(b"a message"));
    let body = json!({"digest": digest, "digest_algorithm": "sha256", "signature": signature});
    assert_eq!(alice.post("/v1/verify", &body).await.body["verified"], true, "the default signer");
    let other = json!({"message": "aGk=", "signature": signature, "signer_kid": "ec", "algorithm": "ED25519_SHA_512"});
    assert_eq!(alice.post("/v1/verify", &other).await.reason(), "algorithm_not_supported");
    assert_eq!(key.calls(Operation::Sign), calls, "verified locally, not by the upstream");
}

#[tokio::test]
async fn signers_lists_the_registry_in_the_form_that_verifiers_read() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = world.proxy().signer("ed", &key).caller(ALICE, &["ed"]).start().await;
    let answer = proxy.client(ALICE).await.get("/v1/signers").await;
    let signer = &answer.body["signers"][0];
    assert_eq!(signer["signer_kid"], "ed");
    assert_eq!(signer["algorithm"], "ed25519");
    assert_eq!(signer["public_key_pem"].as_str().unwrap().trim(), key.public_key_pem.trim());
}

#[tokio::test]
async fn answers_carry_the_request_id_and_where_the_time_went() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let alice = proxy.client(ALICE).await;
    let body = json!({"message": "aGk="}).to_string();
    let send = |id: &'static str| {
        let (alice, body) = (alice.clone(), body.clone());
        async move {
            let headers = [("content-type", "application/json"), ("x-request-id", id)];
            alice.send(Method::POST, "/v1/sign", &headers, body).await.unwrap()
        }
    };
    let named = send("order-4711").await;
    assert_eq!(named.header("x-request-id"), "order-4711");
    assert_eq!(named.body["request_id"], "order-4711");
    for stage in ["queue", "upstream", "verify", "audit"] {
        assert!(named.header("server-timing").contains(&format!("{stage};dur=")), "{stage}");
    }
    let odd = send("a b\"c").await;
    assert_eq!(odd.header("x-request-id").len(), 32, "an odd id is replaced, not echoed");
}

#[tokio::test]
async fn deny_by_default() {
    let world = World::new();
    let (one, two) = (world.kms.key(Kind::P256), world.kms.key(Kind::P256));
    let proxy = world
        .proxy()
        .signer("one", &one)
        .signer("two", &two)
        .caller(ALICE, &["one"])
        .caller("bob.example", &["one", "two"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    let bob = proxy.client("bob.example").await;
    let mallory = proxy.client("spiffe://test/mallory").await;
    let with =
        |algorithm: &str| json!({"signer_kid": "one", "message": "aGk=", "algorithm": algorithm});
    for (case, answer, status, reason) in [
        ("granted", alice.sign_message("one", b"hi").await, 200, ""),
        ("a DNS name", bob.sign_message("two", b"hi").await, 200, ""),
        ("not granted", alice.sign_message("two", b"hi").await, 403, "caller_not_authorized"),
        ("a stranger", mallory.sign_message("one", b"hi").await, 403, "caller_not_authorized"),
        ("no such signer", alice.sign_message("three", b"hi").await, 404, "signer_unknown"),
        (
            "other algorithm",
            alice.post("/v1/sign", &with("ED25519_SHA_512")).await,
            400,
            "algorithm_not_supported",
        ),
        (
            "unknown algorithm",
            alice.post("/v1/sign", &with("MD5")).await,
            400,
            "algorithm_not_supported",
        ),
    ] {
        assert_eq!((answer.status, answer.reason()), (status, reason), "{case}: {answer:?}");
    }
}

#[tokio::test]
async fn an_impatient_caller_is_answered_in_time_and_is_no_evidence_against_the_upstream() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let alice = proxy.client(ALICE).await;
    key.break_with(system_tests::Fault::Latency(std::time::Duration::from_millis(300)));
    let headers = [("content-type", "application/json"), ("signing-deadline-ms", "5")];
    for _ in 0..5 {
        let body = json!({"message": "aGk="}).to_string();
        let answer = alice.send(Method::POST, "/v1/sign", &headers, body).await.unwrap();
        assert_eq!((answer.status, answer.reason()), (504, "indeterminate"), "{answer:?}");
        assert_eq!(answer.body["signer_kid"], "ec");
    }
    let patient = alice.sign_message("ec", b"hi").await;
    assert_eq!(patient.status, 200, "the gate is still open: {patient:?}");
    assert_eq!(proxy.health().await.status, 200);
}

#[tokio::test]
async fn what_can_be_got_can_be_asked_for_without_its_body() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    for client in [proxy.client(ALICE).await, proxy.http2_client(ALICE).await] {
        for path in ["/health", "/livez", "/readyz", "/v1/signers", "/public-key"] {
            let answer = client.send(Method::HEAD, path, &[], "").await.unwrap();
            assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{path}: {answer:?}");
            // The connection is still in step.
            assert_eq!(client.get(path).await.status, 200, "{path}");
        }
        let refused = client.send(Method::HEAD, "/v1/sign", &[], "").await.unwrap();
        assert_eq!(refused.status, 405);
    }
}

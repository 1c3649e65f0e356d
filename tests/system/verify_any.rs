//! What clients of the field mean without saying it: any signer's signature, and decoded bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use system_tests::{Kind, World, openssl};

use crate::ALICE;

const MESSAGE: &[u8] = b"a message";

/// The same text means one thing to most clients, another to those whose setting says so.
#[tokio::test]
async fn sign_data_signs_the_decoded_bytes_for_callers_that_mean_these() {
    const BOB: &str = "spiffe://test/bob";
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let builder = world.proxy().signer("ed", &key).caller(ALICE, &["ed"]).caller(BOB, &["ed"]);
    let proxy = builder.of_caller(BOB, "sign_data_decoded = true").start().await;
    let body = json!({"signerId": "ed", "data": STANDARD.encode(MESSAGE)});
    let text = STANDARD.encode(MESSAGE);
    for (caller, signed, not) in
        [(ALICE, text.as_bytes(), MESSAGE), (BOB, MESSAGE, text.as_bytes())]
    {
        let answer = proxy.client(caller).await.post("/signData", &body).await;
        assert!(openssl::verifies(&key, signed, &answer.signature()), "{}", answer.text);
        assert!(!openssl::verifies(&key, not, &answer.signature()), "{}", answer.text);
    }
    let bad = json!({"signerId": "ed", "data": "no base64"});
    let answer = proxy.client(BOB).await.post("/signData", &bad).await;
    assert_eq!((answer.status, answer.reason()), (400, "invalid_request"), "{}", answer.text);
}

#[tokio::test]
async fn a_signature_without_a_signers_name_is_found_under_every_registered_key() {
    let world = World::new();
    let kinds = [
        ("ed", Kind::Ed25519),
        ("p256", Kind::P256),
        ("secp256k1", Kind::Secp256k1),
        ("p384", Kind::P384),
        ("p521", Kind::P521),
        ("rsa", Kind::Rsa2048),
        ("ml65", Kind::MlDsa65),
    ];
    let keys = kinds.map(|(kid, kind)| (kid, world.kms.key(kind)));
    let kids = keys.each_ref().map(|(kid, _)| *kid);
    let builder = keys.iter().fold(world.proxy(), |builder, (kid, key)| builder.signer(kid, key));
    let proxy = builder.caller(ALICE, &kids).start().await;
    // Another proxy, to whose registry the first one's keys are old.
    let new = world.kms.key(Kind::Ed25519);
    let mut other = world.proxy().directory("other").signer("new", &new);
    for (kid, key) in &keys {
        other = other.registered(json!({
            "signer_kid": kid, "algorithm": key.kind.algorithm(),
            "public_key_pem": key.public_key_pem, "revokedAt": "2026-01-01T00:00:00Z",
        }));
    }
    let other = other.caller(ALICE, &["new"]).start().await;
    let (alice, elsewhere) = (proxy.client(ALICE).await, other.client(ALICE).await);
    for (kid, key) in &keys {
        for algorithm in key.kind.algorithms() {
            let ask = json!({
                "message": STANDARD.encode(MESSAGE), "signer_kid": kid, "algorithm": algorithm,
            });
            let signed = alice.post("/v1/sign", &ask).await;
            assert_eq!(signed.status, 200, "{}", signed.text);
            let signature = &signed.body["signature"];
            let mut body = json!({"message": ask["message"], "signature": signature});
            let found = alice.post("/v1/verify", &body).await;
            let expected = json!({"verified": true, "signer_kid": kid, "purpose": "signing"});
            assert_eq!((found.status, &found.body), (200, &expected), "{algorithm}");
            let found = elsewhere.post("/v1/verify", &body).await;
            assert_eq!(found.body["revoked_at"], "2026-01-01T00:00:00Z", "{}", found.text);
            let dialect = json!({"payload_b64": ask["message"], "signature_b64": signature});
            let found = elsewhere.post("/verify", &dialect).await;
            let whose = (&found.body["verified"], &found.body["signer_kid"]);
            assert_eq!(whose, (&json!(true), &json!(kid)), "{}", found.text);
            body["message"] = json!(STANDARD.encode(b"another"));
            let found = alice.post("/v1/verify", &body).await;
            assert_eq!((found.status, &found.body["verified"]), (200, &json!(false)));
        }
    }
    // Of what no key takes, the caller's default says why.
    let long = json!({
        "digest": STANDARD.encode([7; 48]), "digest_algorithm": "sha384",
        "algorithm": "ED25519_SHA_512", "signature": "AAAA",
    });
    assert_eq!(alice.post("/v1/verify", &long).await.reason(), "invalid_digest");
}

//! The dialects that clients in the field speak: each gets its own words back,
//! and the signature is over what its input field means.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use system_tests::{Answer, Client, Kind, World, openssl};

use crate::ALICE;

/// Dialects take any content type, and ignore an Authorization header.
const HEADERS: [(&str, &str); 2] =
    [("content-type", "text/plain"), ("authorization", "Bearer whatever")];

async fn post(alice: &Client, path: &str, body: &Value) -> Answer {
    alice.send(Method::POST, path, &HEADERS, body.to_string()).await.unwrap()
}

fn sha256(message: &[u8]) -> Vec<u8> {
    digest(&SHA256, message).as_ref().to_vec()
}

fn decoded(answer: &Answer, field: &str) -> Vec<u8> {
    STANDARD.decode(answer.body[field].as_str().unwrap_or_else(|| panic!("{answer:?}"))).unwrap()
}

#[tokio::test]
async fn every_dialect_signs_what_its_input_means_and_answers_in_its_own_words() {
    let world = World::new();
    let (ed, rsa) = (world.kms.key(Kind::Ed25519), world.kms.key(Kind::Rsa2048));
    let proxy = world
        .proxy()
        .signer("ed", &ed)
        .signer("rsa", &rsa)
        .caller(ALICE, &["ed", "rsa"])
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    let text = "a message, \u{e9}";
    let (message, hash) = (text.as_bytes(), sha256(text.as_bytes()));
    let hexed = hex::encode(&hash);
    let base64 = STANDARD.encode(message);
    // path, request, what the default signer signs, fields of the answer, its signature
    for (path, request, signed, fields, field) in [
        ("/sign", json!({"hash": hexed}), &hash[..], "mode signature signer_kid ts", "signature"),
        (
            "/sign",
            json!({"payload_b64": base64, "key_id": "ed"}),
            message,
            "mode signature_b64 signer_id signer_kid",
            "signature_b64",
        ),
        (
            "/sign",
            json!({"payload_b64": base64}),
            message,
            "mode signature_b64 signer_id signer_kid",
            "signature_b64",
        ),
        (
            "/sign",
            json!({"data": base64, "algorithm": "ed25519", "kid": "ed"}),
            message,
            "mode signature signer_kid ts",
            "signature",
        ),
        (
            "/sign",
            json!({"digest_hex": hexed, "canonical_payload": text, "algorithm": "ed25519"}),
            &hash,
            "algorithm mode signature signer_kid",
            "signature",
        ),
        (
            "/sign",
            json!({"signerId": "ed", "payload": text, "manifestId": "m-1"}),
            message,
            "algorithm manifest_id mode signature signerId signer_id signer_kid ts",
            "signature",
        ),
        (
            "/signData",
            json!({"signerId": "ed", "data": text}),
            message,
            "mode signature signerId signer_id signer_kid",
            "signature",
        ),
        (
            "/sign/hash",
            json!({"digest_hex": hexed}),
            &hash,
            "alg kid mode signature signer_kid",
            "signature",
        ),
        (
            "/sign/canonical",
            json!({"canonical": text}),
            &hash,
            "alg kid mode signature signer_kid",
            "signature",
        ),
    ] {
        let mut request = request;
        request["an_unknown_field"] = json!("is ignored");
        let answer = post(&alice, path, &request).await;
        assert_eq!(answer.status, 200, "{path} {request}: {answer:?}");
        let mut found: Vec<_> = answer.body.as_object().unwrap().keys().cloned().collect();
        found.sort();
        assert_eq!(found.join(" "), fields, "{path} {request}");
        assert_eq!(answer.body["mode"], "normal");
        if let Some(ts) = answer.body["ts"].as_str() {
            // Always milliseconds: text order is time order.
            assert!(ts.len() == 24 && ts.as_bytes()[19] == b'.' && ts.ends_with('Z'), "{ts}");
        }
        for name in ["signer_kid", "signer_id", "signerId", "kid"] {
            assert!(answer.body.get(name).is_none_or(|kid| kid == "ed"), "{answer:?}");
        }
        for name in ["alg", "algorithm"] {
            assert!(answer.body.get(name).is_none_or(|word| word == "ed25519"), "{answer:?}");
        }
        assert!(openssl::verifies(&ed, signed, &decoded(&answer, field)), "{path} {request}");
    }
    let manifest = json!({"signerId": "rsa", "payload": text, "manifestId": "m-1"});
    let answer = post(&alice, "/sign", &manifest).await;
    assert_eq!(answer.body["algorithm"], "rsa-sha256");
    assert_eq!(answer.body["manifest_id"], "m-1");
    assert!(openssl::verifies(&rsa, message, &answer.signature()));
}

#[tokio::test]
async fn verify_dialects_hold_for_what_was_signed_and_for_nothing_else() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = world.proxy().signer("ed", &key).caller(ALICE, &["ed"]).start().await;
    let alice = proxy.client(ALICE).await;
    let (message, hexed) = (STANDARD.encode("text"), hex::encode(sha256(b"text")));
    let by_message = post(&alice, "/sign", &json!({"payload_b64": message})).await;
    let by_message = &by_message.body["signature_b64"];
    // A canonical's signature holds as that of its digest, Ed25519 included.
    let by_digest = post(&alice, "/sign/canonical", &json!({"canonical": "text"})).await;
    let by_digest = &by_digest.body["signature"];
    let named = |mut answer: Value| {
        answer["signer_kid"] = json!("ed");
        answer["purpose"] = json!("signing");
        answer
    };
    let good = json!({"verified": true, "valid": true});
    let bad = json!({"verified": false, "valid": false});
    for (request, expected) in [
        (json!({"payload_b64": message, "signature_b64": by_message}), json!({"verified": true})),
        (
            json!({"payload_b64": message, "signature_b64": by_message, "signer_id": "ed"}),
            json!({"verified": true}),
        ),
        (json!({"payload_b64": message, "signature_b64": by_digest}), json!({"verified": false})),
        (json!({"digest_hex": hexed, "signature_b64": by_digest}), good.clone()),
        (json!({"digest_hex": hexed, "signature": by_digest}), good),
        (json!({"digest_hex": hexed, "signature": by_message}), bad),
    ] {
        let answer = post(&alice, "/verify", &request).await;
        assert_eq!((answer.status, &answer.body), (200, &named(expected)), "{request}");
    }
}

#[tokio::test]
async fn public_keys_are_given_in_pem_and_in_der() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world.proxy().signer("a/b:c", &key).caller(ALICE, &["a/b:c"]).start().await;
    let alice = proxy.client(ALICE).await;
    for path in ["/public-key?kid=a%2Fb:c", "/public-key?kid=a/b:c", "/public-key"] {
        let answer = alice.get(path).await;
        assert_eq!(answer.body["signer_kid"], "a/b:c", "{path} {answer:?}");
        let pem = answer.body["publicKeyPem"].as_str().unwrap();
        assert_eq!(pem.trim(), key.public_key_pem.trim());
    }
    for path in ["/publicKeys/a%2Fb%3Ac", "/publicKeys/a/b:c"] {
        let answer = alice.get(path).await;
        assert_eq!(answer.body["signerId"], "a/b:c", "{path} {answer:?}");
        assert_eq!(answer.body["algorithm"], "ECDSA_SHA_256");
        let der = answer.body["publicKey"].as_str().unwrap();
        assert!(key.public_key_pem.replace('\n', "").contains(der), "{der}");
    }
    for (kid, status) in [("a/b:c", 200), ("other", 404)] {
        let answer = post(&alice, "/publicKey", &json!({"signerId": kid})).await;
        assert_eq!(answer.status, status, "{answer:?}");
        let got = alice.get(&format!("/publicKeys/{kid}")).await;
        assert_eq!(answer.body["publicKey"], got.body["publicKey"]);
    }
    for path in ["/public-key?kid=other", "/publicKeys/other", "/publicKeys/%00"] {
        let answer = alice.get(path).await;
        assert_eq!((answer.status, answer.reason()), (404, "signer_unknown"), "{path}");
    }
    let posted = alice.send(Method::POST, "/public-key", &[], Bytes::new()).await.unwrap();
    assert_eq!((posted.status, posted.header("allow")), (405, "GET"));
}

#[tokio::test]
async fn what_is_not_exactly_one_input_is_refused_with_the_inputs_that_are_taken() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = world.proxy().signer("ed", &key).caller(ALICE, &["ed"]).start().await;
    let alice = proxy.client(ALICE).await;
    let hexed = hex::encode(sha256(b"text"));
    for (path, request, status, reason, says) in [
        ("/sign", json!({}), 400, "invalid_request", "no input field"),
        (
            "/sign",
            json!({"hash": hexed, "data": "aGk="}),
            400,
            "invalid_request",
            "send exactly one",
        ),
        ("/sign", json!({"canonical": "x"}), 400, "invalid_request", "is no input here"),
        ("/sign/hash", json!({"hash": hexed}), 400, "invalid_request", "\"digest_hex\""),
        ("/sign/canonical", json!({"canonical": 7}), 400, "invalid_request", "JSON expected"),
        ("/signData", json!({"data": "x"}), 400, "invalid_request", "signerId"),
        ("/sign", json!({"payload": "x"}), 400, "invalid_request", "signerId"),
        ("/sign", json!({"hash": "abc"}), 400, "invalid_digest", "64 hex digits"),
        ("/sign", json!({"hash": "z".repeat(64)}), 400, "invalid_digest", "64 hex digits"),
        ("/sign", json!({"payload_b64": "*"}), 400, "invalid_request", "base64"),
        (
            "/sign",
            json!({"digest_hex": hexed, "canonical_payload": "other"}),
            400,
            "invalid_request",
            "is not the sha256",
        ),
        (
            "/sign",
            json!({"digest_hex": hexed, "algorithm": "MD5"}),
            400,
            "algorithm_not_supported",
            "MD5",
        ),
        (
            "/sign/canonical",
            json!({"canonical": "signing-proxy canary v1\u{0}ed"}),
            400,
            "invalid_request",
            "canaries",
        ),
        (
            "/sign",
            json!({
                "digest_hex": hex::encode(sha256(b"signing-proxy canary v1\0ed")),
                "canonical_payload": "signing-proxy canary v1\u{0}ed",
            }),
            400,
            "invalid_request",
            "canaries",
        ),
        ("/sign", json!({"data": "aGk=", "kid": "no"}), 404, "signer_unknown", "\"no\""),
        ("/verify", json!({"digest_hex": hexed}), 400, "invalid_request", "exactly one of"),
        (
            "/verify",
            json!({"payload_b64": "aGk=", "signature_b64": "*"}),
            400,
            "invalid_request",
            "base64",
        ),
    ] {
        let answer = post(&alice, path, &request).await;
        assert_eq!((answer.status, answer.reason()), (status, reason), "{request}: {answer:?}");
        assert!(answer.body["detail"].as_str().unwrap().contains(says), "{request}: {answer:?}");
    }
}

//! A field that may be left out may be null: on every path, for every such field, as the API's own description has
//! them.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Map, Value, json};
use system_tests::{Answer, Client, Kind, World};

use crate::ALICE;

/// `sha256sum` of `hello`, in hex and in base64.
const HEX: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const BASE64: &str = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";

/// What is sound and has no more than it needs, for each form of each path. `signature` is one of it.
fn sound(signature: &str) -> Vec<(&'static str, Value)> {
    let digest = json!({"digest": BASE64, "digest_algorithm": "sha256"});
    let with = |body: &Value, name: &str| {
        let mut body = body.clone();
        body[name] = json!(signature);
        body
    };
    vec![
        ("/v1/sign", json!({"message": "aGVsbG8="})),
        ("/v1/sign", digest.clone()),
        ("/v1/verify", with(&json!({"message": "aGVsbG8="}), "signature")),
        ("/v1/verify", with(&digest, "signature")),
        ("/sign", json!({"hash": HEX})),
        ("/sign", json!({"payload_b64": "aGVsbG8="})),
        ("/sign", json!({"data": "aGVsbG8="})),
        ("/sign", json!({"digest_hex": HEX})),
        ("/sign", json!({"signerId": "ec", "payload": "hello"})),
        ("/signData", json!({"signerId": "ec", "data": "hello"})),
        ("/sign/hash", json!({"digest_hex": HEX})),
        ("/sign/canonical", json!({"canonical": "hello"})),
        ("/verify", with(&json!({"payload_b64": "aGVsbG8="}), "signature_b64")),
        ("/verify", with(&json!({"digest_hex": HEX}), "signature_b64")),
        ("/verify", with(&json!({"digest_hex": HEX}), "signature")),
        ("/publicKey", json!({"signerId": "ec"})),
    ]
}

/// The fields of a schema, in all of its forms.
fn fields(schema: &Value, description: &Value) -> BTreeSet<String> {
    let schema = match schema["$ref"].as_str() {
        Some(name) => description.pointer(name.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    let own = schema["properties"].as_object().into_iter().flat_map(Map::keys).cloned();
    let forms = schema["oneOf"].as_array().into_iter().flatten();
    own.chain(forms.flat_map(|form| fields(form, description))).collect()
}

async fn accepted(client: &Client, path: &str, body: &Value) {
    let answer = client.post(path, body).await;
    let is_good = answer.status == 200 && answer.body["verified"] != false;
    assert!(is_good, "{path} {body}: {} {}", answer.status, answer.text);
}

#[tokio::test]
async fn a_field_that_may_be_left_out_may_be_null_on_every_path_and_one_that_is_needed_may_not() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    let description = alice.get("/openapi.json").await.body;
    let signature =
        alice.post("/v1/sign", &json!({"message": "aGVsbG8="})).await.body["signature"].clone();
    let sound = sound(signature.as_str().unwrap());
    for (path, body) in &sound {
        accepted(&alice, path, body).await;
        let schema = &description["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            ["schema"];
        let all = fields(schema, &description);
        assert!(!all.is_empty(), "{path}");
        for name in &all {
            let mut with = body.clone();
            with[name] = Value::Null;
            if body.get(name).is_some() {
                let answer = alice.post(path, &with).await;
                assert_eq!(answer.status, 400, "{path} {with}: {}", answer.text);
            } else {
                accepted(&alice, path, &with).await;
            }
        }
    }
    // No path that takes a body is left out, but for KMS's wire form.
    let paths = description["paths"].as_object().unwrap().iter();
    let posted = paths.filter(|(_, operations)| operations["post"]["requestBody"].is_object());
    let tried: BTreeSet<_> = sound.iter().map(|(path, _)| *path).chain(["/"]).collect();
    assert_eq!(posted.map(|(path, _)| path.as_str()).collect::<BTreeSet<_>>(), tried);
}

async fn in_kms_form(client: &Client, operation: &str, body: &Value) -> Answer {
    let target = format!("TrentService.{operation}");
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", &target)];
    client.send(Method::POST, "/", &headers, body.to_string()).await.unwrap()
}

#[tokio::test]
async fn in_kms_wire_form_null_is_nothing_as_it_is_for_kms() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    let sign = json!({"KeyId": "ec", "Message": "aGVsbG8=", "SigningAlgorithm": "ECDSA_SHA_256"});
    let signed = in_kms_form(&alice, "Sign", &sign).await;
    assert_eq!(signed.status, 200, "{}", signed.text);
    let mut verify = sign.clone();
    verify["Signature"] = signed.body["Signature"].clone();
    for (operation, body) in [("Sign", sign), ("Verify", verify)] {
        for name in ["MessageType", "DryRun", "GrantTokens"] {
            let mut with = body.clone();
            with[name] = Value::Null;
            let answer = in_kms_form(&alice, operation, &with).await;
            assert_eq!(answer.status, 200, "{operation} {name}: {}", answer.text);
        }
        for name in body.as_object().unwrap().keys() {
            let mut without = body.clone();
            without[name] = Value::Null;
            assert_eq!(
                in_kms_form(&alice, operation, &without).await.status,
                400,
                "{operation} {name}"
            );
        }
    }
}

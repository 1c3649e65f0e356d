//! The wire form itself, at the door with certificates and at local ones.

use http::Method;
use serde_json::{Value, json};
use system_tests::client::local;
use system_tests::{Answer, Client, Kind, World};

use super::with_key_pair;
use crate::ALICE;

const AMZ_JSON: (&str, &str) = ("content-type", "application/x-amz-json-1.1");

fn body() -> String {
    json!({"KeyId": "ec", "Message": "aGk=", "SigningAlgorithm": "ECDSA_SHA_256"}).to_string()
}

async fn ask(client: &Client, target: &str, body: String) -> Answer {
    let headers = [AMZ_JSON, ("x-amz-target", target)];
    client.send(Method::POST, "/", &headers, body).await.unwrap()
}

#[tokio::test]
async fn with_a_certificate_a_signature_of_aws_is_not_looked_at() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    for client in [proxy.client(ALICE).await, proxy.http2_client(ALICE).await] {
        let plain = ask(&client, "TrentService.Sign", body()).await;
        assert_eq!(plain.status, 200, "{plain:?}");
        let headers = [
            AMZ_JSON,
            ("x-amz-target", "TrentService.Sign"),
            ("authorization", "AWS4-HMAC-SHA256 Credential=nobody"),
        ];
        let signed = client.send(Method::POST, "/", &headers, body()).await.unwrap();
        assert_eq!(signed.status, 200, "{signed:?}");
        assert_eq!(signed.header("content-type"), "application/x-amz-json-1.1");
        assert!(!signed.header("x-amzn-requestid").is_empty());
        assert!(!signed.header("date").is_empty());
        let fields: Vec<_> = signed.body.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["KeyId", "Signature", "SigningAlgorithm"]);
        for target in ["TrentService.Decrypt", "TrentService.", "Sign", "DynamoDB_20120810.Query"] {
            let answer = ask(&client, target, body()).await;
            assert_eq!(answer.status, 400, "{target}");
            assert_eq!(answer.body["__type"], "UnsupportedOperationException", "{target}");
            assert!(!answer.header("x-amzn-requestid").is_empty());
        }
        let answer = client.send(Method::POST, "/", &[AMZ_JSON], body()).await.unwrap();
        assert_eq!(answer.body["__type"], "UnsupportedOperationException");
        let kind = [("content-type", "text/plain"), ("x-amz-target", "TrentService.Sign")];
        let answer = client.send(Method::POST, "/", &kind, body()).await.unwrap();
        assert_eq!(answer.body["__type"], "ValidationException", "{answer:?}");
        let answer = ask(&client, "TrentService.Sign", "{".to_owned()).await;
        assert_eq!(answer.body["__type"], "ValidationException", "{answer:?}");
    }
}

#[tokio::test]
async fn without_a_proof_a_door_with_key_pairs_says_so_in_kmss_words() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().signer("ec", &key).caller("local:sdk", &["ec"]);
    let proxy = with_key_pair(&world, builder).start().await;
    let target = ("x-amz-target", "TrentService.Sign");
    for (more, code) in [
        (vec![], "MissingAuthenticationTokenException"),
        (vec![("authorization", "AWS4-HMAC-SHA256 Credential=x")], "IncompleteSignatureException"),
        (vec![("authorization", "Bearer x")], "IncompleteSignatureException"),
        (vec![("origin", "http://evil.example")], "UnrecognizedClientException"),
    ] {
        let headers = [&[AMZ_JSON, target], &more[..]].concat();
        let answer = local(&proxy.local[0], "POST", "/", &headers, body()).await;
        assert_eq!((answer.status, &answer.body["__type"]), (400, &json!(code)), "{more:?}");
        assert_ne!(answer.body["message"], Value::Null);
    }
}

#[tokio::test]
async fn a_list_takes_its_own_fields_and_nothing_else() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let client = proxy.client(ALICE).await;
    for list in ["ListKeys", "ListAliases"] {
        let target = format!("TrentService.{list}");
        for (body, status) in [
            ("", 200),
            ("{}", 200),
            (r#"{"Limit": 1, "Marker": "x"}"#, 200),
            (r#"["x"]"#, 400),
            (r#"{"Limit": 1, "Limit": 2}"#, 400),
            (r#"{"Limit": "x"}"#, 400),
            (r#"{"Limits": 1}"#, 400),
            ("{", 400),
        ] {
            let answer = ask(&client, &target, body.to_owned()).await;
            assert_eq!(answer.status, status, "{list} {body}: {answer:?}");
        }
        // One key's aliases can be asked for.
        let answer = ask(&client, &target, r#"{"KeyId": "ec"}"#.to_owned()).await;
        assert_eq!(answer.status, if list == "ListAliases" { 200 } else { 400 }, "{answer:?}");
    }
}

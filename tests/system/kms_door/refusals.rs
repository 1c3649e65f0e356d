//! What is refused, in KMS's own words: one request each, but for throttling.

use serde_json::{Value, json};
use system_tests::{Fault, Kind, Proxy, World};

use super::{ID, SECRET, Sdk, with_key_pair};

fn sign(kid: &str, algorithm: &str) -> Value {
    json!(["sign", {"KeyId": kid, "Message": {"b64": "aGk="}, "SigningAlgorithm": algorithm}])
}

#[track_caller]
fn refused(result: &Value, code: &str, word: &str) {
    assert_eq!(result["error"], code, "{result:#}");
    let message = result["message"].as_str().unwrap();
    assert!(message.starts_with(word), "{word}: {message}");
    assert_eq!(result["requests"], 1, "{result:#}");
}

#[tokio::test]
async fn each_refusal_is_an_exception_that_boto3_does_not_send_again() {
    each_refusal_is_an_exception_that_is_not_sent_again(Sdk::Boto3).await;
}

#[tokio::test]
async fn each_refusal_is_an_exception_that_the_node_sdk_does_not_send_again() {
    each_refusal_is_an_exception_that_is_not_sent_again(Sdk::Node).await;
}

#[tokio::test]
async fn each_refusal_is_an_error_that_the_command_line_does_not_send_again() {
    each_refusal_is_an_exception_that_is_not_sent_again(Sdk::CommandLine).await;
}

async fn each_refusal_is_an_exception_that_is_not_sent_again(sdk: Sdk) {
    let world = World::new();
    let [key, other] = [world.kms.key(Kind::P256), world.kms.key(Kind::P256)];
    let builder = world.proxy().rare_canaries().signer("ec", &key).signer("other", &other);
    let builder = builder.caller("local:sdk", &["ec"]).caller("local:else", &["other"]);
    let proxy = with_key_pair(&world, builder).start().await;
    let place = &proxy.local[0];
    let ask = |calls: Value| sdk.ask(place, (ID, SECRET), &calls);
    let of_digest = |algorithm: &str| {
        json!(["sign", {"KeyId": "ec", "Message": {"b64": "aGk="}, "MessageType": "DIGEST",
            "SigningAlgorithm": algorithm}])
    };
    let answers = ask(json!([
        sign("none", "ECDSA_SHA_256"),
        sign("other", "ECDSA_SHA_256"),
        sign("ec", "ECDSA_SHA_384"),
        sign("ec", "SM2DSA"),
        of_digest("ECDSA_SHA_256"),
        ["create_key", {}],
        ["schedule_key_deletion", {"KeyId": "ec"}],
        ["get_public_key", {"KeyId": "none"}],
        ["sign", {"KeyId": "ec", "Message": {"b64": "aGk="}, "SigningAlgorithm": "ECDSA_SHA_256", "DryRun": true}],
        ["sign", {"KeyId": "other", "Message": {"b64": "aGk="}, "SigningAlgorithm": "ECDSA_SHA_256", "DryRun": true}],
    ]));
    let calls = key.calls(system_tests::Operation::Sign);
    for (answer, code, word) in [
        (&answers[0], "NotFoundException", "signer_unknown"),
        (&answers[1], "AccessDeniedException", "caller_not_authorized"),
        (&answers[2], "InvalidKeyUsageException", "algorithm_not_supported"),
        (&answers[3], "InvalidKeyUsageException", "algorithm_not_supported"),
        (&answers[4], "ValidationException", "invalid_digest"),
        (&answers[5], "UnsupportedOperationException", "not_found"),
        (&answers[6], "UnsupportedOperationException", "not_found"),
        (&answers[7], "NotFoundException", "signer_unknown"),
        (&answers[8], "DryRunOperationException", "The request would have been granted"),
        (&answers[9], "AccessDeniedException", "caller_not_authorized"),
    ] {
        refused(answer, code, word);
    }
    assert_eq!(key.calls(system_tests::Operation::Sign), calls, "nothing was signed");

    // Who calls is not proved.
    let pairs = [
        (("AKIANOBODY0000000000", SECRET), "UnrecognizedClientException"),
        ((ID, "another secret"), "InvalidSignatureException"),
    ];
    for (pair, code) in pairs {
        let answers = sdk.ask(place, pair, &json!([sign("ec", "ECDSA_SHA_256")]));
        refused(&answers[0], code, "unauthenticated");
    }

    // It may have been signed.
    key.break_with(Fault::Hang);
    let answers = ask(json!([sign("ec", "ECDSA_SHA_256")]));
    refused(&answers[0], "KMSInternalException", "indeterminate");
    assert!(answers[0]["message"].as_str().unwrap().ends_with("may have been signed all the same"));
    assert_eq!(answers[0]["status"], 400);
    key.mend();

    // What lasts is told at once, and ends.
    freeze(&proxy, true).await;
    let answers = ask(json!([sign("ec", "ECDSA_SHA_256")]));
    refused(&answers[0], "KMSInvalidStateException", "frozen");
    freeze(&proxy, false).await;
    let answers = ask(json!([sign("ec", "ECDSA_SHA_256")]));
    assert!(answers[0]["ok"].is_object(), "{answers:#?}");
}

async fn freeze(proxy: &Proxy<'_>, on: bool) {
    let (path, body) = match on {
        true => ("/v1/freeze", json!({"reason": "incident 7"})),
        false => ("/v1/unfreeze", json!({"reason": "over"})),
    };
    assert_eq!(proxy.admin("POST", path, body).await.status, 200);
}

#[tokio::test]
async fn throttling_is_the_one_refusal_that_is_sent_again() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().rare_canaries().signer("ec", &key).caller("local:sdk", &["ec"]);
    let proxy = with_key_pair(&world, builder.rate("local:sdk", 1, 1)).start().await;
    let calls: Vec<_> = (0..4).map(|_| sign("ec", "ECDSA_SHA_256")).collect();
    for sdk in Sdk::SCRIPTED {
        let answers = sdk.ask(&proxy.local[0], (ID, SECRET), &json!(calls));
        let requests: u64 = answers.iter().map(|answer| answer["requests"].as_u64().unwrap()).sum();
        assert!(requests > 4, "{sdk:?}: {answers:#?}");
        for answer in &answers {
            let throttled = answer["error"] == "ThrottlingException";
            assert!(answer["ok"].is_object() || throttled, "{sdk:?}: {answer:#}");
        }
    }
}

#[tokio::test]
async fn the_command_line_sends_again_what_is_throttled() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().rare_canaries().signer("ec", &key).caller("local:sdk", &["ec"]);
    let proxy = with_key_pair(&world, builder).start().await;
    key.break_with(Fault::Error("ThrottlingException", 400));
    let calls = json!([sign("ec", "ECDSA_SHA_256")]);
    let [answer] = &Sdk::CommandLine.ask(&proxy.local[0], (ID, SECRET), &calls)[..] else {
        panic!()
    };
    assert_eq!(
        (&answer["error"], &answer["requests"]),
        (&json!("ThrottlingException"), &json!(2)),
        "{answer:#}"
    );
    assert!(answer["message"].as_str().unwrap().starts_with("upstream_throttled"), "{answer:#}");
}

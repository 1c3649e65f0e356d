//! Unmodified clients of KMS sign, verify, fetch keys and describe keys.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use system_tests::{Kind, World, journal};

use super::{ID, SECRET, Sdk, environment, with_key_pair};

const MESSAGE: &[u8] = b"hello";

fn bytes(bytes: &[u8]) -> Value {
    json!({"b64": STANDARD.encode(bytes)})
}

/// What went well, or what did not.
#[track_caller]
fn ok(result: &Value) -> &Value {
    assert!(result["ok"].is_object(), "{result:#}");
    assert_eq!(result["requests"], 1, "{result:#}");
    &result["ok"]
}

#[tokio::test]
async fn boto3_signs_verifies_fetches_and_describes_with_environment_variables_only() {
    signs_verifies_fetches_and_describes(Sdk::Boto3).await;
}

#[tokio::test]
async fn the_node_sdk_signs_verifies_fetches_and_describes_with_environment_variables_only() {
    signs_verifies_fetches_and_describes(Sdk::Node).await;
}

async fn signs_verifies_fetches_and_describes(sdk: Sdk) {
    let world = World::new();
    let keys = [
        ("ec", world.kms.key(Kind::P256), "ECC_NIST_P256", "ECDSA_SHA_256"),
        ("ed", world.kms.key(Kind::Ed25519), "ECC_NIST_EDWARDS25519", "ED25519_SHA_512"),
        ("rsa", world.kms.key(Kind::Rsa2048), "RSA_2048", "RSASSA_PSS_SHA_256"),
    ];
    let builder =
        keys.iter().fold(world.proxy(), |builder, (kid, key, ..)| builder.signer(kid, key));
    let builder = builder.caller("local:sdk", &["ec", "ed", "rsa"]);
    let proxy = with_key_pair(&world, builder).start().await;
    let place = &proxy.local[0];
    let digested = digest(&SHA256, MESSAGE);
    for (kid, key, spec, algorithm) in &keys {
        let arguments = |kind: &str, message: &[u8]| {
            json!({"KeyId": kid, "Message": bytes(message), "MessageType": kind,
                "SigningAlgorithm": algorithm})
        };
        let with = |mut arguments: Value, signature: &str| {
            arguments["Signature"] = json!({"b64": signature});
            arguments
        };
        // A digest is no message type of Ed25519, as with KMS.
        let second =
            if *kid == "ed" { ("RAW", digested.as_ref()) } else { ("DIGEST", digested.as_ref()) };
        let forms = [("RAW", MESSAGE), second];
        let calls: Vec<_> =
            forms.iter().map(|(kind, message)| json!(["sign", arguments(kind, message)])).collect();
        let signed = sdk.ask(place, (ID, SECRET), &json!(calls));
        let mut calls = Vec::new();
        for ((kind, message), signed) in forms.iter().zip(&signed) {
            let signed = ok(signed);
            assert_eq!(
                (&signed["KeyId"], &signed["SigningAlgorithm"]),
                (&json!(kid), &json!(algorithm))
            );
            let signature = signed["Signature"].as_str().unwrap();
            calls.push(json!(["verify", with(arguments(kind, message), signature)]));
            let mut other = STANDARD.decode(signature).unwrap();
            *other.last_mut().unwrap() ^= 1;
            calls.push(json!(["verify", with(arguments(kind, message), &STANDARD.encode(other))]));
        }
        calls.push(json!(["get_public_key", {"KeyId": kid}]));
        calls.push(json!(["describe_key", {"KeyId": kid}]));
        let answers = sdk.ask(place, (ID, SECRET), &json!(calls));
        for pair in answers[..4].chunks(2) {
            assert_eq!(ok(&pair[0])["SignatureValid"], true);
            assert_eq!(pair[1]["error"], "KMSInvalidSignatureException", "{}", pair[1]);
            assert_eq!(pair[1]["requests"], 1);
        }
        let public = ok(&answers[4]);
        let pem = key.public_key_pem.replace("-----BEGIN PUBLIC KEY-----", "");
        let pem = pem.replace("-----END PUBLIC KEY-----", "").replace(['\n', '\r'], "");
        assert_eq!(public["PublicKey"], pem, "{kid}");
        assert_eq!(
            (&public["KeySpec"], &public["KeyUsage"]),
            (&json!(spec), &json!("SIGN_VERIFY"))
        );
        let described = &ok(&answers[5])["KeyMetadata"];
        assert_eq!((&described["KeyId"], &described["KeyState"]), (&json!(kid), &json!("Enabled")));
        assert_eq!((&described["KeySpec"], &described["Enabled"]), (&json!(spec), &json!(true)));
        let named = described["SigningAlgorithms"].as_array().unwrap();
        assert!(named.contains(&json!(algorithm)), "{described}");
    }
    let records = journal::read(&world.scratch.path("proxy/journal"), "signed");
    assert_eq!(records.len(), 6);
    for record in records {
        assert_eq!(
            (&record["record"]["data"]["door"], &record["record"]["data"]["caller"]),
            (&json!("local"), &json!("local:sdk"))
        );
    }
}

#[tokio::test]
async fn the_command_line_of_aws_signs_and_verifies() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().signer("ec", &key).caller("local:sdk", &["ec"]);
    let proxy = with_key_pair(&world, builder).start().await;
    let message = world.scratch.write("message", MESSAGE);
    let message = format!("fileb://{}", message.display());
    let aws = |arguments: &[&str]| {
        let mut command = journal::python("tests/kms/aws.py");
        environment(&mut command, &proxy.local[0], (ID, SECRET));
        command.env("HOME", world.scratch.path(""));
        let output =
            command.arg("kms").args(arguments).args(["--output", "json"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let of = ["--key-id", "ec", "--signing-algorithm", "ECDSA_SHA_256", "--message", &message];
    let signed = aws(&[&["sign"], &of[..]].concat());
    let signature = STANDARD.decode(signed["Signature"].as_str().unwrap()).unwrap();
    let file = world.scratch.write("signature", signature);
    let signature = format!("fileb://{}", file.display());
    let verified = aws(&[&["verify"], &of[..], &["--signature", &signature]].concat());
    assert_eq!(verified["SignatureValid"], true, "{verified}");
    let described = aws(&["describe-key", "--key-id", "ec"]);
    assert_eq!(described["KeyMetadata"]["KeyId"], "ec");
    let keys = aws(&["list-keys"]);
    assert_eq!(keys["Keys"][0]["KeyId"], "ec");
    assert_eq!(aws(&["list-aliases"])["Aliases"], json!([]));
}

//! Receipts that stand alone: an answer with its record and proof is verified without the journal, and
//! whatever is changed in it is found.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use system_tests::{Client, Kind, World, journal::python, programs::ours};

use crate::ALICE;

const MESSAGE: &[u8] = b"release 1.2.3";

pub(crate) async fn ask(
    client: &Client,
    path: &str,
    form: &str,
    body: &Value,
) -> system_tests::Answer {
    let headers = [("content-type", "application/json"), ("signing-receipt", form)];
    client.send(Method::POST, path, &headers, body.to_string()).await.unwrap()
}

/// What `signctl receipt verify` says of an answer: whether it fits, and its JSON.
pub(crate) fn verified(answer: &Value, registry: &Path, input: Option<&Path>) -> (bool, Value) {
    let file = registry.with_file_name("answer.json");
    std::fs::write(&file, answer.to_string()).unwrap();
    let mut signctl = Command::new(ours("signctl"));
    signctl.args(["--json", "receipt", "verify"]).arg(&file).arg("--signers").arg(registry);
    if let Some(input) = input {
        signctl.arg("--input").arg(input);
    }
    let output = signctl.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = serde_json::from_str(&said).unwrap_or_else(|_| json!({"differs": errors}));
    (output.status.success(), said)
}

/// What the checker that shares no code with us says of a receipt.
pub(crate) fn checked(receipt: &Value, registry: &Path) -> String {
    let path = |name: &str| registry.with_file_name(name);
    std::fs::write(path("proof"), receipt["proof"].as_str().unwrap()).unwrap();
    let record = STANDARD.decode(receipt["record"].as_str().unwrap()).unwrap();
    std::fs::write(path("record"), record).unwrap();
    let named = json!({"log": receipt["log"], "seq": receipt["seq"], "leaf": receipt["leaf"]});
    std::fs::write(path("receipt.json"), named.to_string()).unwrap();
    let mut checker = python("tests/journal/check.py");
    checker.arg("--proof").arg(path("proof")).arg("--record").arg(path("record"));
    checker.arg("--registry").arg(registry).arg("--receipt").arg(path("receipt.json"));
    let output = checker.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Each place of a value that holds no other.
pub(crate) fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                places(member, &format!("{at}/{name}"), found);
            }
        }
        _ => found.push(at.to_owned()),
    }
}

/// The value with a little changed in it.
pub(crate) fn changed(value: &Value, number: usize) -> Value {
    match value {
        Value::String(text) => {
            let mut letters: Vec<char> = text.chars().collect();
            let at = number % letters.len();
            letters[at] = if letters[at] == 'A' { 'B' } else { 'A' };
            Value::String(letters.into_iter().collect())
        }
        Value::Number(seq) => json!(seq.as_u64().unwrap() + 1 + number as u64),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_receipt_is_verified_without_the_journal_and_every_change_is_found() {
    let world = World::new();
    let (ec, rsa, ed) =
        (world.kms.key(Kind::P256), world.kms.key(Kind::Rsa2048), world.kms.key(Kind::Ed25519));
    let signers = ["ec", "rsa", "ed"];
    let builder = world.proxy().signer("ec", &ec).signer("rsa", &rsa).signer("ed", &ed);
    let proxy = builder.caller(ALICE, &signers).start().await;
    let alice = proxy.client(ALICE).await;
    let input = world.scratch.path("input");
    std::fs::write(&input, MESSAGE).unwrap();
    let registry = world.scratch.path("proxy/signers.json");
    let mut answers = Vec::new();
    for kid in signers {
        // Beside others, so that their records share a checkpoint.
        let body = json!({"signer_kid": kid, "message": STANDARD.encode(MESSAGE)});
        let (answer, ..) = tokio::join!(
            ask(&alice, "/v1/sign", "proof", &body),
            alice.sign_message("ec", b"another"),
            alice.sign_message("ed", b"one more"),
        );
        assert_eq!(answer.status, 200, "{}", answer.text);
        answers.push(answer.body);
    }
    // Nothing of the journal is needed from here on.
    proxy.stop().await;
    let away = world.scratch.path("away");
    std::fs::create_dir(&away).unwrap();
    std::fs::copy(&registry, away.join("signers.json")).unwrap();
    let registry = away.join("signers.json");
    std::fs::remove_dir_all(world.proxy().journal()).unwrap();
    for answer in &answers {
        let kid = answer["signer_kid"].as_str().unwrap();
        let (fits, said) = verified(answer, &registry, Some(&input));
        assert!(fits && said["ok"] == json!(true) && said["caller"] == ALICE, "{kid}: {said}");
        assert!(said["signature"].as_str().unwrap().contains("over the input"), "{kid}: {said}");
        assert!(verified(answer, &registry, None).0, "{kid}");
        assert!(checked(&answer["audit"], &registry).contains("\"ok\": true"));
        let mut all = Vec::new();
        places(answer, "", &mut all);
        assert!(all.len() >= 11, "{all:?}");
        for place in all.iter().filter(|place| *place != "/ts") {
            for number in [0, 3, 40] {
                let mut other = answer.clone();
                let member = other.pointer_mut(place).unwrap();
                *member = changed(member, number);
                let (fits, said) = verified(&other, &registry, Some(&input));
                let differs = said["differs"].as_str().unwrap_or_default();
                assert!(!fits && differs.len() > 10, "{kid}{place} {number}: {said}");
            }
        }
        // A member too few, one too many, and another input.
        let mut without = answer.clone();
        without["audit"].as_object_mut().unwrap().remove("proof");
        let (fits, said) = verified(&without, &registry, None);
        assert!(!fits && said["differs"].as_str().unwrap().contains("Signing-Receipt"), "{said}");
        let mut with = answer.clone();
        with["caller"] = json!("spiffe://test/mallory");
        assert!(!verified(&with, &registry, None).0);
        let (fits, said) = verified(answer, &registry, Some(&registry));
        assert!(!fits && said["differs"].as_str().unwrap().contains("--input"), "{said}");
    }
    // The record of one answer in another.
    let mut mixed = answers[0].clone();
    mixed["audit"] = answers[1]["audit"].clone();
    let (fits, said) = verified(&mixed, &registry, None);
    assert!(!fits && said["differs"].as_str().unwrap().contains("signer_kid"), "{said}");
}

#[tokio::test]
async fn a_receipt_comes_in_every_dialect_to_who_asks_and_in_no_other_form() {
    let world = World::new();
    let proxy =
        world.proxy().signer("ec", &world.kms.key(Kind::P256)).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    let message = STANDARD.encode(MESSAGE);
    for (path, body) in [
        ("/sign", json!({"hash": "5a".repeat(32)})),
        ("/sign", json!({"payload_b64": message})),
        ("/sign", json!({"digest_hex": "5a".repeat(32)})),
        ("/signData", json!({"signerId": "ec", "data": "hello"})),
        ("/sign/canonical", json!({"canonical": "{}"})),
    ] {
        let answer = ask(&alice, path, "proof", &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let proof = answer.body["audit"]["proof"].as_str().unwrap_or_default();
        assert!(proof.starts_with("c2sp.org/tlog-proof@v1\nindex "), "{path}: {}", answer.text);
        let without = alice.post(path, &body).await;
        assert!(without.body.get("audit").is_none(), "{path}: {}", without.text);
    }
    let body = json!({"message": message});
    let answer = ask(&alice, "/v1/sign", "full", &body).await;
    assert_eq!((answer.status, answer.reason()), (400, "invalid_request"), "{}", answer.text);
    let plain = alice.post("/v1/sign", &body).await;
    assert!(plain.body["audit"].get("proof").is_none(), "{}", plain.text);
}

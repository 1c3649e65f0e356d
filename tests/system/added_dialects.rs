//! Dialects by configuration: a control panel sends its digest in a field that nobody else has.

use std::fmt::Write as _;

use serde_json::{Value, json};
use system_tests::{World, openssl};

use crate::ALICE;
use crate::config_files::{check, said};

const PANEL: &str = "[[dialects]]\ndigest_field = \"manifestHash\"\necho_field = \"upgradeId\"\n";
const BARE: &str = "[[dialects]]\ndigest_field = \"sum\"\n";
/// `sha256sum` of `hello`.
const HASH: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[tokio::test]
async fn a_control_panel_signs_with_its_own_fields() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let proxy = builder.tables(PANEL).tables(BARE).start().await;
    let alice = proxy.client(ALICE).await;
    for id in [json!("up-7"), json!(7), json!({"a": [null]})] {
        let request =
            json!({"upgradeId": id, "manifestHash": HASH, "target": "x", "approvers": [1]});
        let answer = alice.post("/sign", &request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(openssl::verifies(&key, b"hello", &answer.signature()));
        let mut names: Vec<_> = answer.body.as_object().unwrap().keys().cloned().collect();
        names.sort();
        assert_eq!(names, ["algorithm", "mode", "signature", "signer_kid", "ts", "upgradeId"]);
        let of = |name: &str| answer.body[name].clone();
        assert_eq!(
            [of("upgradeId"), of("signer_kid"), of("mode"), of("algorithm")],
            [id, json!("ec"), json!("normal"), json!("ECDSA_SHA_256")]
        );
    }
    for request in [json!({"manifestHash": HASH}), json!({"sum": HASH, "upgradeId": 1})] {
        let answer = alice.post("/sign", &request).await;
        assert_eq!((answer.status, &answer.body["upgradeId"]), (200, &Value::Null), "{request}");
    }
    for (request, reason) in [
        (json!({"manifestHash": HASH, "hash": HASH}), "invalid_request"),
        (json!({"manifestHash": HASH, "sum": HASH}), "invalid_request"),
        (json!({"manifestHash": 7}), "invalid_request"),
        (json!({"manifestHash": null}), "invalid_request"),
        (json!({"manifestHash": &HASH[1..]}), "invalid_digest"),
        (json!({"manifesthash": HASH}), "invalid_request"),
        (json!({"upgradeId": HASH}), "invalid_request"),
    ] {
        let answer = alice.post("/sign", &request).await;
        assert_eq!((answer.status, answer.reason()), (400, reason), "{request}: {answer:?}");
    }
    // Elsewhere it is an unknown field, as before.
    let answer = alice.post("/sign/hash", &json!({"digest_hex": HASH, "manifestHash": 7})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_field_that_has_a_meaning_already_is_a_mistake() {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    let sound = std::fs::read_to_string(&config).unwrap();
    for (lines, wanted) in [
        ("", "dialects[0].digest_field: is missing"),
        ("digest_field = \"hash\"", "digest_field: is \"hash\", which another dialect reads"),
        ("digest_field = \"payload\"", "digest_field: is \"payload\", which another dialect reads"),
        ("digest_field = \"a b\"", "digest_field: is \"a b\", expected 1 to 64 letters"),
        ("digest_field = \"a\"\necho_field = \"a\"", "echo_field: is \"a\", which is the digest's"),
        ("digest_field = \"a\"\necho_field = \"mode\"", "echo_field: is \"mode\", which is"),
        (
            "digest_field = \"a\"\necho_field = \"\"",
            "echo_field: is \"\", expected 1 to 64 letters",
        ),
        (
            "digest_field = \"a\"\n[[dialects]]\ndigest_field = \"a\"",
            "dialects[1].digest_field: is \"a\", which another dialect reads",
        ),
        ("digest_field = \"a\"\nfield = 1", "field: no such key; known here"),
    ] {
        let mut text = sound.clone();
        write!(text, "\n[[dialects]]\n{lines}\n").unwrap();
        std::fs::write(&config, text).unwrap();
        let output = check(&config, &[]);
        let said = said(&output);
        assert!(!output.status.success() && said.contains(wanted), "{lines}\n{wanted}\n{said}");
    }
}

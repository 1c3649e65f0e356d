//! Receipts of emergency signatures: each has the emergency signer's own record and proof beside the
//! proxy's, stands alone, and whatever is changed in it is found.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use system_tests::{Answer, Client};

use super::{KID, Site, end};
use crate::ALICE;
use crate::receipts::{ask, changed, checked, places, verified};

const MESSAGE: &[u8] = b"release 1.2.3";

fn differs(said: &Value) -> &str {
    said["differs"].as_str().unwrap_or_default()
}

async fn keyed(client: &Client, receipt: bool) -> Answer {
    let body = json!({"signer_kid": KID, "message": STANDARD.encode(MESSAGE)}).to_string();
    let mut headers = vec![("content-type", "application/json"), ("idempotency-key", "one")];
    headers.extend(receipt.then_some(("signing-receipt", "proof")));
    client.send(Method::POST, "/v1/sign", &headers, body).await.unwrap()
}

#[tokio::test]
async fn i7_a_receipt_of_an_emergency_signature_has_both_records_and_every_change_is_found() {
    let site = Site::new();
    let (signer, proxy, _) = site.in_session().await;
    let alice = proxy.client(ALICE).await;
    let body = json!({"signer_kid": KID, "message": STANDARD.encode(MESSAGE)});
    let (answer, other, ..) = tokio::join!(
        ask(&alice, "/v1/sign", "proof", &body),
        ask(&alice, "/v1/sign", "proof", &body),
        alice.sign_message(KID, b"another"),
    );
    assert_eq!(answer.status, 200, "{}", answer.text);
    let (answer, other) = (answer.body, other.body);
    let dialect =
        ask(&alice, "/signData", "proof", &json!({"signerId": KID, "data": "hello"})).await;
    assert!(dialect.body["audit"]["signer"]["proof"].is_string(), "{}", dialect.text);
    let plain = alice.sign_message(KID, b"plain").await;
    assert!(plain.body["audit"].get("signer").is_none(), "{}", plain.text);
    // What is given out again can be asked for with its receipt, though it was signed without.
    let (first, again) = (keyed(&alice, false).await, keyed(&alice, true).await);
    assert_eq!(first.body["signature"], again.body["signature"], "{}", again.text);
    assert_eq!(end(&proxy).await.status, 200);

    // Nothing of the journals is needed from here on.
    let away = site.world.scratch.path("away");
    std::fs::create_dir(&away).unwrap();
    let registry = away.join("signers.json");
    std::fs::copy(site.world.scratch.path("proxy/signers.json"), &registry).unwrap();
    let input = away.join("input");
    std::fs::write(&input, MESSAGE).unwrap();
    proxy.stop().await;
    std::fs::remove_dir_all(signer.builder.journal()).unwrap();
    for answer in [&answer, &again.body] {
        let (fits, said) = verified(answer, &registry, Some(&input));
        assert!(fits && said["ok"] == json!(true) && said["caller"] == ALICE, "{said}");
        assert_eq!(said["breakglass_signer"]["seq"], answer["audit"]["signer"]["seq"], "{said}");
        assert!(checked(&answer["audit"], &registry).contains("\"ok\": true"));
        assert!(checked(&answer["audit"]["signer"], &registry).contains("\"ok\": true"));
    }
    let mut all = Vec::new();
    places(&answer, "", &mut all);
    assert!(all.len() >= 19, "{all:?}");
    assert_eq!(all.iter().filter(|place| place.starts_with("/audit/signer/")).count(), 5);
    // The proxy's record says nothing of these two.
    for place in all.iter().filter(|place| !["/ts", "/breakglass/expires_at"].contains(&&***place))
    {
        for number in [0, 3, 40] {
            let mut bad = answer.clone();
            let member = bad.pointer_mut(place).unwrap();
            *member = changed(member, number);
            let (fits, said) = verified(&bad, &registry, Some(&input));
            assert!(!fits && differs(&said).len() > 10, "{place} {number}: {said}");
        }
    }
    // The emergency signer's record of another signature, the proxy's in its place, and none.
    let mut mixed = answer.clone();
    mixed["audit"]["signer"] = other["audit"]["signer"].clone();
    let (fits, said) = verified(&mixed, &registry, Some(&input));
    assert!(!fits && differs(&said).contains("signer_record"), "{said}");
    let mut own = answer.clone();
    own["audit"]["signer"] = own["audit"].clone();
    let (fits, said) = verified(&own, &registry, Some(&input));
    assert!(!fits && differs(&said).contains("audit.signer"), "{said}");
    let mut without = answer.clone();
    without["audit"].as_object_mut().unwrap().remove("signer");
    let (fits, said) = verified(&without, &registry, Some(&input));
    assert!(!fits && differs(&said).contains("audit.signer is missing"), "{said}");
    // By a registry that lacks the emergency signer's audit key.
    let mut entries: Value = serde_json::from_slice(&std::fs::read(&registry).unwrap()).unwrap();
    entries["signers"].as_array_mut().unwrap().retain(|one| one["signer_kid"] != "signer-audit");
    std::fs::write(&registry, entries.to_string()).unwrap();
    let (fits, said) = verified(&answer, &registry, Some(&input));
    assert!(!fits && differs(&said).contains("audit.signer.proof"), "{said}");
}

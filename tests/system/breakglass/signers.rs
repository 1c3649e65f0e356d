//! A session and a reload of the signers that it replaces.

use serde_json::{Value, json};
use system_tests::breakglass::SOCKET;

use super::{KID, OTHER, Site};
use crate::ALICE;

#[tokio::test]
async fn a_signer_that_a_session_replaces_is_not_taken_out_under_it() {
    let site = Site::new();
    let (signer, proxy, session) = site.in_session().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message(KID, b"hi").await.body["mode"], "breakglass");
    let lines = format!("signer_socket = \"{SOCKET}\"\nmin_outage_s = 1\n");
    let without = site.world.proxy().signer(OTHER, &site.other).caller(ALICE, &[OTHER]);
    let without = without.breakglass(&lines);
    let entries = signer.builder.registry_entries();
    let without = entries.into_iter().fold(without, |builder, entry| builder.registered(entry));
    let _ = without.write();
    let answer = proxy.admin("POST", "/v1/reload", json!({})).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let mistakes: Vec<String> = serde_json::from_value(answer.body["mistakes"].clone()).unwrap();
    let [mistake] = mistakes.as_slice() else { panic!("{mistakes:?}") };
    let session = session["session"].as_str().unwrap();
    let named = mistake.contains(&format!("{KID:?} would be taken out"));
    assert!(named && mistake.contains(session) && mistake.contains("end the session"), "{mistake}");
    assert_eq!(alice.sign_message(KID, b"hi").await.body["mode"], "breakglass");
    // Without the session it is taken out.
    let ended = proxy.admin("POST", "/v1/breakglass/end", json!({"reason": "tried"})).await;
    assert_eq!(ended.status, 200, "{ended:?}");
    let answer = proxy.admin("POST", "/v1/reload", json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(alice.sign_message(KID, b"hi").await.reason(), "signer_unknown");
    let status = proxy.admin("GET", "/v1/status", Value::Null).await;
    assert_eq!(status.body["signers"].as_array().unwrap().len(), 1);
}

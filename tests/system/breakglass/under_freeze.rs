//! A session under the general freeze: the freeze comes first, and break-glass later. Both processes have
//! to agree that its approvers named that freeze.

use serde_json::{Value, json};
use system_tests::breakglass::EMERGENCY_KID;
use system_tests::{Proxy, journal};

use super::{
    KID, OTHER, Site, activate, activated, ended_at, ended_for, over, records, refused, status,
};
use crate::ALICE;

/// Freezes; the name of the freeze.
async fn freeze(proxy: &Proxy<'_>, reason: &str) -> String {
    let froze = proxy.admin("POST", "/v1/freeze", json!({"reason": reason})).await;
    assert_eq!((froze.status, &froze.body["frozen"]), (200, &json!(true)), "{}", froze.text);
    froze.body["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn i5_a_session_signs_under_the_freeze_that_its_approvers_named_and_a_new_freeze_ends_it() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    site.out(&proxy).await;
    let id = freeze(&proxy, "INC-7: KMS is down").await;
    assert_eq!(status(&proxy).await["freeze"]["id"], json!(id));
    let mut request = signer.request();
    request["under_freeze"] = json!(id);
    let session = activated(&signer, &proxy, &request).await;
    assert_eq!(session["under_freeze"], json!(id));

    // The signer that it stands in for signs. The other one's gate is open, and frozen.
    let alice = proxy.client(ALICE).await;
    let signed = alice.sign_message(KID, b"hi").await;
    assert_eq!(
        (signed.status, &signed.body["mode"]),
        (200, &json!("breakglass")),
        "{}",
        signed.text
    );
    assert_eq!(signed.body["signer_kid"], EMERGENCY_KID);
    let other = alice.sign_message(OTHER, b"hi").await;
    assert_eq!((other.status, other.reason()), (503, "frozen"), "{}", other.text);
    let health = proxy.health().await.body;
    let said =
        [&health["ok"], &health["frozen"], &health["mode"], &health["breakglass"]["under_freeze"]];
    assert_eq!(said, [&json!(false), &json!(true), &json!("breakglass"), &json!(id)], "{health}");
    let (_, words, _) = proxy.signctl(&["status"]);
    assert!(words.contains(&format!("signs under the freeze {id}")), "{words}");

    // Both journals say under which freeze.
    let activation = &records(&site.world.scratch.path("proxy/journal"), "activation")[0];
    assert_eq!(activation["under_freeze"], json!(id), "{activation}");
    let begun = &records(&signer.builder.journal(), "session_activated")[0];
    assert_eq!(
        (&begun["under_freeze"], &begun["proxy_freeze"]),
        (&json!(id), &json!(id)),
        "{begun}"
    );

    // A new freeze ends it, in both processes.
    let new = freeze(&proxy, "stop that too").await;
    assert_ne!(new, id);
    let stopped = alice.sign_message(KID, b"hi").await;
    assert_eq!((stopped.status, stopped.reason()), (503, "frozen"), "{}", stopped.text);
    over(&proxy).await;
    let ended = ended_for(&site, "frozen").await;
    assert_eq!(ended["detail"], json!("frozen anew: stop that too"));
    let ended = &ended_at(&signer, 1).await[0];
    assert_eq!(ended["reason"], "proxy", "{ended}");
    // Nor does the end of the freeze bring it back.
    proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await;
    let after = alice.sign_message(KID, b"hi").await;
    assert_eq!(after.reason(), "upstream_unhealthy", "{}", after.text);
    assert_eq!(journal::read(&signer.builder.journal(), "emergency_signed").len(), 1);
}

#[tokio::test]
async fn i5_a_request_that_names_no_or_another_freeze_begins_nothing_and_uses_up_nothing() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    site.out(&proxy).await;
    let old = freeze(&proxy, "one").await;
    let id = freeze(&proxy, "two").await;
    let mut request = signer.request();
    let unnamed = signer.papers(&request);
    request["under_freeze"] = json!(old);
    let of_the_old = signer.papers(&request);
    signer.unlock().await;
    for (papers, says) in [(&unnamed, "names no freeze"), (&of_the_old, "names another freeze")] {
        let (reason, detail) = refused(&proxy, papers).await;
        assert_eq!(reason, "frozen", "{detail}");
        let how = format!("--under-freeze {id}");
        assert!(detail.contains(says) && detail.contains(&how), "{detail}");
    }
    assert!(records(&signer.builder.journal(), "session_refused").is_empty());
    // Once the freeze has ended, the same papers and the same passphrase do.
    proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await;
    let answer = activate(&proxy, &of_the_old).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(proxy.client(ALICE).await.sign_message(OTHER, b"hi").await.status, 200);
}

#[tokio::test]
async fn a_request_names_the_freeze_in_force_and_says_so_to_whoever_writes_it() {
    let site = Site::new();
    let (_signer, proxy) = site.both().await;
    site.out(&proxy).await;
    let id = freeze(&proxy, "INC-7: KMS is down").await;
    let written = |name: &str, more: &[&str]| {
        let file = site.world.scratch.path(name);
        let words = ["breakglass", "request", "--incident", "INC-7", "--justification", "down"];
        let words = [&words[..], &["--out", file.to_str().unwrap()], more].concat();
        let (code, said, errors) = proxy.signctl(&words);
        assert_eq!(code, 0, "{said}{errors}");
        let request: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        (request["under_freeze"].clone(), said)
    };
    let (named, said) = written("a.json", &[]);
    assert_eq!(named, json!(id));
    assert!(
        said.contains("UNDER THE FREEZE") && said.contains("everything else stays frozen"),
        "{said}"
    );
    let (named, said) = written("b.json", &["--under-freeze", "none"]);
    assert_eq!(named, Value::Null);
    assert!(said.contains("only after signctl unfreeze"), "{said}");
}

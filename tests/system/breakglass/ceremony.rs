//! What an activation through the proxy is refused for, and that a refusal uses up nothing.

use serde_json::{Value, json};
use system_tests::breakglass::EMERGENCY_KID;
use system_tests::{Fault, eventually};

use super::{
    KID, OTHER, Site, activate, activated, connected, end, over, qualifies, records, refused,
    status,
};
use crate::ALICE;

#[tokio::test]
async fn i5_an_activation_while_frozen_says_how_to_go_on_and_uses_up_nothing() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    site.out(&proxy).await;
    let papers = signer.papers(&signer.request());
    signer.unlock().await;
    proxy.admin("POST", "/v1/freeze", json!({"reason": "look first"})).await;
    let (reason, detail) = refused(&proxy, &papers).await;
    assert_eq!(reason, "frozen");
    assert!(detail.contains("look first") && detail.contains("signctl unfreeze"), "{detail}");
    proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await;
    // The same papers and the same passphrase.
    let answer = activate(&proxy, &papers).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(proxy.client(ALICE).await.sign_message(KID, b"hi").await.status, 200);
    let tried = records(&site.world.scratch.path("proxy/journal"), "activation");
    let tried: Vec<_> = tried.iter().map(|data| data["reason"].clone()).collect();
    assert_eq!(tried, ["frozen", "activated"]);
}

#[tokio::test]
async fn i11_no_session_without_an_outage_that_counts_and_is_long_enough() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let lines =
        format!("signer_socket = \"{}\"\nmin_outage_s = 3\n", system_tests::breakglass::SOCKET);
    let builder = site.proxy(signer.builder.registry_entries()).breakglass(&lines);
    let proxy = builder.start().await;
    connected(&proxy).await;
    let papers = signer.papers(&signer.request());
    signer.unlock().await;
    let (reason, detail) = refused(&proxy, &papers).await;
    assert_eq!(reason, "outage_too_short", "{detail}");
    assert!(detail.contains("no outage that counts"), "{detail}");
    // A key that is disabled is something that one person can do: no outage.
    site.key.break_with(Fault::Error("DisabledException", 400));
    proxy.unhealthy_for("key_unavailable").await;
    let (reason, detail) = refused(&proxy, &papers).await;
    assert_eq!(reason, "outage_too_short");
    assert!(detail.contains("no outage that counts"), "{detail}");
    // An outage, but too short.
    site.key.break_with(Fault::Bare503);
    let detail = eventually("an outage that runs", || async {
        let (reason, detail) = refused(&proxy, &papers).await;
        assert_eq!(reason, "outage_too_short");
        detail.contains("it may begin in").then_some(detail)
    })
    .await;
    assert!(detail.contains("needs 3 s"), "{detail}");
    // As soon as the proxy says that it is enough, it is enough.
    qualifies(&proxy).await;
    let answer = activate(&proxy, &papers).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn i11_every_signer_that_is_replaced_has_to_be_out() {
    let site = Site::new();
    let signer = site.signer().replaces(OTHER, &site.other).start().await;
    let proxy = site.proxy(signer.builder.registry_entries()).start().await;
    connected(&proxy).await;
    site.out(&proxy).await;
    signer.unlock().await;
    let (reason, detail) = refused(&proxy, &signer.papers(&signer.request())).await;
    assert_eq!(reason, "outage_too_short");
    assert!(detail.contains(OTHER), "{detail}");
    let mut request = signer.request();
    request["replaces"] = json!([KID, "nobody"]);
    let (reason, _) = refused(&proxy, &signer.papers(&request)).await;
    assert_eq!(reason, "signer_unknown");
    request["replaces"] = json!([KID]);
    assert_eq!(activate(&proxy, &signer.papers(&request)).await.status, 200);
}

#[tokio::test]
async fn i4_no_session_with_a_key_that_the_proxys_registry_lacks_or_has_otherwise() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let entries = signer.builder.registry_entries();
    let audit = entries[1].clone();
    let proxy = site.proxy(vec![audit.clone()]).start().await;
    connected(&proxy).await;
    site.out(&proxy).await;
    let papers = signer.papers(&signer.request());
    signer.unlock().await;
    assert_eq!(refused(&proxy, &papers).await.0, "key_not_registered");
    proxy.stop().await;
    // Another key under its name.
    site.key.mend();
    let mut wrong = entries[0].clone();
    let other = site.world.kms.key(system_tests::Kind::Ed25519);
    wrong["public_key_pem"] = json!(other.public_key_pem);
    let proxy = site.proxy(vec![audit, wrong]).start().await;
    connected(&proxy).await;
    site.out(&proxy).await;
    assert_eq!(refused(&proxy, &papers).await.0, "key_mismatch");
    assert_eq!(records(&signer.builder.journal(), "session_activated").len(), 0);
}

#[tokio::test]
async fn without_a_signer_an_activation_says_so() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let papers = signer.papers(&signer.request());
    let entries = signer.builder.registry_entries();
    signer.stop().await;
    let proxy = site.proxy(entries.clone()).start().await;
    site.out(&proxy).await;
    let (reason, detail) = refused(&proxy, &papers).await;
    assert_eq!(reason, "signer_unavailable");
    assert!(detail.contains("breakglass-signer serve"), "{detail}");
    assert_eq!(status(&proxy).await["signer"], Value::Null);
    proxy.stop().await;
    // Nor where none is configured.
    site.key.mend();
    let proxy = site.proxy(entries).breakglass("min_outage_s = 1").start().await;
    site.out(&proxy).await;
    assert_eq!(refused(&proxy, &papers).await.0, "signer_unavailable");
}

#[tokio::test]
async fn of_two_activations_at_once_one_wins_and_both_are_recorded() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    site.out(&proxy).await;
    let papers = [signer.papers(&signer.request()), signer.papers(&signer.request())];
    signer.unlock().await;
    let (one, two) = tokio::join!(activate(&proxy, &papers[0]), activate(&proxy, &papers[1]));
    let won = [&one, &two].iter().filter(|answer| answer.status == 200).count();
    assert_eq!(won, 1, "{} {}", one.text, two.text);
    let lost = if one.status == 200 { &two } else { &one };
    assert_eq!(lost.body["reason"], "session_in_force", "{}", lost.text);
    let journal = site.world.scratch.path("proxy/journal");
    // Who lost is told without waiting for the record.
    eventually("both records", || {
        std::future::ready((records(&journal, "activation").len() == 2).then_some(()))
    })
    .await;
    assert_eq!(end(&proxy).await.status, 200);
    over(&proxy).await;
    // Neither is used again.
    let replayed = if one.status == 200 { &papers[0] } else { &papers[1] };
    signer.unlock().await;
    assert_eq!(refused(&proxy, replayed).await.0, "nonce_used");
    assert_eq!(records(&signer.builder.journal(), "session_activated").len(), 1);
}

#[tokio::test]
async fn what_the_signer_refuses_the_proxy_says_and_nothing_is_in_force() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    site.out(&proxy).await;
    let request = signer.request();
    assert_eq!(refused(&proxy, &signer.papers(&request)).await.0, "locked");
    let (unlocked, _) = signer.unlock_with("not the passphrase").await;
    assert!(unlocked, "it is tried at the activation");
    assert_eq!(refused(&proxy, &signer.papers(&request)).await.0, "passphrase_wrong");
    let mut papers = signer.papers(&request);
    papers["approvals_b64"].as_array_mut().unwrap().pop();
    signer.unlock().await;
    assert_eq!(refused(&proxy, &papers).await.0, "role_missing");
    assert_eq!(
        refused(&proxy, &json!({"request_b64": "e30=", "approvals_b64": []})).await.0,
        "request_invalid"
    );
    assert_eq!(status(&proxy).await["session"], Value::Null);
    assert_eq!(
        proxy.client(ALICE).await.sign_message(KID, b"hi").await.reason(),
        "upstream_unhealthy"
    );
    let session = activated(&signer, &proxy, &request).await;
    assert_eq!(session["emergency_kid"], EMERGENCY_KID);
}

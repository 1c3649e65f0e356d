//! What an operator and Prometheus see of a session, and after it.

use serde_json::{Value, json};
use system_tests::breakglass::EMERGENCY_KID;
use system_tests::client::plain;
use system_tests::eventually;

use super::{KID, Site, activated, metric_is, over, records};
use crate::ALICE;

#[tokio::test]
async fn health_says_breakglass_and_the_metric_of_health_does_not() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    assert_eq!(proxy.metric("signing_proxy_health").await, Some(1.0));
    site.out(&proxy).await;
    assert_eq!(proxy.health().await.status, 503);
    let url = format!("http://{}", proxy.metrics);
    let gate = || proxy.signctl(&["gate", "--url", &url]);
    assert_eq!(gate().0, 2, "shut");
    let session = activated(&signer, &proxy, &signer.request()).await;
    let health = proxy.health().await;
    assert_eq!(
        (health.status, &health.body["mode"]),
        (200, &json!("breakglass")),
        "{}",
        health.text
    );
    assert!(
        !health.text.contains("INC-7") && !health.text.contains("KMS is down"),
        "{}",
        health.text
    );
    assert_eq!(plain(&proxy.metrics, "/readyz").await.status, 200);
    let alice = proxy.client(ALICE).await;
    let told = alice.get("/health").await;
    assert_eq!(told.body["breakglass"]["incident"], "INC-7", "{}", told.text);
    assert_eq!(proxy.metric("signing_proxy_health").await, Some(0.0));
    let (code, said, errors) = gate();
    assert_eq!(code, 2, "{said}{errors}");
    for number in 0..3 {
        let answer = alice.sign_message(KID, format!("m{number}").as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    for (series, value) in [
        ("breakglass_active", 1.0),
        ("breakglass_signatures_total", 3.0),
        ("breakglass_signer_connected", 1.0),
        ("breakglass_upstream_recovered", 0.0),
        ("breakglass_signatures_remaining", 997.0),
    ] {
        metric_is(&proxy, series, value).await;
    }
    let expires = proxy.metric("breakglass_session_expires_timestamp_seconds").await.unwrap();
    assert!(expires > 1.7e9, "{expires}");
    let counted = format!(
        "signing_proxy_requests_total{{result=\"signed\",reason=\"\",signer_kid=\"{EMERGENCY_KID}\",mode=\"breakglass\"}}"
    );
    assert_eq!(proxy.metric(&counted).await, Some(3.0), "{}", proxy.metrics().await);
    // A drill waits for its end, and says so by the word that break-glass has for it.
    let drilled = proxy
        .admin("POST", "/v1/drill", json!({"signer_kid": "other", "i_understand": true}))
        .await;
    let (status, reason) = (drilled.status, &drilled.body["reason"]);
    assert_eq!((status, reason), (409, &json!("session_in_force")), "{}", drilled.text);
    let (code, _, errors) = proxy.signctl(&["drill", "--signer", "other", "--i-understand"]);
    assert!(code == 1 && errors.contains("session_in_force: the break-glass session"), "{errors}");
    let (code, said, errors) = proxy.signctl(&["--json", "breakglass", "status"]);
    assert_eq!(code, 0, "{said}{errors}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["session"]["session"], session["session"], "{said}");
    // The end, by signctl.
    let (code, said, errors) = proxy.signctl(&["breakglass", "end", "--reason", "KMS is back"]);
    assert_eq!(code, 0, "{said}{errors}");
    over(&proxy).await;
    for series in
        ["breakglass_session_expires_timestamp_seconds", "breakglass_signatures_remaining"]
    {
        assert_eq!(proxy.metric(series).await, Some(0.0), "{series}");
    }
    assert_eq!(proxy.health().await.status, 503);
    let ended = records(&site.world.scratch.path("proxy/journal"), "breakglass_ended");
    assert_eq!((ended.len(), &ended[0]["reason"]), (1, &json!("operator")), "{ended:?}");
    let theirs = records(&signer.builder.journal(), "session_ended");
    assert_eq!((theirs.len(), &theirs[0]["reason"]), (1, &json!("operator")), "{theirs:?}");
    let none = proxy.signctl(&["breakglass", "end", "--reason", "again"]);
    assert_ne!(none.0, 0, "{none:?}");
}

#[tokio::test]
async fn i12_a_key_is_due_for_destruction_overdue_and_destroyed() {
    let site = Site::new();
    let (signer, proxy, _) = site.in_session().await;
    let file = site.world.scratch.path("proxy/signers.json");
    let destroy = || {
        let file = file.to_str().unwrap();
        proxy.signctl(&[
            "breakglass",
            "destroy",
            EMERGENCY_KID,
            "--reason",
            "INC-7 is closed",
            "--signers",
            file,
        ])
    };
    let admin = proxy
        .admin(
            "POST",
            "/v1/breakglass/destroy",
            json!({"emergency_kid": EMERGENCY_KID, "reason": "too early"}),
        )
        .await;
    assert_eq!(admin.status, 409, "it signs: {}", admin.text);
    assert_eq!(super::end(&proxy).await.status, 200);
    over(&proxy).await;
    let due = format!(
        "breakglass_key_destruction_due_timestamp_seconds{{signer_kid=\"{EMERGENCY_KID}\"}}"
    );
    eventually("it is due", || async { proxy.metric(&due).await.filter(|at| *at > 1.7e9) }).await;
    let overdue = format!("breakglass_key_destruction_overdue{{signer_kid=\"{EMERGENCY_KID}\"}}");
    assert_eq!(proxy.metric(&overdue).await, Some(0.0));
    let (code, said, errors) = destroy();
    assert_eq!(code, 0, "{said}{errors}");
    assert!(!signer.builder.path("emergency.pem").exists());
    let registry = std::fs::read_to_string(&file).unwrap();
    assert!(registry.contains("revokedAt"), "{registry}");
    metric_is(&proxy, &due, 0.0).await;
    assert_eq!(records(&signer.builder.journal(), "key_destroyed").len(), 1);
    signer.unlock().await;
    let refused = super::refused(&proxy, &signer.papers(&signer.request())).await;
    assert!(["key_destroyed", "key_not_usable"].contains(&refused.0.as_str()), "{refused:?}");
}

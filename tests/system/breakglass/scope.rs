//! What a session does not sign, and when it ends by itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use system_tests::breakglass::EMERGENCY_KID;
use system_tests::{Answer, Client, eventually};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::{BOB, KID, OTHER, Site, activated, ended_at, ended_for, metric_is, over, records};
use crate::ALICE;

/// Asks with these fields beside the message.
async fn sign(client: &Client, more: &[(&str, &str)]) -> Answer {
    let mut body = json!({"signer_kid": KID, "message": STANDARD.encode("hi")});
    for (name, value) in more {
        body[*name] = json!(value);
    }
    client.post("/v1/sign", &body).await
}

#[tokio::test]
async fn i5_a_session_signs_for_its_callers_its_signers_and_its_algorithm_only() {
    let site = Site::new();
    let (signer, proxy, session) = site.in_session().await;
    let (alice, bob) = (proxy.client(ALICE).await, proxy.client(BOB).await);
    let unnamed = sign(&alice, &[]).await;
    assert_eq!(unnamed.status, 200, "{}", unnamed.text);
    assert_eq!(unnamed.body["algorithm"], "ED25519_SHA_512");
    assert_eq!(unnamed.body["breakglass"]["session"], session["session"]);
    assert_eq!(sign(&alice, &[("algorithm", "ED25519_SHA_512")]).await.status, 200);
    for (case, answer) in [
        ("another caller", sign(&bob, &[]).await),
        ("another algorithm", sign(&alice, &[("algorithm", "ECDSA_SHA_256")]).await),
    ] {
        let got = (answer.status, answer.reason().to_owned());
        assert_eq!(got, (503, "breakglass_out_of_scope".to_owned()), "{case}: {}", answer.text);
    }
    // The other signer's own gate goes on.
    let other = alice.sign_message(OTHER, b"hi").await;
    assert_eq!((other.status, &other.body["mode"]), (200, &json!("normal")), "{}", other.text);
    // A canary's bytes are refused in a session too.
    let canary = [b"signing-proxy canary v1\0".as_slice(), &[0x41; 64]].concat();
    let refused = alice.sign_message(KID, &canary).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    // No emergency key is asked for by its own name.
    let by_name = alice.sign_message(EMERGENCY_KID, b"hi").await;
    assert!([403, 404].contains(&by_name.status), "{}", by_name.text);
    assert_eq!(records(&signer.builder.journal(), "emergency_signed").len(), 2);
}

#[tokio::test]
async fn i12_a_quota_gives_out_its_last_signature_and_ends_the_session() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    site.out(&proxy).await;
    let mut request = signer.request();
    request["max_signatures"] = json!(5);
    activated(&signer, &proxy, &request).await;
    let client = proxy.http2_client(ALICE).await;
    let asked = (0..40).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { sign(&client, &[]).await })
    });
    let (mut signed, mut reasons) = (0, std::collections::BTreeSet::new());
    for asked in asked.collect::<Vec<_>>() {
        let answer = asked.await.unwrap();
        match answer.status {
            200 => signed += 1,
            _ => drop(reasons.insert(answer.reason().to_owned())),
        }
    }
    assert_eq!(signed, 5, "{reasons:?}");
    // Those that came too late are told so; those after the session have the gate's own reason.
    assert!(reasons.remove("breakglass_quota_exhausted"), "{reasons:?}");
    reasons.remove("upstream_unhealthy");
    assert!(reasons.is_empty(), "{reasons:?}");
    over(&proxy).await;
    let ended = ended_for(&site, "quota_exhausted").await;
    assert_eq!(ended["by"], "the emergency signer", "{ended}");
    // For a moment it is told why, then its gate's own reason.
    let client = proxy.client(ALICE).await;
    eventually("the gate's own reason", || async {
        match sign(&client, &[]).await.reason() {
            "upstream_unhealthy" => Some(()),
            "breakglass_quota_exhausted" => None,
            other => panic!("{other}"),
        }
    })
    .await;
    assert_eq!(records(&signer.builder.journal(), "emergency_signed").len(), 5);
}

#[tokio::test]
async fn a_session_signs_no_faster_than_the_signer_allows() {
    let site = Site::new();
    let signer = site.signer().caps("signatures_per_second_max = 3").start().await;
    let proxy = site.proxy(signer.builder.registry_entries()).start().await;
    super::connected(&proxy).await;
    site.out(&proxy).await;
    activated(&signer, &proxy, &signer.request()).await;
    let client = proxy.http2_client(ALICE).await;
    let began = std::time::Instant::now();
    let asked: Vec<_> = (0..40)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { sign(&client, &[]).await })
        })
        .collect();
    let (mut signed, mut overloaded) = (0, 0);
    for asked in asked {
        let answer = asked.await.unwrap();
        match (answer.status, answer.reason()) {
            (200, _) => signed += 1,
            (503, "overloaded") => overloaded += 1,
            _ => panic!("{}", answer.text),
        }
    }
    assert!(signed >= 1 && overloaded >= 1, "{signed} signed, {overloaded} refused");
    // Three for each second that began meanwhile: no second has more, wherever it begins.
    let seconds = began.elapsed().as_secs() + 1;
    assert!(signed <= 3 * seconds, "{signed} signed in {seconds} s");
    assert_eq!(super::status(&proxy).await["session"]["emergency_kid"], EMERGENCY_KID);
}

#[tokio::test]
async fn i12_a_session_ends_at_its_expiry_in_both_processes() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    site.out(&proxy).await;
    let mut request = signer.request();
    let until = OffsetDateTime::now_utc() + Duration::seconds(4);
    request["expires_at"] = json!(until.replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap());
    activated(&signer, &proxy, &request).await;
    let alice = proxy.client(ALICE).await;
    let refused = eventually("the end of the session", || async {
        let answer = sign(&alice, &[]).await;
        let late = OffsetDateTime::now_utc() > until + Duration::seconds(1);
        assert!(answer.status != 200 || !late, "{}", answer.text);
        (answer.status != 200).then_some(answer)
    })
    .await;
    let reason = refused.reason();
    assert!(
        ["upstream_unhealthy", "breakglass_out_of_scope", "gate_closed_in_flight"]
            .contains(&reason),
        "{reason}"
    );
    over(&proxy).await;
    ended_for(&site, "expired").await;
    let ended = ended_at(&signer, 1).await;
    assert_eq!((ended.len(), &ended[0]["reason"]), (1, &json!("expired")));
}

#[tokio::test]
async fn i5_a_freeze_beats_a_session_and_does_not_end_it() {
    let site = Site::new();
    let (signer, proxy, _) = site.in_session().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(sign(&alice, &[]).await.status, 200);
    // What is in flight when it freezes is withheld or answered before, never after.
    let mut flying = Vec::new();
    for _ in 0..20 {
        let client = proxy.http2_client(ALICE).await;
        flying.push(tokio::spawn(async move { sign(&client, &[]).await }));
    }
    let froze = proxy.admin("POST", "/v1/freeze", json!({"reason": "stop"})).await;
    assert_eq!(froze.status, 200, "{}", froze.text);
    for asked in flying {
        let answer = asked.await.unwrap();
        let known = ["", "frozen", "gate_closed_in_flight"].contains(&answer.reason());
        assert!(known, "{}", answer.text);
    }
    let frozen = sign(&alice, &[]).await;
    assert_eq!((frozen.status, frozen.reason()), (503, "frozen"), "{}", frozen.text);
    let health = proxy.health().await;
    assert_eq!((health.status, &health.body["ok"]), (503, &Value::Bool(false)), "{}", health.text);
    let unfroze = proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await;
    assert_eq!(unfroze.status, 200, "{}", unfroze.text);
    assert_eq!(sign(&alice, &[]).await.body["mode"], "breakglass");
    metric_is(&proxy, "breakglass_active", 1.0).await;
    // Nothing was signed while it was frozen.
    let made = records(&signer.builder.journal(), "emergency_signed").len();
    let said = records(&site.world.scratch.path("proxy/journal"), "signed");
    let said = said.iter().filter(|data| data["mode"] == "breakglass").count();
    assert!(made >= said, "{made} made, {said} recorded");
}

#[tokio::test]
async fn i12_a_key_that_is_revoked_in_the_registry_ends_the_session() {
    let site = Site::new();
    let (signer, proxy, _) = site.in_session().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(sign(&alice, &[]).await.status, 200);
    let file = site.world.scratch.path("proxy/signers.json");
    let file = file.to_str().unwrap();
    let (code, said, errors) =
        proxy.signctl(&["signers", "revoke", EMERGENCY_KID, "--signers", file]);
    assert_eq!(code, 0, "{said}{errors}");
    let reloaded = proxy.admin("POST", "/v1/reload", json!({})).await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.text);
    let refused = sign(&alice, &[]).await;
    assert!(
        ["key_unavailable", "upstream_unhealthy"].contains(&refused.reason()),
        "{}",
        refused.text
    );
    over(&proxy).await;
    ended_for(&site, "key_unavailable").await;
    let theirs = ended_at(&signer, 1).await;
    let (reason, by) = (&theirs[0]["reason"], &theirs[0]["by"]);
    assert_eq!((reason, by), (&json!("key_unavailable"), &json!("this proxy")), "{theirs:?}");
}

#[tokio::test]
async fn i4_a_replaced_signer_that_is_revoked_is_well_nowhere() {
    let site = Site::new();
    let (_signer, proxy, _) = site.in_session().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(sign(&alice, &[]).await.status, 200);
    assert_eq!(proxy.health().await.status, 200);
    let file = site.world.scratch.path("proxy/signers.json");
    let revoke = ["signers", "revoke", KID, "--signers", file.to_str().unwrap()];
    assert_eq!(proxy.signctl(&revoke).0, 0);
    let reloaded = proxy.admin("POST", "/v1/reload", json!({})).await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.text);
    assert_eq!(sign(&alice, &[]).await.reason(), "key_unavailable");
    assert_eq!(proxy.health().await.status, 503);
    for verb in ["status", "health"] {
        let (code, said, errors) = proxy.signctl(&[verb]);
        assert_eq!(code, 1, "{verb}: {said}{errors}");
    }
}

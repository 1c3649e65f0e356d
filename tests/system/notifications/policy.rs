//! The policy service: the exact request, its verdict beside the row, and `reconcile`, which counts.

use serde_json::{Value, json};
use system_tests::breakglass::EMERGENCY_KID;
use system_tests::postgres::Postgres;
use system_tests::trail::Trail;
use system_tests::{Manner, Pki, Profile, Receiver, eventually};

use super::journal_of;
use crate::ALICE;
use crate::breakglass::{Site, activated, end};

const ALLOW: &str = r#"{"decision":"allow","allowed":true,"ts":"2026-11-26T00:00:00Z","policyId":"p-1","note":"<&>"}"#;
const DENY: &str = r#"{"decision":"deny","allowed":false,"ts":"2026-11-26T00:00:00Z"}"#;
const LINES: &str = r#"ca_file = "policy-ca.pem"
certificate_file = "policy.pem"
key_file = "policy.key"
bearer_token_file = "policy.token"
roles = ["kernel-service"]"#;

/// The request as the service's contract has it.
fn is_exact(body: &Value, rows: &[(String, String, u64)]) {
    let members: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["action", "actor", "context", "requestId", "resource"]);
    let actor =
        json!({"id": "service:signing-breakglass", "type": "service", "roles": ["kernel-service"]});
    assert_eq!(body["actor"], actor);
    let id = body["resource"]["id"].as_str().unwrap();
    assert_eq!(
        (&body["resource"]["type"], &body["requestId"]),
        (&json!("audit_event"), &json!(id))
    );
    let (_, event_type, seq) = rows.iter().find(|(row, _, _)| row == id).unwrap();
    assert_eq!(body["action"], **event_type);
    assert_eq!(body["resource"]["seq"], *seq);
    assert_eq!(
        body["context"]["incident"].is_string(),
        event_type != "signing.breakglass.key_destroyed"
    );
}

#[tokio::test]
async fn each_emergency_record_gets_a_verdict_that_is_kept_and_counted() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    let postgres = Postgres::start().await;
    let registry = site.world.scratch.path("proxy/signers.json");
    let (proxys, signers) = (journal_of(&site.world), signer.builder.journal());
    let theirs = Pki::named("the policy service");
    let service = Receiver::start_tls(&theirs, Some(&site.world.pki));
    service.set(Manner::Answer(503, "not yet".to_owned()));
    let client = site.world.pki.issue(&Profile::client("spiffe://test/trail"));
    let lines = format!(
        "{LINES}\nurl = {:?}\n[policy.headers]\nx-sentinel-roles = \"kernel-service\"",
        service.url("/base/")
    );
    let files = [
        ("policy-ca.pem", theirs.ca_pem.as_str()),
        ("policy.pem", &client.certificate_pem),
        ("policy.key", &client.key_pem),
        ("policy.token", "very-secret.token\n"),
    ];
    let journals = [("proxy", proxys.as_path()), ("signer", signers.as_path())];
    let mut trail = Trail::new(&journals, &registry, &postgres).policy(&lines, &files);
    trail.start();

    // The ceremony waits for nobody.
    site.out(&proxy).await;
    activated(&signer, &proxy, &signer.request()).await;
    let alice = proxy.client(ALICE).await;
    for _ in 0..5 {
        assert_eq!(alice.sign_message("payments", b"hi").await.body["mode"], "breakglass");
    }
    assert_eq!(end(&proxy).await.status, 200);
    eventually("the destruction", || async {
        let destroy = ["breakglass", "destroy", EMERGENCY_KID, "--reason", "INC-7"];
        (proxy.signctl(&destroy).0 == 0).then_some(())
    })
    .await;
    trail.process().says("the policy service gives no verdict").await;
    eventually("a request", || std::future::ready((!service.sent().is_empty()).then_some(())))
        .await;
    assert_eq!(postgres.sql("SELECT count(*) FROM signing_proxy.annotations"), "0");
    let reconcile = |trail: &Trail, wait: &str| {
        let (proxys, signers) = (proxys.to_str().unwrap(), signers.to_str().unwrap());
        let more = ["--journal", proxys, "--with", signers, "--wait", wait];
        trail.signctl("reconcile", &postgres, &more)
    };
    let (code, said) = reconcile(&trail, "1");
    assert_eq!(code, 1, "{said}");
    assert_eq!(said.matches("has no annotation of the policy service").count(), 8, "{said}");

    // It is there; what it answers badly is no verdict.
    for bad in ["ok", "{}", &"x".repeat(100_000)] {
        let before = service.sent().len();
        service.set(Manner::Answer(200, bad.to_owned()));
        trail.kill().await;
        trail.start();
        eventually("a request", || {
            std::future::ready((service.sent().len() > before).then_some(()))
        })
        .await;
    }
    assert_eq!(postgres.sql("SELECT count(*) FROM signing_proxy.annotations"), "0");
    trail.kill().await;
    service.set(Manner::Answer(200, ALLOW.to_owned()));
    let first = service.sent().len();
    trail.start();
    let count =
        |postgres: &Postgres| postgres.sql("SELECT count(*) FROM signing_proxy.annotations");
    eventually("every verdict", || std::future::ready((count(&postgres) == "8").then_some(())))
        .await;
    let rows: Vec<(String, String, u64)> = postgres
        .sql("SELECT id, event_type, payload->>'seq' FROM signing_proxy.audit_events")
        .lines()
        .filter_map(|line| {
            let mut parts = line.split('|');
            let (id, kind) = (parts.next()?.to_owned(), parts.next()?.to_owned());
            Some((id, kind, parts.next()?.parse().ok()?))
        })
        .collect();
    let asked = service.sent().split_off(first);
    for sent in &asked {
        assert_eq!(sent.path, "/base/sentinelnet/check");
        assert_eq!(sent.header("x-sentinel-roles"), "kernel-service");
        assert_eq!(sent.header("authorization"), "Bearer very-secret.token");
        assert_eq!(sent.header("content-type"), "application/json");
        is_exact(&sent.json(), &rows);
    }
    let actions: Vec<_> =
        asked.iter().map(|sent| sent.json()["action"].as_str().unwrap().to_owned()).collect();
    let wanted =
        ["activated", "signed", "signed", "signed", "signed", "signed", "ended", "key_destroyed"];
    assert_eq!(actions, wanted.map(|word| format!("signing.breakglass.{word}")));
    let signed = asked[1].json();
    for name in ["session", "caller", "request_id", "input_digest", "algorithm", "justification"] {
        assert!(signed["context"][name].is_string(), "{name}: {signed}");
    }
    assert_eq!(signed["context"]["emergency_kid"], EMERGENCY_KID);
    let kept = postgres.sql(
        "SELECT DISTINCT decision, allowed, verdict->>'policyId' FROM signing_proxy.annotations n
         JOIN signing_proxy.audit_events e ON e.id::text = n.row_id AND e.event_type = n.action",
    );
    assert_eq!(kept, "allow|t|p-1");
    let (code, said) = reconcile(&trail, "5");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("annotations of the policy service: 8"), "{said}");

    // One that is lost is named, asked for again, and kept as it is answered by then.
    postgres.sql("DELETE FROM signing_proxy.annotations WHERE action = 'signing.breakglass.ended'");
    let (code, said) = reconcile(&trail, "0");
    assert_eq!((code, said.matches("GAP: ").count()), (1, 1), "{said}");
    assert!(said.contains("(signing.breakglass.ended) has no annotation"), "{said}");
    service.set(Manner::Answer(200, DENY.to_owned()));
    trail.kill().await;
    trail.start();
    trail.process().says("the policy service does not allow what was done").await;
    let (code, said) = reconcile(&trail, "10");
    assert_eq!(code, 0, "{said}");
    let denied = postgres.sql("SELECT action FROM signing_proxy.annotations WHERE NOT allowed");
    assert_eq!(denied, "signing.breakglass.ended");
    // Nobody forged one either.
    postgres.sql(
        "INSERT INTO signing_proxy.annotations SELECT 'forged', log, seq, action, decision, allowed,
         verdict, answered_at FROM signing_proxy.annotations LIMIT 1",
    );
    let (code, said) = reconcile(&trail, "0");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("the row forged of") && said.contains("no such record"), "{said}");

    let metrics = super::scraped(&trail).await;
    assert!(metrics.contains("audit_trail_verdicts_total{allowed=\"false\"} 1"), "{metrics}");
    let log = trail.process().output();
    assert!(!metrics.contains("very-secret") && !log.contains("very-secret"), "{log}");
}

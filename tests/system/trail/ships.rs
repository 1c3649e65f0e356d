//! What is shipped, when, and how it looks.

use serde_json::Value;
use system_tests::postgres::Postgres;

use super::{KID, journal_of, newest, proxy_in, trail_of, trail_of_both};
use crate::ALICE;
use crate::breakglass::{Site, activated, end};
use crate::metrics::{promtool_accepts, show_the_process};
use system_tests::World;
use system_tests::client::plain;

#[tokio::test]
async fn signatures_are_covered_by_checkpoint_rows_and_an_idle_journal_is_shipped_whole() {
    let world = World::new();
    let proxy = proxy_in(&world).await;
    let postgres = Postgres::start().await;
    let mut trail = trail_of(&world, &postgres);
    trail.start();
    let alice = proxy.client(ALICE).await;
    for _ in 0..20 {
        assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
    }
    // Nothing comes any more, and all of it arrives.
    trail.holds("signing-proxy", newest(&journal_of(&world))).await;
    let covered = "SELECT count(*) FROM signing_proxy.audit_events a, signing_proxy.audit_events b
         WHERE a.event_type = 'signing.checkpoint' AND b.event_type = 'signing.checkpoint'
           AND (b.payload->>'first')::bigint = (a.payload->>'last')::bigint + 1";
    let checkpoints =
        "SELECT count(*) FROM signing_proxy.audit_events WHERE event_type = 'signing.checkpoint'";
    let (pairs, rows) = (postgres.sql(covered), postgres.sql(checkpoints));
    assert_eq!(pairs.parse::<u64>().unwrap() + 1, rows.parse::<u64>().unwrap());
    assert!(
        postgres
            .sql("SELECT event_type FROM signing_proxy.audit_events")
            .contains("signing.proxy.gate")
    );
    let (output, status) = trail.status().await;
    assert!(output.status.success(), "{status}");
    let metrics = plain(&trail.metrics().await, "/metrics").await.text;
    show_the_process(&metrics);
    promtool_accepts(&metrics);
}

#[tokio::test]
async fn emergency_signatures_have_a_row_each_with_justification_record_and_proof() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    let postgres = Postgres::start().await;
    let mut trail = trail_of_both(&site.world, &signer, &postgres);
    trail.start();
    site.out(&proxy).await;
    activated(&signer, &proxy, &signer.request()).await;
    for _ in 0..10 {
        let answer = proxy.client(ALICE).await.sign_message(KID, b"hi").await;
        assert_eq!(answer.body["mode"], "breakglass", "{}", answer.text);
    }
    assert_eq!(end(&proxy).await.status, 200);
    trail.holds("breakglass-signer", newest(&signer.builder.journal())).await;
    let rows = postgres.sql(
        "SELECT payload FROM signing_proxy.audit_events
         WHERE event_type = 'signing.breakglass.signed' AND actor_id = 'service:signing-breakglass'",
    );
    assert_eq!(rows.lines().count(), 10);
    for row in rows.lines() {
        let payload: Value = serde_json::from_str(row).unwrap();
        for name in [
            "session",
            "incident",
            "justification",
            "caller",
            "request_id",
            "input_digest",
            "algorithm",
            "emergency_kid",
            "signature",
            "record",
            "proof",
        ] {
            assert!(payload[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {row}");
        }
        assert_eq!(payload["caller"], ALICE);
        assert!(payload["proof"].as_str().unwrap().starts_with("c2sp.org/tlog-proof@v1\n"));
    }
    let kinds = postgres.sql("SELECT DISTINCT event_type FROM signing_proxy.audit_events");
    for kind in ["activated", "ended", "init", "start"] {
        assert!(kinds.contains(&format!("signing.breakglass.{kind}")), "{kinds}");
    }
}

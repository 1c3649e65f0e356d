//! A break-glass session from its activation to the destruction of its key that nobody did.

use serde_json::{Value, json};
use system_tests::breakglass::SOCKET;
use system_tests::{Fault, Kind, Prometheus, ProxyBuilder, World, eventually};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::ALICE;

pub(super) async fn fire(prometheus: &Prometheus) {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let signer = world.signer().replaces("ed", &key).min_outage_s(1);
    let signer = signer.more("[destruction]\nwithin_s = 60\n").start().await;
    let lines = format!("signer_socket = \"{SOCKET}\"\nmin_outage_s = 1\n");
    let builder = world.proxy().signer("ed", &key).caller(ALICE, &["ed"]).breakglass(&lines);
    let entries = signer.builder.registry_entries().into_iter();
    let proxy = entries.fold(builder, ProxyBuilder::registered).start().await;
    prometheus.scrape("session", &proxy.metrics).await;
    eventually("the emergency signer is connected", || async {
        (proxy.metric("breakglass_signer_connected").await == Some(1.0)).then_some(())
    })
    .await;
    key.break_with(Fault::Bare503);
    eventually("an outage that is long enough", || async {
        let status = proxy.admin("GET", "/v1/breakglass", Value::Null).await.body;
        (status["outages"][0]["qualifies"] == true).then_some(())
    })
    .await;
    let mut request = signer.request();
    let ends = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap() + Duration::minutes(10);
    request["expires_at"] = json!(ends.format(&Rfc3339).unwrap());
    request["max_signatures"] = json!(50);
    signer.unlock().await;
    let answer = proxy.admin("POST", "/v1/breakglass/activate", signer.papers(&request)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    prometheus.fires("BreakGlassActive", "session").await;
    prometheus.fires("BreakGlassEndsSoon", "session").await;
    prometheus.fires("BreakGlassQuotaLow", "session").await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("ed", b"hi").await.status, 200);
    key.mend();
    prometheus.fires("BreakGlassNoLongerNeeded", "session").await;
    let ended = proxy.admin("POST", "/v1/breakglass/end", json!({"reason": "KMS is back"})).await;
    assert_eq!(ended.status, 200, "{}", ended.text);
    prometheus.fires("BreakGlassKeyDestructionOverdue", "session").await;
    signer.stop().await;
    prometheus.fires("BreakGlassSignerDisconnected", "session").await;
}

//! Either process, or what joins them, goes in the middle of a session.

use nix::sys::signal::Signal;
use serde_json::json;
use system_tests::breakglass::Signer;
use system_tests::{Answer, Client, eventually};

use super::{
    KID, Site, activated, connected, end, ended_at, ended_for, metric_is, over, records, status,
};
use crate::ALICE;

/// Asks until something else than a signature comes, which has to come soon.
async fn refused(client: &Client) -> Answer {
    eventually("a refusal", || async {
        let began = std::time::Instant::now();
        let answer = client.sign_message(KID, b"hi").await;
        assert!(began.elapsed().as_secs() < 8, "it hung");
        (answer.status != 200).then_some(answer)
    })
    .await
}

fn is_known(answer: &Answer) {
    let reasons = ["breakglass_signer_unavailable", "upstream_unhealthy", "gate_closed_in_flight"];
    assert!(reasons.contains(&answer.reason()), "{}", answer.text);
    assert!(!answer.header("retry-after").is_empty(), "{}", answer.text);
}

#[tokio::test]
async fn i12_a_signer_that_is_killed_ends_the_session_and_a_new_one_takes_new_approvals() {
    let site = Site::new();
    let (signer, proxy, _) = site.in_session().await;
    let request = signer.request();
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message(KID, b"hi").await.status, 200);
    signer.process.signal(Signal::SIGKILL);
    is_known(&refused(&alice).await);
    metric_is(&proxy, "breakglass_active", 0.0).await;
    metric_is(&proxy, "breakglass_signer_connected", 0.0).await;
    ended_for(&site, "signer_gone").await;
    assert_eq!(proxy.health().await.status, 503);
    let Signer { builder, mut process, .. } = signer;
    process.ended().await;
    let signer = builder.start().await;
    connected(&proxy).await;
    assert!(status(&proxy).await["session"].is_null());
    assert!(status(&proxy).await["signer"]["session"].is_null());
    is_known(&refused(&alice).await);
    let ended = records(&signer.builder.journal(), "session_ended");
    assert_eq!((ended.len(), &ended[0]["reason"]), (1, &json!("restarted")), "{ended:?}");
    activated(&signer, &proxy, &request).await;
    assert_eq!(alice.sign_message(KID, b"hi").await.status, 200);
}

#[tokio::test]
async fn i12_a_proxy_that_is_killed_or_stopped_ends_the_session_at_the_signer() {
    let site = Site::new();
    let (signer, mut proxy) = site.both().await;
    for (number, signal) in [Signal::SIGKILL, Signal::SIGTERM].into_iter().enumerate() {
        site.out(&proxy).await;
        activated(&signer, &proxy, &signer.request()).await;
        assert_eq!(proxy.client(ALICE).await.sign_message(KID, b"hi").await.status, 200);
        proxy.process.signal(signal);
        proxy.process.ended().await;
        let ended = ended_at(&signer, number + 1).await;
        assert_eq!(ended[number]["reason"], "proxy_gone", "{ended:?}");
        if signal == Signal::SIGTERM {
            ended_for(&site, "proxy_gone").await;
        }
        drop(proxy);
        proxy = site.proxy(signer.builder.registry_entries()).start_shut().await;
        connected(&proxy).await;
        over(&proxy).await;
        let answer = refused(&proxy.client(ALICE).await).await;
        assert!(["starting", "upstream_unhealthy"].contains(&answer.reason()), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_signer_that_does_not_answer_keeps_nobody_waiting() {
    let site = Site::new();
    let (signer, proxy, _) = site.in_session().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message(KID, b"hi").await.status, 200);
    signer.process.signal(Signal::SIGSTOP);
    let answer = refused(&alice).await;
    assert_eq!(answer.reason(), "breakglass_signer_unavailable", "{}", answer.text);
    // Neither an operator who asks, nor one who ends it.
    let began = std::time::Instant::now();
    assert_eq!(proxy.admin("GET", "/v1/breakglass", json!(null)).await.status, 200);
    assert!(began.elapsed().as_secs() < 8, "the operator waited");
    let ending = end(&proxy);
    metric_is(&proxy, "breakglass_active", 1.0).await;
    let (ended, ()) = tokio::join!(ending, async {
        metric_is(&proxy, "breakglass_active", 0.0).await;
        signer.process.signal(Signal::SIGCONT);
    });
    assert_eq!(ended.status, 200, "{}", ended.text);
    over(&proxy).await;
    assert_eq!(refused(&alice).await.reason(), "upstream_unhealthy");
}

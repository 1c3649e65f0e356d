//! An upstream that is down, throttles, refuses the key, is slow or hangs.

use std::time::Duration;

use system_tests::{Client, Fault, Kind, Kms, Prometheus, World};

use crate::ALICE;
use crate::hsm_act::Act;

pub(super) async fn fire(prometheus: &Prometheus) {
    tokio::join!(
        outage(prometheus),
        one_of_two_regions(prometheus),
        key_and_throttling(prometheus),
        slow(prometheus),
        quota(prometheus),
        tokens(prometheus),
    );
}

async fn outage(prometheus: &Prometheus) {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    prometheus.scrape("outage", &proxy.metrics).await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    key.break_with(Fault::Bare503);
    prometheus.fires("SigningUnhealthy", "outage").await;
    prometheus.fires("SigningOutageFull", "outage").await;
    prometheus.fires("SigningOutageLong", "outage").await;
    prometheus.fires("KmsErrors", "outage").await;
    prometheus
        .fires_while("SigningAvailabilityLow", "outage", async || {
            assert_eq!(alice.sign_message("ec", b"hi").await.status, 503);
        })
        .await;
    prometheus
        .fires_while("SigningGateFlapping", "outage", async || {
            key.mend();
            proxy.healthy().await;
            key.break_with(Fault::Bare503);
            proxy.unhealthy_for("upstream_unhealthy").await;
        })
        .await;
}

async fn one_of_two_regions(prometheus: &Prometheus) {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let second = Kms::start_in("eu-test-2");
    let replica = second.replica(&key);
    let builder = world.proxy().signer("ec", &key).replica("ec", &second, &replica);
    let proxy = builder.caller(ALICE, &["ec"]).start().await;
    prometheus.scrape("regions", &proxy.metrics).await;
    replica.break_with(Fault::Bare503);
    prometheus.fires("SigningOutagePartial", "regions").await;
}

async fn key_and_throttling(prometheus: &Prometheus) {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    prometheus.scrape("key", &proxy.metrics).await;
    key.break_with(Fault::Error("ThrottlingException", 400));
    prometheus.fires("KmsThrottled", "key").await;
    key.break_with(Fault::Error("DisabledException", 400));
    prometheus.fires("KmsKeyUnavailable", "key").await;
    key.break_with(Fault::WrongKey);
    prometheus.fires("SignerSealed", "key").await;
}

/// Asks again and again, from so many tasks, until the task that asks is dropped.
async fn asks(client: &Client, tasks: usize) -> tokio::task::JoinSet<()> {
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let client = client.clone();
        all.spawn(async move {
            loop {
                client.sign_message("ec", b"hi").await;
            }
        });
    }
    all
}

async fn slow(prometheus: &Prometheus) {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let places = "requests_in_flight_max = 1\nrequests_in_flight_per_caller_max = 1";
    let builder = world.proxy().rare_canaries().server(places).signer("ec", &key);
    let proxy = builder.caller(ALICE, &["ec"]).start().await;
    prometheus.scrape("slow", &proxy.metrics).await;
    key.break_with(Fault::Latency(Duration::from_millis(1500)));
    let asked = asks(&proxy.http2_client(ALICE).await, 1).await;
    prometheus.fires("KmsSlow", "slow").await;
    let other = proxy.http2_client(ALICE).await;
    prometheus
        .fires_while("SigningOverloaded", "slow", async || {
            other.sign_message("ec", b"hi").await;
        })
        .await;
    drop(asked);
}

async fn quota(prometheus: &Prometheus) {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().rare_canaries().kms("requests_per_second_max = 5");
    let proxy = builder.signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    prometheus.scrape("quota", &proxy.metrics).await;
    let alice = proxy.http2_client(ALICE).await;
    prometheus
        .fires_while("KmsQuotaNearlyUsed", "quota", async || {
            for _ in 0..6 {
                alice.sign_message("ec", b"hi").await;
            }
        })
        .await;
}

async fn tokens(prometheus: &Prometheus) {
    let world = World::new();
    let act = Act::quiet(&world).await;
    prometheus.scrape("token", &act.proxy.metrics).await;
    // That the target is up may be known a moment before its counters are.
    prometheus.has("pkcs11_worker_hangs_killed_total{instance=\"token\"} == 0").await;
    let before = act.workers();
    act.stop_worker().await;
    assert_eq!(act.ask().await.reason(), "indeterminate");
    act.recovers(&before).await;
    prometheus.fires("HsmWorkerHangs", "token").await;
    act.hsm.remove();
    act.kill_worker();
    prometheus.fires("HsmWorkerDown", "token").await;
}

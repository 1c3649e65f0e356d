//! Several regions for one signer: one cut and it signs on, all cut and it refuses, and what
//! health, metrics and status say of it.

use std::time::Duration;

use serde_json::Value;
use system_tests::{Client, Fault, Key, Kind, Kms, Operation, Proxy, World, eventually, journal};

use crate::ALICE;
use crate::config_files::{check, said};

/// A world with a second region, and a key that both hold.
struct Regions {
    world: World,
    other: Kms,
    key: Key,
    replica: Key,
}

impl Regions {
    fn new() -> Self {
        let (world, other) = (World::new(), Kms::start_in("eu-test-2"));
        let key = world.kms.key(Kind::P256);
        let replica = other.replica(&key);
        Self { world, other, key, replica }
    }

    fn proxy(&self) -> system_tests::ProxyBuilder<'_> {
        self.world
            .proxy()
            .signer("ec", &self.key)
            .replica("ec", &self.other, &self.replica)
            .caller(ALICE, &["ec"])
    }
}

/// Waits until `/health` says that so much is out.
async fn outage(proxy: &Proxy<'_>, extent: &str) -> system_tests::Answer {
    eventually(&format!("the outage is {extent}"), || async {
        let health = proxy.health().await;
        (health.body["outage"] == extent).then_some(health)
    })
    .await
}

/// What `signing_proxy_upstream_health` says of both regions.
async fn gauges(proxy: &Proxy<'_>) -> [Option<f64>; 2] {
    let gauge = |region| {
        format!(
            "signing_proxy_upstream_health{{signer_kid=\"ec\",upstream=\"aws-kms\",region=\"{region}\"}}"
        )
    };
    [proxy.metric(&gauge("eu-test-1")).await, proxy.metric(&gauge("eu-test-2")).await]
}

async fn outage_seconds(proxy: &Proxy<'_>) -> f64 {
    proxy.metric("signing_proxy_outage_seconds{signer_kid=\"ec\"}").await.unwrap()
}

async fn signs(alice: &Client) {
    let answer = alice.sign_message("ec", b"hi").await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn i11_a_region_is_cut_then_both_then_none() {
    let regions = Regions::new();
    let proxy = regions.proxy().start().await;
    let alice = proxy.client(ALICE).await;
    outage(&proxy, "none").await;
    assert_eq!(gauges(&proxy).await, [Some(1.0), Some(1.0)]);

    // The one that is asked first.
    regions.world.kms.cut().await;
    let health = outage(&proxy, "partial").await;
    assert_eq!((health.status, &health.body["ok"]), (200, &Value::Bool(true)), "{health:?}");
    for _ in 0..20 {
        signs(&alice).await;
    }
    assert_eq!(gauges(&proxy).await, [Some(0.0), Some(1.0)]);
    assert_eq!(proxy.metric("signing_proxy_health").await, Some(1.0));
    assert!(outage_seconds(&proxy).await.abs() < f64::EPSILON);
    let (code, status, _) = proxy.signctl(&["status"]);
    assert_eq!(code, 0, "{status}");
    assert!(status.contains("1 of 2 (partial outage)"), "{status}");
    assert!(
        status.lines().any(|line| line.contains("shut") && line.contains("eu-test-1")),
        "{status}"
    );
    assert!(
        status.lines().any(|line| line.contains("open") && line.contains("eu-test-2")),
        "{status}"
    );

    regions.other.cut().await;
    let health = outage(&proxy, "full").await;
    assert_eq!((health.status, health.reason()), (503, "upstream_unhealthy"), "{health:?}");
    let refused = alice.sign_message("ec", b"hi").await;
    assert_eq!((refused.status, refused.reason()), (503, "upstream_unhealthy"), "{refused:?}");
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(gauges(&proxy).await, [Some(0.0), Some(0.0)]);
    eventually("the outage clock runs", || async {
        let before = outage_seconds(&proxy).await;
        (before > 0.1 && outage_seconds(&proxy).await > before).then_some(())
    })
    .await;
    eventually("status says what is left to break-glass", || async {
        let (code, status, _) = proxy.signctl(&["status"]);
        let says =
            status.contains("OUTAGE of ec for") && status.contains("break-glass may begin in 29m");
        (code != 0 && says).then_some(())
    })
    .await;

    regions.other.reconnect().await;
    outage(&proxy, "partial").await;
    signs(&alice).await;
    assert!(outage_seconds(&proxy).await.abs() < f64::EPSILON);
    regions.world.kms.reconnect().await;
    outage(&proxy, "none").await;
    signs(&alice).await;
    assert_eq!(gauges(&proxy).await, [Some(1.0), Some(1.0)]);
    assert!(outage_seconds(&proxy).await.abs() < f64::EPSILON);
    proxy.stop().await;
}

#[tokio::test]
async fn i10_a_replica_with_another_key_seals_the_signer() {
    let regions = Regions::new();
    let another = regions.other.key(Kind::P256);
    let proxy = regions
        .world
        .proxy()
        .signer("ec", &regions.key)
        .replica("ec", &regions.other, &another)
        .caller(ALICE, &["ec"])
        .start_shut()
        .await;
    proxy.unhealthy_for("sealed").await;
    let refused = proxy.client(ALICE).await.sign_message("ec", b"hi").await;
    assert_eq!((refused.status, refused.reason()), (503, "sealed"), "{refused:?}");
    assert_eq!(another.calls(Operation::Sign), 0);
    let (_, status, _) = proxy.signctl(&["status"]);
    assert!(status.contains("not the registered one"), "{status}");
}

#[tokio::test]
async fn a_call_that_certainly_signed_nothing_is_made_in_the_other_region() {
    let regions = Regions::new();
    // Many failures are borne: each request meets the fault anew.
    let proxy = regions.proxy().rare_canaries().kms("retries_per_second_max = 1000").start().await;
    let alice = proxy.client(ALICE).await;
    eventually("both are open", || async {
        (gauges(&proxy).await == [Some(1.0), Some(1.0)]).then_some(())
    })
    .await;
    regions.key.break_with(Fault::Error("KMSInternalException", 500));
    let (first, second) =
        (regions.key.calls(Operation::Sign), regions.replica.calls(Operation::Sign));
    for _ in 0..10 {
        signs(&alice).await;
    }
    assert_eq!(regions.key.calls(Operation::Sign) - first, 10);
    assert_eq!(regions.replica.calls(Operation::Sign) - second, 10);
    regions.key.mend();
    // Nobody listens there any more.
    regions.world.kms.cut().await;
    for _ in 0..10 {
        signs(&alice).await;
    }
    assert_eq!(regions.replica.calls(Operation::Sign) - second, 20);
}

#[tokio::test]
async fn the_budget_for_second_attempts_holds_in_the_other_region_too() {
    let regions = Regions::new();
    let proxy = regions.proxy().rare_canaries().kms("retries_per_second_max = 0").start().await;
    let alice = proxy.client(ALICE).await;
    outage(&proxy, "none").await;
    regions.key.break_with(Fault::Error("KMSInternalException", 500));
    let second = regions.replica.calls(Operation::Sign);
    let refused = alice.sign_message("ec", b"hi").await;
    assert_eq!((refused.status, refused.reason()), (503, "upstream_unhealthy"), "{refused:?}");
    assert_eq!(regions.replica.calls(Operation::Sign), second);
}

#[tokio::test]
async fn i10_no_second_signature_is_asked_for_where_the_first_may_have_been_made() {
    let regions = Regions::new();
    let proxy = regions
        .proxy()
        .rare_canaries()
        .kms("retries_per_second_max = 1000\ncall_timeout_ms = 300\nconnect_timeout_ms = 100")
        .start()
        .await;
    let alice = proxy.client(ALICE).await;
    outage(&proxy, "none").await;
    let second = regions.replica.calls(Operation::Sign);
    for fault in [Fault::Reset, Fault::ResetMidAnswer, Fault::Hang, Fault::Bare503, Fault::NotJson]
    {
        regions.key.break_with(fault.clone());
        let answer = alice.sign_message("ec", b"hi").await;
        assert_eq!(
            (answer.status, answer.reason()),
            (504, "indeterminate"),
            "{fault:?}: {answer:?}"
        );
    }
    // A throttle and a denial are no reason to ask elsewhere, either.
    for code in ["ThrottlingException", "ValidationException"] {
        regions.key.break_with(Fault::Error(code, 400));
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 503, "{code}");
    }
    assert_eq!(regions.replica.calls(Operation::Sign), second);
}

#[tokio::test]
async fn the_fastest_region_is_asked_where_that_is_preferred() {
    for (prefer, asked_first) in [("configured", true), ("fastest", false)] {
        let regions = Regions::new();
        regions.key.break_with(Fault::Latency(Duration::from_millis(300)));
        let proxy = regions.proxy().rare_canaries().prefer(prefer).start().await;
        let alice = proxy.client(ALICE).await;
        outage(&proxy, "none").await;
        for _ in 0..5 {
            signs(&alice).await;
        }
        let signed = journal::read(&proxy.socket.with_file_name("journal"), "signed");
        let asked = ["eu-test-1", "eu-test-2"].map(|region| {
            signed.iter().filter(|line| line["record"]["data"]["region"] == region).count()
        });
        assert_eq!(asked, if asked_first { [5, 0] } else { [0, 5] }, "{prefer}");
    }
}

#[tokio::test]
async fn i8_what_is_beyond_the_quota_is_refused_before_kms_is_asked() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .rare_canaries()
        .kms("requests_per_second_max = 1")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let alice = proxy.http2_client(ALICE).await;
    let headroom = "signing_proxy_upstream_quota_headroom_ratio{signer_kid=\"ec\",upstream=\"aws-kms\",region=\"eu-test-1\"}";
    let (calls, started) = (key.calls(Operation::Sign), std::time::Instant::now());
    let (mut signed, mut shed) = (0, 0);
    for _ in 0..50 {
        let answer = alice.sign_message("ec", b"hi").await;
        match (answer.status, answer.reason()) {
            (200, _) => {
                // A second's call was spent less than a second ago.
                let left = proxy.metric(headroom).await.unwrap();
                assert!(left < 1.0 || started.elapsed() > Duration::from_secs(1), "{left}");
                signed += 1;
            }
            (503, "upstream_throttled") => {
                assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
                shed += 1;
            }
            _ => panic!("{answer:?}"),
        }
    }
    let at_most = started.elapsed().as_secs() + 2;
    assert!(signed > 0 && shed > 0 && signed <= at_most, "{signed} signed, {shed} shed");
    // One canary may have been on its way.
    let asked = key.calls(Operation::Sign) - calls;
    assert!((signed..=signed + 1).contains(&asked), "{asked} asked, {signed} signed");
    // Being careful is no evidence against the upstream.
    assert_eq!(proxy.health().await.status, 200);
    let metrics = proxy.metrics().await;
    assert!(!metrics.contains("kind=\"throttled\""), "{metrics}");
    eventually("the quota recovers", || async {
        let left = proxy.metric(headroom).await?;
        (left > 0.99 && alice.sign_message("ec", b"hi").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn with_a_quota_in_each_region_the_second_takes_what_is_beyond_the_first() {
    let regions = Regions::new();
    let proxy = regions.proxy().rare_canaries().kms("requests_per_second_max = 5").start().await;
    let alice = proxy.client(ALICE).await;
    outage(&proxy, "none").await;
    let second = regions.replica.calls(Operation::Sign);
    eventually("the second region is asked", || async {
        alice.sign_message("ec", b"hi").await;
        (regions.replica.calls(Operation::Sign) > second).then_some(())
    })
    .await;
}

#[test]
fn mistakes_about_upstreams_are_told_with_their_fix() {
    let regions = Regions::new();
    let mistakes = |proxy: system_tests::ProxyBuilder<'_>| {
        let output = check(&proxy.write(), &[("AWS_EC2_METADATA_DISABLED", "true")]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        said(&output)
    };
    let twice = mistakes(regions.proxy().replica("ec", &regions.world.kms, &regions.key));
    assert!(twice.contains("aws-kms in \"eu-test-1\" twice"), "{twice}");
    let many = (3..=9).fold(regions.proxy(), |proxy, number| {
        let mut kms = regions.other.clone();
        kms.region = REGIONS[number - 3];
        proxy.replica("ec", &kms, &regions.replica)
    });
    let many = mistakes(many);
    assert!(many.contains("holds 9, expected at most 8"), "{many}");
    let prefer = mistakes(regions.proxy().prefer("nearest"));
    assert!(prefer.contains("prefer") && prefer.contains("\"fastest\""), "{prefer}");
}

const REGIONS: [&str; 7] = ["r-3", "r-4", "r-5", "r-6", "r-7", "r-8", "r-9"];

/// Questions for the state of a key come quickly; canaries come at their usual pace.
const CURIOUS: &str = "lease_ms = 4000\nprobe_interval_ms = 200\nprobe_timeout_ms = 2500\n\
                       recovery_probe_interval_ms = 20\nrecovery_min_ms = 0\nsuccesses_to_open = 2\n\
                       key_state_interval_ms = 100\n";

#[tokio::test]
async fn i11_a_key_that_is_disabled_shuts_its_gate_though_it_still_signs_and_is_no_outage() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world.proxy().gate(CURIOUS).signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    for (state, deletion, words) in [
        ("Disabled", None, "state in KMS is Disabled"),
        (
            "PendingDeletion",
            Some(1_800_000_000),
            "PendingDeletion; it will be deleted at 2027-01-15T08:00:00Z",
        ),
        ("PendingImport", None, "state in KMS is PendingImport"),
        ("Unavailable", None, "state in KMS is Unavailable"),
    ] {
        key.set_state(state, deletion);
        eventually("the state shuts the gate, whatever traffic shows", || async {
            let answer = alice.sign_message("ec", b"hi").await;
            (answer.reason() == "key_unavailable").then_some(())
        })
        .await;
        // Canaries would succeed: they are not asked as long as KMS says so.
        let questions = key.calls(Operation::DescribeKey);
        eventually("it is asked again", || async {
            (key.calls(Operation::DescribeKey) > questions + 3).then_some(())
        })
        .await;
        proxy.unhealthy_for("key_unavailable").await;
        assert!(outage_seconds(&proxy).await.abs() < f64::EPSILON);
        let (_, status, _) = proxy.signctl(&["status"]);
        assert!(status.contains(words), "{state}: {status}");
        key.set_state("Enabled", None);
        proxy.healthy().await;
        signs(&alice).await;
    }
}

#[tokio::test]
async fn where_the_state_of_a_key_can_not_be_asked_for_canaries_decide_alone() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world.proxy().gate(CURIOUS).signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    for fault in [
        Fault::Error("AccessDeniedException", 400),
        Fault::Error("UnknownOperationException", 400),
        Fault::Error("ThrottlingException", 400),
        Fault::Error("KMSInternalException", 500),
        Fault::NotJson,
        Fault::Reset,
        Fault::Hang,
    ] {
        key.set(Operation::DescribeKey, fault.clone());
        let questions = key.calls(Operation::DescribeKey);
        eventually("it was asked", || async {
            (key.calls(Operation::DescribeKey) > questions + 2).then_some(())
        })
        .await;
        assert_eq!(proxy.health().await.status, 200, "{fault:?}");
        signs(&alice).await;
        // A denial of the canary itself is told as what it is.
        key.break_with(Fault::Error("DisabledException", 400));
        proxy.unhealthy_for("key_unavailable").await;
        key.mend();
        proxy.healthy().await;
    }
}

//! Metrics: the names that alerts use, in a form that promtool accepts, and in
//! flat memory.

use std::io::Write as _;
use std::process::Stdio;

use system_tests::{Fault, Kind, World, programs};

use crate::ALICE;

/// Every name of the contract that applies so far.
const NAMES: &[&str] = &[
    "signing_proxy_health",
    "kms_sign_latency",
    "kms_errors_total",
    "signing_proxy_requests_total",
    "signing_proxy_signer_health",
    "signing_proxy_upstream_health",
    "signing_proxy_gate_state",
    "signing_proxy_gate_transitions_total",
    "signing_proxy_request_duration_seconds",
    "signing_proxy_inflight_requests",
    "signing_proxy_frozen",
    "signing_proxy_build_info",
    "signing_proxy_tls_certificate_expiry_timestamp_seconds",
];

#[tokio::test]
async fn promtool_accepts_the_metrics_and_every_name_is_there() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    assert_eq!(alice.sign_message("none", b"hi").await.status, 404);
    key.break_with(Fault::Error("ThrottlingException", 400));
    proxy.unhealthy_for("upstream_throttled").await;
    let text = proxy.metrics().await;
    for name in NAMES {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} is missing");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    for sample in [
        r#"signing_proxy_requests_total{result="refused",reason="signer_unknown",signer_kid="",mode="normal"} 1"#,
        r#"kms_sign_latency_count{upstream="aws-kms",region="eu-test-1",outcome="signed"}"#,
        r#"kms_errors_total{upstream="aws-kms",region="eu-test-1",kind="throttled"}"#,
        r#"signing_proxy_gate_state{signer_kid="ec",state="shut"} 1"#,
        r#"signing_proxy_gate_state{signer_kid="ec",state="open"} 0"#,
    ] {
        assert!(text.contains(sample), "{sample} is missing in\n{text}");
    }
    promtool_accepts(&text);
}

/// What Prometheus's own tool says of them.
pub(crate) fn promtool_accepts(text: &str) {
    let mut promtool = programs::system("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "promtool: {said}");
}

#[tokio::test]
async fn no_label_takes_a_value_that_a_caller_chose() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    let before = proxy.metrics().await.lines().count();
    for number in 0..200 {
        let answer = alice.sign_message(&format!("chosen-{number}"), b"hi").await;
        assert_eq!(answer.reason(), "signer_unknown");
    }
    let text = proxy.metrics().await;
    assert!(!text.contains("chosen-"));
    assert!(
        text.lines().count() <= before + 20,
        "{} lines before, {} after",
        before,
        text.lines().count()
    );
}

#[tokio::test]
async fn memory_stays_flat_while_nobody_scrapes() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = world.proxy().signer("ed", &key).caller(ALICE, &["ed"]).start().await;
    let resident_kib = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", proxy.process.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap()
    };
    let client = proxy.http2_client(ALICE).await;
    let sign_many = || async {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move {
                    for _ in 0..500 {
                        assert_eq!(client.sign_message("ed", b"hi").await.status, 200);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    };
    sign_many().await;
    let warm = resident_kib();
    for _ in 0..3 {
        sign_many().await;
    }
    let later = resident_kib();
    // Samples that pile up would take far more: 12,000 requests, 6 histograms.
    assert!(later < warm + 6 * 1024, "{warm} KiB after 4,000 signatures, {later} KiB after 16,000");
}

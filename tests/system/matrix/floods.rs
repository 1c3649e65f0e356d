//! HTTP/2 floods by `tests/http2/flood.py`: each is ended or bounded, and nobody else
//! notices. Admin, metrics and health answer all the while.

use std::process::Stdio;

use serde_json::{Value, json};
use system_tests::journal::python;
use system_tests::{Kind, Profile, Proxy, World, eventually};

use crate::ALICE;

const MALLORY: &str = "mallory.example";

/// What more a flood may make of the process, in KiB.
const GROWTH_MAX_KIB: u64 = 64 << 10;

#[tokio::test]
async fn i8_an_http2_flood_is_ended_or_bounded_and_nobody_else_notices() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let builder = world.proxy().server("body_read_timeout_ms = 1000").signer("ec", &key);
    let proxy = builder.caller(ALICE, &["ec"]).caller(MALLORY, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    // The kind, and whether the server ends the connection for it.
    for (kind, ends) in [
        ("rapid_reset", true),
        ("continuation", true),
        ("empty_continuation", true),
        ("empty_data", false),
        ("ping", false),
        ("settings", false),
    ] {
        let before = proxy.process.resident_kib();
        let flood = flood(&world, &proxy, kind, 3);
        let mut flooding = tokio::process::Command::from(flood).spawn().unwrap();
        let mut signed = 0;
        // All the while it floods, and once more after.
        loop {
            let over = flooding.try_wait().unwrap().is_some();
            assert_eq!(alice.sign_message("ec", b"hi").await.status, 200, "{kind}");
            assert_eq!(proxy.health().await.status, 200, "{kind}");
            assert!(proxy.metrics().await.contains("signing_proxy_connections"), "{kind}");
            assert_eq!(proxy.admin("GET", "/v1/status", json!(null)).await.status, 200, "{kind}");
            signed += 1;
            if over {
                break;
            }
        }
        let output = flooding.wait_with_output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let outcome: Value = serde_json::from_str(&said).unwrap_or_else(|_| {
            panic!("{kind}: {said}{}", String::from_utf8_lossy(&output.stderr))
        });
        println!("{kind}: {signed} signatures meanwhile; {outcome}");
        assert!(outcome["sent"].as_u64() >= Some(64), "{kind} flooded nothing: {outcome}");
        assert!(outcome["ended"] == true || !ends, "{kind} was not ended: {outcome}");
        let statuses: Vec<u64> = serde_json::from_value(outcome["statuses"].clone()).unwrap();
        assert!(statuses.iter().all(|status| *status >= 400), "{kind} was signed: {outcome}");
        let after = proxy.process.resident_kib();
        assert!(after < before + GROWTH_MAX_KIB, "{kind}: from {before} to {after} KiB");
        eventually("nothing in flight", || async {
            let in_flight = proxy.metric("signing_proxy_inflight_requests").await;
            (in_flight == Some(0.0)).then_some(())
        })
        .await;
    }
    proxy.stop().await;
}

fn flood(world: &World, proxy: &Proxy<'_>, kind: &str, seconds: u32) -> std::process::Command {
    let certificate = world.pki.issue(&Profile::client(MALLORY));
    let (address, port) = proxy.listen.split_once(':').unwrap();
    let mut command = python("tests/http2/flood.py");
    command.args([kind, address, port]);
    command.arg(world.scratch.write("flood-ca.pem", &world.pki.ca_pem));
    command.arg(world.scratch.write("flood.pem", &certificate.certificate_pem));
    command.arg(world.scratch.write("flood.key", &certificate.key_pem));
    command.arg(seconds.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

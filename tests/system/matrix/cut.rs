//! The network to the KMS is cut: packets dropped, or answered with resets. In a network
//! namespace of its own, where nothing else is, and which ends with its process.

use std::time::{Duration, Instant};

use system_tests::network::{inside, run};
use system_tests::programs::system;
use system_tests::{Kind, World, eventually};

use super::asked;
use crate::ALICE;
use crate::doctor::agreed;

const LEASE: Duration = Duration::from_secs(3);
const GATE: &str = "lease_ms = 3000\nprobe_interval_ms = 100\nprobe_timeout_ms = 1500\n\
                    recovery_probe_interval_ms = 20\nrecovery_min_ms = 0\nsuccesses_to_open = 2";

#[tokio::test]
async fn i2_a_region_that_is_cut_off_shuts_the_gate_within_its_lease_and_opens_it_again() {
    let me = "matrix::cut::i2_a_region_that_is_cut_off_shuts_the_gate_within_its_lease_and_opens_it_again";
    if !inside(me, 120) {
        return;
    }
    run(&["nft", "add table inet cut"]);
    run(&["nft", "add chain inet cut in { type filter hook input priority 0; }"]);
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let port = world.kms.endpoint.rsplit(':').next().unwrap().to_owned();
    let proxy = world
        .proxy()
        .gate(GATE)
        .kms("call_timeout_ms = 700\nconnect_timeout_ms = 300")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let client = proxy.client(ALICE).await;
    for verdict in ["drop", "reject with tcp reset"] {
        assert_eq!(asked(&client).await.unwrap().status, 200, "before {verdict}");
        run(&["nft", &format!("add rule inet cut in tcp dport {port} counter {verdict}")]);
        let cut = Instant::now();
        let shut = loop {
            let (sent, answer) = (cut.elapsed(), asked(&client).await.unwrap());
            assert_ne!(answer.status, 200, "{verdict}: signed after it was cut");
            assert!(sent < LEASE + Duration::from_secs(2), "{verdict}: open after its lease");
            if answer.reason() == "upstream_unhealthy" && proxy.health().await.status == 503 {
                break sent;
            }
        };
        println!("{verdict}: shut {shut:?} after the cut");
        eventually("packets that met the rule", || std::future::ready(met().then_some(()))).await;
        let before = Instant::now();
        for _ in 0..20 {
            assert_eq!(asked(&client).await.unwrap().reason(), "upstream_unhealthy", "{verdict}");
        }
        // Had each waited for the network, this would have taken 14 s.
        assert!(before.elapsed() < Duration::from_secs(5), "{verdict}: refusals waited");
        assert!(!agreed(&proxy, verdict).await, "{verdict}");
        run(&["nft", "flush chain inet cut in"]);
        proxy.healthy().await;
        assert_eq!(asked(&client).await.unwrap().status, 200, "after {verdict}");
        assert!(agreed(&proxy, verdict).await, "after {verdict}");
    }
    proxy.stop().await;
}

/// Whether the rule saw a packet.
fn met() -> bool {
    let output = system("nft").args(["list", "chain", "inet", "cut", "in"]).output().unwrap();
    let rules = String::from_utf8_lossy(&output.stdout).into_owned();
    rules.contains("counter packets") && !rules.contains("counter packets 0 ")
}

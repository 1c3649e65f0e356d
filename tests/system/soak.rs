//! An hour of everything at once, in the campaign only: memory ends where it was once all was warm.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use system_tests::{Kind, Proxy, World, is_campaign};

use crate::ALICE;

/// How long the soak test signs.
const LASTS: Duration = Duration::from_secs(3600);
/// Rounds of the load between two looks.
const ROUNDS: usize = 20;
/// Looks until all is warm: the pools, the histograms, the journal's first segments.
const WARM: usize = 10;
/// How much later looks may lie above the highest of the warm ones.
const GROWTH_KIB: u64 = 6 * 1024;

/// One round: signatures over both protocols, by itself and in a batch, refusals, and new connections.
async fn round(proxy: &Proxy<'_>) {
    let (http1, http2) = (proxy.client(ALICE).await, proxy.http2_client(ALICE).await);
    let asking = (0..64).map(|at| {
        let (http1, http2) = (http1.clone(), http2.clone());
        tokio::spawn(async move {
            let client = if at % 2 == 0 { http1 } else { http2 };
            match at % 4 {
                0 | 1 => assert_eq!(client.sign_message("ec", b"hi").await.status, 200),
                2 => {
                    let body = json!({"signer_kid": "bulk", "message": STANDARD.encode(b"hi")});
                    assert_eq!(client.post("/v1/sign", &body).await.status, 200);
                }
                _ => {
                    let unknown = format!("unknown-{at}");
                    let refused = client.sign_message(&unknown, b"hi").await;
                    assert_eq!(refused.reason(), "signer_unknown");
                }
            }
        })
    });
    for asked in asking.collect::<Vec<_>>() {
        asked.await.unwrap();
    }
}

#[tokio::test]
async fn memory_stays_flat_for_an_hour() {
    if !is_campaign() {
        return;
    }
    let world = World::new();
    let (key, batch) = (world.kms.key(Kind::P256), world.kms.key(Kind::Ed25519));
    let proxy = world.proxy().signer("ec", &key).batch_signer("bulk", &batch);
    let proxy = proxy.caller(ALICE, &["ec", "bulk"]).start().await;
    let (began, mut resident) = (Instant::now(), Vec::new());
    while began.elapsed() < LASTS || resident.len() <= WARM {
        for _ in 0..ROUNDS {
            round(&proxy).await;
        }
        resident.push(proxy.process.resident_kib());
    }
    let (warm, later) = resident.split_at(WARM);
    let (warm, later) = (warm.iter().max().unwrap(), later.iter().max().unwrap());
    println!("{warm} KiB once warm, {later} KiB at most in {} looks after", resident.len() - WARM);
    assert!(*later < warm + GROWTH_KIB, "{resident:?}");
}

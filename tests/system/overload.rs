//! Ten times more than it can take: what is accepted is signed, the rest is refused at
//! once and told when to come back, and memory stays flat. How fast: benches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;
use system_tests::{Answer, Client, Fault, Kind, World};

use crate::ALICE;

const SLOTS: usize = 8;

/// What the KMS takes for a signature.
const LATENCY: Duration = Duration::from_millis(20);

/// What an overload may make of the process, in KiB.
const GROWTH_MAX_KIB: u64 = 48 << 10;

#[derive(Debug, Default)]
struct Counts {
    signed: usize,
    overloaded: usize,
    others: Vec<Answer>,
}

#[tokio::test]
async fn i8_ten_times_the_load_is_refused_at_once_and_what_is_accepted_is_signed() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .server(&format!(
            "requests_in_flight_max = {SLOTS}\nrequests_in_flight_per_caller_max = {SLOTS}"
        ))
        .rare_canaries()
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    key.break_with(Fault::Latency(LATENCY));
    let ends = Arc::new(AtomicBool::new(false));
    // Each asks again as soon as it has an answer, refused or not.
    let mut clients = Vec::new();
    for _ in 0..10 {
        let client = proxy.http2_client(ALICE).await;
        for _ in 0..SLOTS {
            clients.push(tokio::spawn(ask(client.clone(), Arc::clone(&ends))));
        }
    }
    let (mut resident, begun) = (Vec::new(), Instant::now());
    while begun.elapsed() < Duration::from_secs(4) {
        // The operator is answered all the while.
        assert_eq!(proxy.admin("GET", "/v1/status", json!(null)).await.status, 200);
        assert_eq!(proxy.health().await.status, 200, "overload is no evidence");
        assert!(proxy.metric("signing_proxy_inflight_requests").await <= Some(SLOTS as f64));
        resident.push(proxy.process.resident_kib());
    }
    ends.store(true, Ordering::SeqCst);
    let mut counts = Counts::default();
    for client in clients {
        let Counts { signed, overloaded, others } = client.await.unwrap();
        counts.signed += signed;
        counts.overloaded += overloaded;
        counts.others.extend(others);
    }
    let took = begun.elapsed();
    println!(
        "{} signed, {} refused in {took:?}; resident {:?} to {:?} KiB",
        counts.signed,
        counts.overloaded,
        resident.first(),
        resident.last()
    );
    assert!(counts.others.is_empty(), "neither signed nor overloaded: {:?}", counts.others);
    // Accepted requests get through at a good part of the rate that the slots allow.
    assert!(counts.signed > 20, "{} signed", counts.signed);
    assert!(counts.overloaded > counts.signed, "it was no overload: {counts:?}");
    // Warm since its first samples.
    let (warm, last) = (resident[resident.len() / 4], *resident.last().unwrap());
    assert!(last < warm + GROWTH_MAX_KIB, "from {warm} to {last} KiB");
    key.mend();
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    proxy.stop().await;
}

async fn ask(client: Client, ends: Arc<AtomicBool>) -> Counts {
    let mut counts = Counts::default();
    let headers = [("content-type", "application/json")];
    while !ends.load(Ordering::SeqCst) {
        let body = r#"{"message":"aGk="}"#;
        let answer = client.send(Method::POST, "/v1/sign", &headers, body).await.unwrap();
        match (answer.status, answer.reason(), answer.header("retry-after")) {
            (200, _, _) => counts.signed += 1,
            (503, "overloaded", "1") => counts.overloaded += 1,
            _ => counts.others.push(answer),
        }
    }
    counts
}

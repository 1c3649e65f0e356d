//! A stop: what is in flight is finished, with a deadline.

use std::time::Duration;

use nix::sys::signal::Signal;
use system_tests::{Fault, Kind, World, eventually};
use tokio::net::TcpStream;

use crate::ALICE;

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_and_takes_nothing_new() {
    for http2 in [false, true] {
        let (world, key) = World::one_signer();
        let mut proxy = world.proxy_of(&key).start().await;
        let client =
            if http2 { proxy.http2_client(ALICE).await } else { proxy.client(ALICE).await };
        key.break_with(Fault::Latency(Duration::from_millis(600)));
        let asked = tokio::spawn(async move { client.sign_message("ec", b"hi").await });
        eventually("the request in flight", || async {
            (proxy.metric("signing_proxy_inflight_requests").await == Some(1.0)).then_some(())
        })
        .await;
        proxy.process.signal(Signal::SIGTERM);
        eventually("no new connections", || async {
            TcpStream::connect(&proxy.listen).await.is_err().then_some(())
        })
        .await;
        let answer = asked.await.unwrap();
        assert_eq!(answer.status, 200, "http2 {http2}: {answer:?}");
        assert!(proxy.process.ended().await.success());
    }
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_whatever_hangs() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let mut proxy = world
        .proxy()
        .server("drain_timeout_ms = 300\nrequest_timeout_ms = 60000")
        .kms("call_timeout_ms = 60000")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let client = proxy.client(ALICE).await;
    key.break_with(Fault::Hang);
    let asked = tokio::spawn(async move { client.sign_message("ec", b"hi").await });
    eventually("the request in flight", || async {
        (proxy.metric("signing_proxy_inflight_requests").await == Some(1.0)).then_some(())
    })
    .await;
    proxy.process.signal(Signal::SIGTERM);
    assert!(proxy.process.ended().await.success());
    proxy.process.says("the drain deadline passed").await;
    assert!(asked.await.is_err(), "its connection was cut");
}

//! What clients do to connections: drip, vanish, flood. `limits.rs`, `bad_requests.rs` and
//! `certificates.rs` have the rest.

use std::time::{Duration, Instant};

use serde_json::json;
use system_tests::client::tls;
use system_tests::{
    Client, FaultProxy, Kind, NetworkFault, Profile, Protocol, Proxy, World, eventually,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::asked;
use crate::ALICE;

const BOB: &str = "bob.example";

async fn gone(proxy: &Proxy<'_>, but: f64) {
    eventually("the connection gone", || async {
        (proxy.metric("signing_proxy_connections").await <= Some(but)).then_some(())
    })
    .await;
}

/// Writes one byte in 50 ms until the other side ends the connection; how long that took.
async fn drip(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Duration {
    let begun = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    for byte in bytes {
        let mut read = [0; 1024];
        tokio::select! {
            _ = pace.tick() => if stream.write_all(&[*byte]).await.is_err() { return begun.elapsed(); },
            read = stream.read(&mut read) => match read {
                Ok(0) | Err(_) => return begun.elapsed(),
                Ok(_) => {}
            },
        }
    }
    panic!("all {} bytes were taken, in {:?}", bytes.len(), begun.elapsed());
}

#[tokio::test]
async fn i8_a_client_that_drips_is_ended_wherever_it_drips() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .server(
            "handshake_timeout_ms = 400\nheader_read_timeout_ms = 400\nbody_read_timeout_ms = 400",
        )
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    // More bytes than twenty seconds take, each well before any timer of a single read.
    let filler = "x".repeat(400);
    let head = format!("POST /v1/sign HTTP/1.1\r\nhost: x\r\nx: {filler}\r\n\r\n");
    let body = "POST /v1/sign HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 400\r\n\r\n";
    let hello = [b"\x16\x03\x01\x01\x90\x01\0\x01\x8c\x03\x03".to_vec(), vec![7; 400]].concat();
    let took = drip(TcpStream::connect(&proxy.listen).await.unwrap(), &hello).await;
    println!("handshake: ended after {took:?}");
    for (name, at_once, dripped) in
        [("headers", "", head.as_str()), ("body", body, filler.as_str())]
    {
        let connected = tls(&proxy.listen, &world.pki.ca_pem, Some(&certificate), b"http/1.1");
        let mut stream = connected.await.unwrap();
        stream.write_all(at_once.as_bytes()).await.unwrap();
        let took = drip(stream, dripped.as_bytes()).await;
        println!("{name}: ended after {took:?}");
    }
    gone(&proxy, 0.0).await;
    assert_eq!(asked(&proxy.client(ALICE).await).await.unwrap().status, 200);
}

#[tokio::test]
async fn i8_a_client_that_vanishes_keeps_neither_connection_nor_slot() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .server("header_read_timeout_ms = 600\nwrite_timeout_ms = 600\nrequest_timeout_ms = 2000")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let way = FaultProxy::start(&proxy.listen);
        let certificate = world.pki.issue(&Profile::client(ALICE));
        let connecting = Client::connect(&way.address, &world.pki.ca_pem, &certificate, protocol);
        let client = connecting.await.unwrap();
        assert_eq!(asked(&client).await.unwrap().status, 200);
        // Neither end hears of the other any more, and neither is told so.
        way.set(NetworkFault::BlackHole);
        let lost = client.clone();
        let lost = tokio::spawn(async move { asked(&lost).await });
        eventually("bytes in the hole", || async { (way.hits() > 0).then_some(()) }).await;
        gone(&proxy, 0.0).await;
        lost.abort();
    }
    assert_eq!(asked(&proxy.client(ALICE).await).await.unwrap().status, 200);
}

#[tokio::test]
async fn i6_an_answer_that_is_cut_on_its_way_is_recorded_and_holds_up_nothing() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy =
        world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let signed = r#"audit_records_total{type="signed"}"#;
    for trouble in [NetworkFault::Reset(0), NetworkFault::Truncate(0), NetworkFault::Reset(30)] {
        let way = FaultProxy::start(&proxy.listen);
        let certificate = world.pki.issue(&Profile::client(ALICE));
        let connecting =
            Client::connect(&way.address, &world.pki.ca_pem, &certificate, Protocol::Http1);
        let client = connecting.await.unwrap();
        assert_eq!(asked(&client).await.unwrap().status, 200, "{trouble:?}");
        let before = proxy.metric(signed).await.unwrap();
        way.set(trouble);
        assert!(asked(&client).await.is_none(), "{trouble:?}: an answer arrived");
        assert!(way.hits() > 0, "{trouble:?}");
        eventually("its record", || async {
            (proxy.metric(signed).await == Some(before + 1.0)).then_some(())
        })
        .await;
        eventually("its slot", || async {
            (proxy.metric("signing_proxy_inflight_requests").await == Some(0.0)).then_some(())
        })
        .await;
        assert_eq!(proxy.signctl(&["freeze", "--reason", "after"]).0, 0, "{trouble:?}");
        assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 0, "{trouble:?}");
    }
}

#[tokio::test]
async fn i8_a_flood_of_good_clients_is_bounded_and_the_operator_is_still_answered() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .server("connections_max = 12\nconnections_per_caller_max = 8")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .caller(BOB, &["ec"])
        .start()
        .await;
    let mut let_in = Vec::new();
    let mut refused = 0;
    // Of one caller more than it may have, then of another until none is left for anyone.
    for (caller, clients, most) in [(ALICE, 30, 8), (BOB, 30, 4)] {
        let certificate = world.pki.issue(&Profile::client(caller));
        let mut of_caller = Vec::new();
        for _ in 0..clients {
            let connecting =
                Client::connect(&proxy.listen, &world.pki.ca_pem, &certificate, Protocol::Http1);
            // One that is not let in hears so at the latest when it asks.
            match connecting.await {
                Ok(client) if asked(&client).await.is_some_and(|a| a.status == 200) => {
                    of_caller.push(client);
                }
                _ => refused += 1,
            }
        }
        assert_eq!(of_caller.len(), most, "{caller}");
        let_in.extend(of_caller);
        assert_eq!(proxy.health().await.status, 200);
        assert_eq!(proxy.admin("GET", "/v1/status", json!(null)).await.status, 200);
        // Whoever is refused may hear of it before it is counted.
        eventually(
            &format!("all connections of {caller} that were refused are counted"),
            || async {
                let counted = proxy.metric("signing_proxy_connections_refused_total").await;
                (counted == Some(f64::from(refused))).then_some(())
            },
        )
        .await;
    }
    for client in &let_in {
        assert_eq!(asked(client).await.unwrap().status, 200, "who is in stays in");
    }
    drop(let_in);
    eventually("room again", || async {
        (asked(&proxy.client(BOB).await).await?.status == 200).then_some(())
    })
    .await;
}

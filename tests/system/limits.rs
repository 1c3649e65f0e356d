//! Everything is bounded (I8): slow clients, floods, overload. Admin, health and
//! metrics answer all the while.

use std::time::Duration;

use serde_json::json;
use system_tests::client::{raw, tls};
use system_tests::{Fault, Kind, Profile, World, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ALICE;

#[tokio::test]
async fn a_body_that_does_not_arrive_is_refused_in_time() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .server("body_read_timeout_ms = 200")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let mut stream =
        tls(&proxy.listen, &world.pki.ca_pem, Some(&certificate), b"http/1.1").await.unwrap();
    let head = "POST /v1/sign HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{";
    let answer = raw(&mut stream, head.as_bytes()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request_timeout"), "{answer}");
}

#[tokio::test]
async fn slow_headers_and_idle_connections_are_closed() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .server("header_read_timeout_ms = 200\nhandshake_timeout_ms = 200")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    for (name, alpn, bytes) in [
        ("slow headers", &b"http/1.1"[..], &b"POST /v1/sign HTTP/1.1\r\nhost:"[..]),
        ("silent HTTP/1.1", b"http/1.1", b""),
        ("silent HTTP/2", b"h2", b""),
        (
            "HTTP/2 without a request",
            b"h2",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
    ] {
        let mut stream =
            tls(&proxy.listen, &world.pki.ca_pem, Some(&certificate), alpn).await.unwrap();
        // It returns only if the other side closes.
        let closed = raw(&mut stream, bytes).await;
        assert!(
            !matches!(&closed, Err(why) if why.contains("neither closed")),
            "{name}: {closed:?}"
        );
    }
    let mut silent = TcpStream::connect(&proxy.listen).await.unwrap();
    let mut buffer = [0; 16];
    let read = tokio::time::timeout(Duration::from_secs(20), silent.read(&mut buffer)).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "no handshake: {read:?}");
    eventually("all closed", || async {
        (proxy.metric("signing_proxy_connections").await == Some(0.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_connections_is_bounded_and_the_operator_is_still_answered() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .server("handshakes_max = 20")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.push(TcpStream::connect(&proxy.listen).await.unwrap());
    }
    eventually("refused connections", || async {
        let refused = proxy.metric("signing_proxy_connections_refused_total").await;
        (refused >= Some(80.0)).then_some(())
    })
    .await;
    assert!(proxy.metric("signing_proxy_connections").await <= Some(20.0));
    assert_eq!(proxy.health().await.status, 200);
    assert_eq!(proxy.admin("GET", "/v1/status", json!(null)).await.status, 200);
    drop(flood);
    eventually("room again", || async {
        let certificate = world.pki.issue(&Profile::client(ALICE));
        let protocol = system_tests::Protocol::Http1;
        let client =
            system_tests::Client::connect(&proxy.listen, &world.pki.ca_pem, &certificate, protocol)
                .await;
        (client.ok()?.sign_message("ec", b"hi").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_request_more_than_slots_is_refused_at_once_with_its_reason() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .server("requests_in_flight_max = 4\nrequests_in_flight_per_caller_max = 4")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let client = proxy.http2_client(ALICE).await;
    key.break_with(Fault::Latency(Duration::from_millis(800)));
    let asked: Vec<_> = (0..12)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.sign_message("ec", b"hi").await })
        })
        .collect();
    let mut answers = Vec::new();
    for one in asked {
        answers.push(one.await.unwrap());
    }
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(200), count(503)), (4, 8), "{answers:?}");
    let refused = answers.iter().find(|answer| answer.status == 503).unwrap();
    assert_eq!((refused.reason(), refused.header("retry-after")), ("overloaded", "1"));
    key.mend();
    assert_eq!(client.sign_message("ec", b"hi").await.status, 200);
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_keep_a_freeze_waiting() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = world.proxy().signer("ed", &key).caller(ALICE, &["ed"]).start().await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let mut stream =
        tls(&proxy.listen, &world.pki.ca_pem, Some(&certificate), b"http/1.1").await.unwrap();
    let body = r#"{"message":"aGk="}"#;
    let request = format!(
        "POST /v1/sign HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // Requests without end, and no answer read: the answers pile up in the socket.
    let writing = tokio::spawn(async move {
        while stream.write_all(request.as_bytes()).await.is_ok() {}
        stream
    });
    eventually("signatures nobody reads", || async {
        let series = "signing_proxy_requests_total{result=\"signed\",reason=\"\",signer_kid=\"ed\",mode=\"normal\"}";
        (proxy.metric(series).await >= Some(50.0)).then_some(())
    })
    .await;
    let frozen = proxy.admin("POST", "/v1/freeze", json!({"reason": "stop"})).await;
    assert_eq!(frozen.status, 200, "{frozen:?}");
    writing.abort();
}

#[tokio::test]
async fn answers_that_are_never_read_do_not_keep_their_slots() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = world
        .proxy()
        .server(
            "requests_in_flight_max = 4\nrequests_in_flight_per_caller_max = 4\n\
             write_timeout_ms = 300",
        )
        .signer("ed", &key)
        .caller(ALICE, &["ed"])
        .caller("spiffe://test/mallory", &["ed"])
        .start()
        .await;
    let certificate = world.pki.issue(&Profile::client("spiffe://test/mallory"));
    // An HTTP/2 window of nothing: the signatures cannot be sent.
    let mallory = system_tests::Client::connect_with_window(
        &proxy.listen,
        &world.pki.ca_pem,
        &certificate,
        system_tests::Protocol::Http2,
        Some(0),
    )
    .await
    .unwrap();
    let headers = [("content-type", "application/json")];
    let body = r#"{"message":"aGk="}"#;
    let asked: Vec<_> = (0..4)
        .map(|_| {
            let mallory = mallory.clone();
            tokio::spawn(async move {
                mallory.send(http::Method::POST, "/v1/sign", &headers, body).await
            })
        })
        .collect();
    eventually("every slot taken", || async {
        (proxy.metric("signing_proxy_inflight_requests").await == Some(4.0)).then_some(())
    })
    .await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("ed", b"hi").await.reason(), "overloaded");
    eventually("room again", || async {
        (alice.sign_message("ed", b"hi").await.status == 200).then_some(())
    })
    .await;
    for one in asked {
        assert!(one.await.unwrap().is_err(), "the connection of who does not read is cut");
    }
}

#[tokio::test]
async fn one_caller_does_not_take_the_connections_of_all() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .server("connections_per_caller_max = 2")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .caller("bob.example", &["ec"])
        .start()
        .await;
    let (first, second) = (proxy.client(ALICE).await, proxy.client(ALICE).await);
    assert_eq!(first.sign_message("ec", b"hi").await.status, 200);
    assert_eq!(second.sign_message("ec", b"hi").await.status, 200);
    let third = proxy.client(ALICE).await;
    let headers = [("content-type", "application/json")];
    let refused = third.send(http::Method::POST, "/v1/sign", &headers, "{}").await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(proxy.client("bob.example").await.sign_message("ec", b"hi").await.status, 200);
    drop(first);
    eventually("a place of the caller's own again", || async {
        let client = proxy.client(ALICE).await;
        client.send(http::Method::GET, "/livez", &[], "").await.ok()
    })
    .await;
}

#[tokio::test]
async fn bodies_together_take_no_more_memory_than_they_may() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .server(
            "body_max_bytes = 1000\nbodies_max_bytes = 2500\nbodies_per_caller_max_bytes = 2500\n\
             body_read_timeout_ms = 600000",
        )
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .start()
        .await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream =
            tls(&proxy.listen, &world.pki.ca_pem, Some(&certificate), b"http/1.1").await.unwrap();
        let head = "POST /v1/sign HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                    content-length: 1000\r\nexpect: 100-continue\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // Its body is being read: it has its room.
        let mut said = [0; 12];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"HTTP/1.1 100");
        stream.write_all(b"{").await.unwrap();
        slow.push(stream);
    }
    let alice = proxy.client(ALICE).await;
    let headers = [("content-type", "application/json")];
    let body = format!("{{\"message\":\"{}\"}}", "A".repeat(800));
    eventually("no room for one more", || async {
        let answer =
            alice.send(http::Method::POST, "/v1/sign", &headers, body.clone()).await.unwrap();
        (answer.reason() == "overloaded").then_some(())
    })
    .await;
    assert_eq!(alice.sign_message("ec", b"a small one").await.status, 200);
    drop(slow);
    eventually("room again", || async {
        let alice = proxy.client(ALICE).await;
        let answer =
            alice.send(http::Method::POST, "/v1/sign", &headers, body.clone()).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// What ML-DSA signs as it is has to be kept until it is signed; of what others sign, a digest is enough.
#[tokio::test]
async fn a_long_message_takes_its_room_for_as_long_as_it_is_needed() {
    let world = World::new();
    let (ml, ec) = (world.kms.key(Kind::MlDsa44), world.kms.key(Kind::P256));
    let server = "body_max_bytes = 20000\nbodies_max_bytes = 40000\nbodies_per_caller_max_bytes = 40000\n\
                  request_timeout_ms = 25000";
    let builder = world.proxy().rare_canaries().server(server).kms("call_timeout_ms = 20000");
    let builder = builder.signer("ml", &ml).signer("ec", &ec).caller(ALICE, &["ml", "ec"]);
    let proxy = builder.start().await;
    let alice = proxy.http2_client(ALICE).await;
    let ask = |kid: &'static str| {
        let alice = alice.clone();
        tokio::spawn(async move { alice.sign_message(kid, &[b'm'; 12_000]).await })
    };
    let in_flight = async |count: f64| {
        eventually("so many in flight", || async {
            let found = proxy.metric("signing_proxy_inflight_requests").await?;
            ((found - count).abs() < 0.5).then_some(())
        })
        .await;
    };
    for (key, kid, room_for) in [(&ec, "ec", 3), (&ml, "ml", 2)] {
        key.break_with(Fault::Hold);
        let mut asked = Vec::new();
        for count in 1..=room_for {
            asked.push(ask(kid));
            in_flight(f64::from(count)).await;
        }
        if kid == "ml" {
            let refused = ask(kid).await.unwrap();
            assert_eq!(refused.reason(), "overloaded", "{refused:?}");
            assert!(refused.text.contains("bodies_"), "{refused:?}");
        }
        key.mend();
        for answer in asked {
            let answer = answer.await.unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        in_flight(0.0).await;
    }
    assert_eq!(ask("ml").await.unwrap().status, 200);
}

/// An answer with a signature of ML-DSA-87 has more than twice the bytes of one with any other.
#[tokio::test]
async fn room_for_an_answer_is_kept_for_the_longest_signature_of_the_registry() {
    let world = World::new();
    let key = world.kms.key(Kind::MlDsa87);
    // The least, which has room for 16 answers with a short signature.
    let server = "answers_per_connection_max_bytes = 65536\nrequest_timeout_ms = 25000";
    let builder = world.proxy().rare_canaries().server(server).kms("call_timeout_ms = 20000");
    let proxy = builder.signer("ml", &key).caller(ALICE, &["ml"]).start().await;
    let alice = proxy.http2_client(ALICE).await;
    key.break_with(Fault::Hold);
    let ask = || {
        let alice = alice.clone();
        tokio::spawn(async move { alice.sign_message("ml", b"hi").await })
    };
    let mut asked = Vec::new();
    for count in 1..=6 {
        asked.push(ask());
        eventually("one more in flight", || async {
            let found = proxy.metric("signing_proxy_inflight_requests").await?;
            ((found - f64::from(count)).abs() < 0.5).then_some(())
        })
        .await;
    }
    let refused = ask().await.unwrap();
    assert_eq!(refused.reason(), "overloaded", "{refused:?}");
    assert!(refused.text.contains("answers_per_connection_max_bytes"), "{refused:?}");
    key.mend();
    for answer in asked {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.text.len() < 65_536 / 6, "{} bytes", answer.text.len());
    }
}

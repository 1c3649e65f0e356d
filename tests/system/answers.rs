//! Answers that are not read: their bytes are bounded (I8), and their connections end.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use system_tests::client::tls;
use system_tests::{Certificate, Kind, Operation, Profile, Proxy, ProxyBuilder, World, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use crate::ALICE;

const MALLORY: &str = "mallory.example";
const BOB: &str = "bob.example";

/// What more the load may make of the process, in KiB. Without limits it makes 4 GiB.
const GROWTH_MAX_KIB: u64 = 150 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_a_caller_that_reads_nothing_takes_a_bounded_memory_and_loses_its_connections() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let builder = world.proxy().signer("ed", &key).caller(ALICE, &["ed"]);
    // Until all have asked, none is to be cut.
    let proxy = with_registry(builder.server("write_timeout_ms = 20000"), 504).start().await;
    let alice = proxy.client(ALICE).await;
    let registry = alice.get("/v1/signers").await;
    assert!(registry.body["signers"].as_array().unwrap().len() >= 505);
    let before = proxy.process.resident_kib();
    // No signer is granted to it: its certificate is all that it has.
    let certificate = world.pki.issue(&Profile::client(MALLORY));
    let mut asking = JoinSet::new();
    for _ in 0..200 {
        let mallory = shut(&proxy, &world, &certificate, 0).await;
        for _ in 0..120 {
            let mallory = mallory.clone();
            asking.spawn(async move { mallory.get_held("/v1/signers").await });
        }
    }
    let mut statuses = BTreeMap::<_, usize>::new();
    let mut held = Vec::new();
    while let Some(answer) = asking.join_next().await {
        let answer = answer.unwrap();
        *statuses.entry(answer.as_ref().map(|answer| answer.status().as_u16())).or_default() += 1;
        held.push(answer);
    }
    let during = proxy.process.resident_kib();
    println!("{statuses:?}; resident from {before} to {during} KiB");
    assert!(during < before + GROWTH_MAX_KIB, "from {before} to {during} KiB");
    let (answered, refused) = (statuses[&Some(200)], statuses[&Some(503)]);
    assert!(answered * registry.text.len() <= 16 << 20, "{statuses:?}");
    assert_eq!(answered + refused, 200 * 120, "{statuses:?}");
    // Others have room of their own.
    assert_eq!(alice.sign_message("ed", b"hi").await.status, 200);
    assert_eq!(alice.get("/v1/signers").await.status, 200);
    eventually("only Alice is left", || async {
        let status = proxy.admin("GET", "/v1/status", Value::Null).await;
        (status.body["connections"] == 1).then_some(())
    })
    .await;
    let unread = r#"signing_proxy_connections_reset_total{reason="unread"}"#;
    assert_eq!(proxy.metric(unread).await, Some(200.0));
    drop(held);
}

#[tokio::test]
async fn each_limit_of_answers_in_flight_refuses_what_is_beyond_it_and_names_its_key() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    // So many answers of a registry of 100 KiB, and room to sign.
    let limits = |connection: u32, caller: u32, all: u32| {
        format!(
            "answers_per_connection_max_bytes = {}\nanswers_per_caller_max_bytes = {}\n\
             answers_max_bytes = {}\nwrite_timeout_ms = 600000",
            connection * 110_000,
            caller * 110_000,
            all * 110_000
        )
    };
    for (name, server, connections) in [
        ("answers_per_connection_max_bytes", limits(2, 9, 9), [MALLORY, MALLORY, BOB]),
        ("answers_per_caller_max_bytes", limits(9, 2, 9), [MALLORY, MALLORY, BOB]),
        ("answers_max_bytes", limits(9, 9, 2), [MALLORY, BOB, ALICE]),
    ] {
        let builder = world.proxy().server(&server).signer("ed", &key).caller(ALICE, &["ed"]);
        let proxy = with_registry(builder.caller(BOB, &["ed"]), 430).start().await;
        let length = proxy.client(ALICE).await.get("/v1/signers").await.text.len();
        assert!((100_000..110_000).contains(&length), "{length}");
        let mut clients = Vec::new();
        for caller in connections {
            let certificate = world.pki.issue(&Profile::client(caller));
            // Room for a refusal, and not for a registry.
            clients.push(shut(&proxy, &world, &certificate, 16 << 10).await);
        }
        let [first, second, third] = &clients[..] else { panic!() };
        let mut held = Vec::new();
        for _ in 0..2 {
            let answer = first.get_held("/v1/signers").await.unwrap();
            assert_eq!(answer.status(), 200, "{name}");
            held.push(answer);
        }
        // The limit's own client is refused, and who has another share is not.
        let (refused, served) = match name {
            "answers_per_connection_max_bytes" => (first, second),
            "answers_per_caller_max_bytes" => (second, third),
            _ => (third, third),
        };
        let (status, refusal) = refused.read("/v1/signers").await;
        assert_eq!((status, &refusal["reason"]), (503, &json!("overloaded")), "{refusal}");
        assert!(refusal["detail"].as_str().unwrap().contains(name), "{refusal}");
        if name != "answers_max_bytes" {
            assert_eq!(served.get_held("/v1/signers").await.unwrap().status(), 200, "{name}");
        }
        // What is read makes room, and what is taken back does.
        let taken_back = held.pop();
        drop(taken_back);
        for answer in held {
            answer.into_body().collect().await.unwrap();
        }
        eventually("room again", || async {
            (refused.read("/v1/signers").await.0 == 200).then_some(())
        })
        .await;
        drop(clients);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn no_signature_is_made_for_which_there_is_no_room() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let server = "answers_per_connection_max_bytes = 65536\nwrite_timeout_ms = 600000\n\
                  http2_streams_max = 1000";
    let builder = world.proxy().rare_canaries().server(server);
    let proxy = builder.signer("ed", &key).caller(ALICE, &["ed"]).start().await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let alice = shut(&proxy, &world, &certificate, 0).await;
    let body = r#"{"message":"aGk="}"#;
    let mut held = Vec::new();
    let before = key.calls(Operation::Sign);
    let refused = loop {
        let answer = alice.held(Method::POST, "/v1/sign", body).await.unwrap();
        if answer.status() != 200 {
            break answer;
        }
        held.push(answer);
    };
    let signed = held.len() as u64;
    assert_eq!(refused.status(), 503);
    assert!((10..1000).contains(&signed), "{signed}");
    assert_eq!(key.calls(Operation::Sign) - before, signed);
    drop((held, refused));
    eventually("room again", || async {
        let answer = alice.held(Method::POST, "/v1/sign", body).await?;
        (answer.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn i8_a_window_that_stays_shut_ends_the_connection_whatever_the_answer() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let builder = world.proxy().server("write_timeout_ms = 300").signer("ed", &key);
    let proxy = with_registry(builder.caller(ALICE, &["ed"]), 40).start().await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let sign = r#"{"message":"aGk="}"#;
    let verify = r#"{"message":"aGk=","signature":"aGk="}"#;
    for window in [0, 1] {
        for (method, path, body, status) in [
            (Method::POST, "/v1/sign", sign, 200),
            (Method::POST, "/v1/sign", "{}", 400),
            (Method::POST, "/v1/verify", verify, 200),
            (Method::GET, "/v1/signers", "", 200),
            (Method::GET, "/public-key?kid=ed", "", 200),
            (Method::GET, "/publicKeys/ed", "", 200),
            (Method::GET, "/health", "", 200),
            (Method::GET, "/livez", "", 200),
            (Method::GET, "/readyz", "", 200),
            (Method::GET, "/nowhere", "", 404),
        ] {
            let client = shut(&proxy, &world, &certificate, window).await;
            let answer = client.held(method, path, body).await.unwrap();
            assert_eq!(answer.status(), status, "{path}");
            eventually(&format!("{path} is cut, window {window}"), || {
                std::future::ready(client.has_ended().then_some(()))
            })
            .await;
        }
    }
    // Nor does a connection over HTTP/1.1 stay whose client does not read.
    let mut stream =
        tls(&proxy.listen, &world.pki.ca_pem, Some(&certificate), b"http/1.1").await.unwrap();
    let ask = "GET /v1/signers HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let asking = async { while stream.write_all(ask.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), asking).await.expect("it is cut");
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_its_whole_answer() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let builder = world.proxy().server("write_timeout_ms = 3000").signer("ed", &key);
    let proxy = with_registry(builder.caller(ALICE, &["ed"]), 400).start().await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    // A window of 16 KiB, opened again as often as some of it is read: it takes longer in all than
    // a client may take nothing.
    let client = shut(&proxy, &world, &certificate, 16 << 10).await;
    let mut body = client.get_held("/v1/signers").await.unwrap().into_body();
    let mut pace = tokio::time::interval(Duration::from_millis(700));
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame.unwrap().data_ref().map_or(0, Bytes::len);
        pace.tick().await;
    }
    assert_eq!(read, proxy.client(ALICE).await.get("/v1/signers").await.text.len());
    assert!(!client.has_ended());
}

#[tokio::test]
async fn a_registry_that_no_answer_can_hold_is_a_mistake() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let builder = world.proxy().server("answers_per_connection_max_bytes = 65536");
    let builder = with_registry(builder.signer("ed", &key).caller(ALICE, &["ed"]), 400);
    let output = builder.verb("check", &builder.write()).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let expected =
        "server.answers_per_connection_max_bytes: is 65536, and the answer to GET /v1/signers";
    assert!(said.contains(expected), "{said}");
}

/// Registers so many keys more, which nobody may use.
fn with_registry(builder: ProxyBuilder<'_>, count: usize) -> ProxyBuilder<'_> {
    (0..count).fold(builder, |builder, number| {
        let key = Ed25519KeyPair::generate().unwrap();
        // SubjectPublicKeyInfo of Ed25519 (RFC 8410).
        let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let der = [&prefix[..], key.public_key().as_ref()].concat();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der)
        );
        builder.registered(json!({
            "signer_kid": format!("more-{number:04}"),
            "algorithm": "ed25519",
            "public_key_pem": pem,
            "description": "one of many keys that a verifier may meet",
        }))
    })
}

/// A client over HTTP/2 that opens its windows only for what it reads.
#[derive(Clone, Debug)]
struct Shut {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

async fn shut(proxy: &Proxy<'_>, world: &World, certificate: &Certificate, window: u32) -> Shut {
    let stream = tls(&proxy.listen, &world.pki.ca_pem, Some(certificate), b"h2").await.unwrap();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .initial_connection_window_size(1 << 24)
        .initial_max_send_streams(128)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    Shut { sender, authority: proxy.listen.clone() }
}

type Held = http::Response<hyper::body::Incoming>;

impl Shut {
    /// An answer whose body is not read.
    async fn held(&self, method: Method, path: &str, body: &'static str) -> Option<Held> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.authority))
            .header("content-type", "application/json")
            .body(Full::from(body))
            .unwrap();
        self.sender.clone().send_request(request).await.ok()
    }

    /// An answer that is read to its end, whose windows it opens.
    async fn read(&self, path: &str) -> (u16, Value) {
        let answer = self.get_held(path).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn has_ended(&self) -> bool {
        self.sender.is_closed()
    }

    async fn get_held(&self, path: &str) -> Option<Held> {
        self.held(Method::GET, path, "").await
    }
}

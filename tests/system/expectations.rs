//! What can be refused by a request's head is refused before its body comes, and a client that
//! expects `100 Continue` is told to go on, over HTTP/1.1 and HTTP/2.
//!
//! Nothing here is timed. Where an answer must not wait for a body, the body never comes.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};
use system_tests::client::tls;
use system_tests::journal::python;
use system_tests::programs::system;
use system_tests::{Key, Kind, Profile, Proxy, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::ALICE;

const MALLORY: &str = "mallory.example";
const SLOW: &str = "slow.example";
const BODY: &str = r#"{"signer_kid":"ec","message":"aGk="}"#;
/// More than a body may have.
const HUGE: usize = 20_000_000;

async fn serving<'w>(world: &'w World, key: &Key) -> Proxy<'w> {
    world
        .proxy()
        // A server that waits for a body waits until the client has lost its patience.
        .server("body_read_timeout_ms = 600000\nrequest_timeout_ms = 600000")
        .signer("ec", key)
        .caller(ALICE, &["ec"])
        .caller(SLOW, &["ec"])
        .rate(SLOW, 1, 1)
        .start()
        .await
}

/// A request: who asks for what, and how; what comes.
struct Row {
    name: &'static str,
    caller: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    expected: u16,
}

/// Requests that are refused by their head.
fn refused() -> Vec<Row> {
    let json = ("content-type", "application/json".to_owned());
    let length = |bytes: usize| ("content-length", bytes.to_string());
    let row = |name, caller, path, headers, expected| Row { name, caller, path, headers, expected };
    let huge = vec![json.clone(), length(HUGE)];
    let small = vec![json, length(BODY.len())];
    let text = vec![("content-type", "text/plain".to_owned()), length(BODY.len())];
    let encoded = |coding: &str| [&small[..], &[("content-encoding", coding.to_owned())]].concat();
    let encoded = [
        row("gzip", ALICE, "/v1/sign", encoded("gzip"), 415),
        row("deflate, in another dialect", ALICE, "/sign", encoded("deflate"), 415),
        row("zstd", ALICE, "/signData", encoded("zstd"), 415),
        row("brotli, to verify", ALICE, "/v1/verify", encoded("br"), 415),
        row("in upper case", ALICE, "/verify", encoded("X-GZIP"), 415),
        row("the second of two", ALICE, "/sign/hash", encoded("identity, gzip"), 415),
        row("an unheard-of one", ALICE, "/sign/canonical", encoded("rot13"), 415),
    ];
    let others = [
        row("a body that is too large", ALICE, "/v1/sign", huge.clone(), 413),
        row("one of another dialect", ALICE, "/sign", huge.clone(), 413),
        row("one to verify", ALICE, "/v1/verify", huge, 413),
        row("of another type", ALICE, "/v1/sign", text, 415),
        row("no such path", ALICE, "/v1/sing", small.clone(), 404),
        row("another method", ALICE, "/health", small.clone(), 405),
        row("of a stranger", MALLORY, "/v1/sign", small, 403),
    ];
    encoded.into_iter().chain(others).collect()
}

/// What `tests/http2/expect.py` makes of these requests, over one connection of `caller`.
fn over_http2(world: &World, proxy: &Proxy<'_>, caller: &str, requests: &Value) -> Vec<Value> {
    let certificate = world.pki.issue(&Profile::client(caller));
    let (address, port) = proxy.listen.split_once(':').unwrap();
    let mut command = python("tests/http2/expect.py");
    command.args([address, port]);
    command.arg(world.scratch.write("expect-ca.pem", &world.pki.ca_pem));
    command.arg(world.scratch.write("expect.pem", &certificate.certificate_pem));
    command.arg(world.scratch.write("expect.key", &certificate.key_pem));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(requests.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}

const EXPECTS: (&str, &str) = ("expect", "100-continue");

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_a_body_is_asked_for_or_refused_before_it_comes() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = serving(&world, &key).await;
    for row in refused() {
        // Held back by the client, or on its way and never complete.
        let mut headers: Vec<_> =
            row.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let sends =
            json!({"path": row.path, "headers": headers, "body_bytes": 1, "unfinished": true});
        headers.push(EXPECTS);
        let waits =
            json!({"path": row.path, "headers": headers, "body_bytes": HUGE, "waits": true});
        let requests = json!([waits, sends, waits, sends]);
        let answers = over_http2(&world, &proxy, row.caller, &requests);
        for (number, answer) in answers.iter().enumerate() {
            let name = format!("{}: {answer}", row.name);
            assert_eq!(answer["statuses"], json!([row.expected]), "{name}");
            assert_eq!(answer["sent"], number % 2, "{name}");
            // NO_ERROR: the answer counts, the rest of the body is not wanted.
            assert_eq!(answer["reset"], 0, "{name}");
        }
    }
    let json = ("content-type", "application/json");
    let waits =
        json!({"path": "/v1/sign", "headers": [json, EXPECTS], "body": BODY, "waits": true});
    let sends = json!({"path": "/v1/sign", "headers": [json, EXPECTS], "body": BODY});
    let mixed = json!({"path": "/v1/sign", "headers": [json, ("expect", "100-Continue")],
                       "body": BODY, "waits": true});
    let endless = json!({"path": "/v1/sign", "headers": [json], "body_bytes": HUGE});
    let verify =
        json!({"path": "/v1/verify", "headers": [json, EXPECTS], "body": BODY, "waits": true});
    let requests = json!([waits, sends, mixed, endless, verify, waits]);
    let answers = over_http2(&world, &proxy, ALICE, &requests);
    let statuses = |number: usize| answers[number]["statuses"].clone();
    for number in [0, 2, 5] {
        assert_eq!(statuses(number), json!([100, 200]), "{answers:?}");
        assert_eq!(answers[number]["reset"], Value::Null, "{answers:?}");
    }
    // Who sends without waiting may be told to go on, or not.
    assert!([json!([200]), json!([100, 200])].contains(&statuses(1)), "{answers:?}");
    assert_eq!(statuses(3), json!([413]), "{answers:?}");
    assert!(answers[3]["sent"].as_u64().unwrap() < HUGE as u64 / 2, "{answers:?}");
    assert_eq!(statuses(4), json!([100, 400]), "a body without a signature: {answers:?}");
    // A rate is looked at before the body, too.
    let limited = over_http2(&world, &proxy, SLOW, &json!([waits, waits, waits, waits]));
    assert!(limited.iter().any(|answer| answer["statuses"] == json!([429])), "{limited:?}");
    // Many early answers are no flood.
    let huge = json!({"path": "/v1/sign", "headers": [json, ("content-length", HUGE.to_string())],
                      "body_bytes": 1, "unfinished": true});
    let mut requests = vec![huge; 200];
    requests.push(waits);
    let answers = over_http2(&world, &proxy, ALICE, &json!(requests));
    assert_eq!(answers.last().unwrap()["statuses"], json!([100, 200]), "{answers:?}");
}

async fn connected(world: &World, proxy: &Proxy<'_>, caller: &str) -> TlsStream<TcpStream> {
    let certificate = world.pki.issue(&Profile::client(caller));
    tls(&proxy.listen, &world.pki.ca_pem, Some(&certificate), b"http/1.1").await.unwrap()
}

fn head(row: &Row, more: &str) -> String {
    let headers: String =
        row.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("POST {} HTTP/1.1\r\nhost: x\r\n{headers}{more}\r\n", row.path)
}

/// Reads a whole head of an answer.
async fn answered(stream: &mut TlsStream<TcpStream>) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.unwrap_or_else(|error| {
            panic!("{error} after {:?}", String::from_utf8_lossy(&head));
        });
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http1_a_body_is_asked_for_or_refused_before_it_comes() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = serving(&world, &key).await;
    for row in refused() {
        for (expect, sent) in [("expect: 100-continue\r\n", ""), ("", ""), ("", "{")] {
            let mut stream = connected(&world, &proxy, row.caller).await;
            let bytes = format!("{}{sent}", head(&row, expect));
            stream.write_all(bytes.as_bytes()).await.unwrap();
            let answer = answered(&mut stream).await;
            let expected = format!("HTTP/1.1 {} ", row.expected);
            assert!(answer.starts_with(&expected), "{}: {answer}", row.name);
            if row.expected == 413 || !expect.is_empty() {
                assert!(answer.contains("\r\nconnection: close\r\n"), "{}: {answer}", row.name);
            }
        }
    }
    let asking = |more: &str| {
        let length = BODY.len();
        format!(
            "POST /v1/sign HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n{more}\r\n"
        )
    };
    let mut stream = connected(&world, &proxy, ALICE).await;
    for expect in ["expect: 100-continue\r\n", "Expect: 100-Continue\r\n"] {
        stream.write_all(asking(expect).as_bytes()).await.unwrap();
        assert_eq!(answered(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(BODY.as_bytes()).await.unwrap();
        let answer = answered(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let length = answer.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_only_after_a_whole_upload_still_hears_why_it_was_refused() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = serving(&world, &key).await;
    for row in refused().iter().filter(|row| row.expected == 413) {
        let mut stream = connected(&world, &proxy, row.caller).await;
        let upload = [head(row, "").as_bytes(), &vec![b' '; HUGE]].concat();
        stream.write_all(&upload).await.unwrap();
        assert!(answered(&mut stream).await.starts_with("HTTP/1.1 413 "), "{}", row.name);
    }
    // Without a length it shows only as it comes.
    let mut stream = connected(&world, &proxy, ALICE).await;
    let head = "POST /v1/sign HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                transfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..HUGE / 50_000 {
        let chunk = [b"c350\r\n", &[b' '; 50_000][..], b"\r\n"].concat();
        stream.write_all(&chunk).await.unwrap();
    }
    assert!(answered(&mut stream).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_does_not_wait_for_100_continue_and_uploads_nothing_that_is_too_large() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = serving(&world, &key).await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let body = world.scratch.write("body.json", BODY);
    let huge = world.scratch.write("huge.json", "x".repeat(HUGE));
    for protocol in ["--http1.1", "--http2"] {
        for (file, expected) in [(&body, format!("200 {}", BODY.len())), (&huge, "413 0".into())] {
            let mut curl = system("curl");
            // A second would be curl's own patience; this one is longer than the test's.
            curl.args(["--silent", "--show-error", protocol, "--expect100-timeout", "600"])
                .args(["--max-time", "60", "--output", "/dev/null"])
                .args(["--write-out", "%{http_code} %{size_upload}"])
                .args(["--header", "Expect: 100-continue"])
                .args(["--header", "Content-Type: application/json"])
                .arg("--cacert")
                .arg(world.scratch.write("ca.pem", &world.pki.ca_pem))
                .arg("--cert")
                .arg(world.scratch.write("curl.pem", &certificate.certificate_pem))
                .arg("--key")
                .arg(world.scratch.write("curl.key", &certificate.key_pem))
                .arg("--data-binary")
                .arg(format!("@{}", file.display()))
                .arg(format!(
                    "https://localhost:{}/v1/sign",
                    proxy.listen.split_once(':').unwrap().1
                ));
            let output = curl.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(said, expected, "{protocol}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

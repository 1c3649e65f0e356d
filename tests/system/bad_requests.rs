//! Bad requests: each gets its clear refusal, and none is evidence against
//! anything. One named case a row.

use http::Method;
use serde_json::json;
use system_tests::client::{raw, tls};
use system_tests::{Client, Kind, Operation, Profile, World};

use crate::ALICE;

struct Row {
    name: &'static str,
    path: &'static str,
    method: Method,
    content_type: &'static str,
    body: Vec<u8>,
    expected: (u16, &'static str),
}

/// A POST of JSON to `/v1/sign`.
fn native(name: &'static str, body: impl Into<Vec<u8>>, expected: (u16, &'static str)) -> Row {
    let body = body.into();
    Row {
        name,
        path: "/v1/sign",
        method: Method::POST,
        content_type: "application/json",
        body,
        expected,
    }
}

fn rows() -> Vec<Row> {
    let digest = |text: &str| json!({"digest": text, "digest_algorithm": "sha256"}).to_string();
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let to = |path, row: Row| Row { path, ..row };
    vec![
        native("not JSON", "hello", (400, "invalid_request")),
        native("empty", "", (400, "invalid_request")),
        native("an array", "[]", (400, "invalid_request")),
        native("trailing data", r#"{"message":"aGk="} x"#, (400, "invalid_request")),
        native("duplicate key", r#"{"message":"aGk=","message":"aGk="}"#, (400, "invalid_request")),
        native("unknown field", r#"{"message":"aGk=","mesage":"aGk="}"#, (400, "invalid_request")),
        native("deep nesting", deep.clone(), (400, "invalid_request")),
        native(
            "not UTF-8",
            [b"{\"message\":\"".to_vec(), vec![0xff], b"\"}".to_vec()].concat(),
            (400, "invalid_request"),
        ),
        native("no input", "{}", (400, "invalid_request")),
        native(
            "two inputs",
            r#"{"message":"aGk=","digest":"aGk=","digest_algorithm":"sha256"}"#,
            (400, "invalid_request"),
        ),
        native("bad base64", r#"{"message":"a!k="}"#, (400, "invalid_request")),
        native("unpadded base64", r#"{"message":"aGk"}"#, (400, "invalid_request")),
        native("URL-safe base64", r#"{"message":"-_-_"}"#, (400, "invalid_request")),
        native("base64 with a line break", "{\"message\":\"aGk=\\n\"}", (400, "invalid_request")),
        native("a number for a text", r#"{"message":7}"#, (400, "invalid_request")),
        native("digest without its algorithm", r#"{"digest":"aGk="}"#, (400, "invalid_request")),
        native(
            "digest algorithm with a message",
            r#"{"message":"aGk=","digest_algorithm":"sha256"}"#,
            (400, "invalid_request"),
        ),
        native(
            "unknown digest algorithm",
            r#"{"digest":"aGk=","digest_algorithm":"md5"}"#,
            (400, "invalid_digest"),
        ),
        native("short digest", digest("aGk="), (400, "invalid_digest")),
        native("long digest", digest(&"A".repeat(88)), (400, "invalid_digest")),
        native("empty digest", digest(""), (400, "invalid_digest")),
        native(
            "unknown format",
            r#"{"message":"aGk=","signature_format":"xml"}"#,
            (400, "invalid_request"),
        ),
        native(
            "NUL in the justification",
            r#"{"message":"aGk=","justification":"a\u0000b"}"#,
            (400, "invalid_request"),
        ),
        native(
            "line break in the justification",
            r#"{"message":"aGk=","justification":"a\nb"}"#,
            (400, "invalid_request"),
        ),
        native(
            "NUL in the signer",
            r#"{"message":"aGk=","signer_kid":"ec\u0000"}"#,
            (404, "signer_unknown"),
        ),
        native(
            "a canary",
            json!({"message": "c2lnbmluZy1wcm94eSBjYW5hcnkgdjEAZWM="}).to_string(),
            (400, "invalid_request"),
        ),
        native(
            "too large",
            format!("{{\"message\":\"{}\"}}", "A".repeat(300_000)),
            (413, "body_too_large"),
        ),
        Row {
            content_type: "text/plain",
            ..native("other content type", r#"{"message":"aGk="}"#, (415, "unsupported_media_type"))
        },
        Row {
            content_type: "",
            ..native("no content type", r#"{"message":"aGk="}"#, (415, "unsupported_media_type"))
        },
        Row { method: Method::PUT, ..native("other method", "{}", (405, "method_not_allowed")) },
        Row { method: Method::GET, ..native("a GET", "", (405, "method_not_allowed")) },
        to("/v2/sign", native("no such path", "{}", (404, "not_found"))),
        to("/v1/sign/", native("a path with a slash more", "{}", (404, "not_found"))),
        to("/v1/../v1/sign", native("a path with dots", "{}", (404, "not_found"))),
        to("/sign", native("hash: not JSON", "x", (400, "invalid_request"))),
        to(
            "/sign",
            native("hash: deep nesting", format!("{{\"hash\":{deep}}}"), (400, "invalid_request")),
        ),
        to("/sign", native("hash: no input field", r#"{"hush":"00"}"#, (400, "invalid_request"))),
        to(
            "/sign",
            native(
                "hash: two input fields",
                json!({"hash": "00".repeat(32), "payload_b64": "aGk="}).to_string(),
                (400, "invalid_request"),
            ),
        ),
        to(
            "/sign",
            native("hash: duplicate", r#"{"hash":"00","hash":"00"}"#, (400, "invalid_request")),
        ),
        to("/sign", native("hash: too short", r#"{"hash":"00ff"}"#, (400, "invalid_digest"))),
        to(
            "/sign",
            native(
                "hash: not hex",
                json!({"hash": "g".repeat(64)}).to_string(),
                (400, "invalid_digest"),
            ),
        ),
        to(
            "/v1/verify",
            native("verify: no signature", r#"{"message":"aGk="}"#, (400, "invalid_request")),
        ),
        to(
            "/v1/verify",
            native(
                "verify: bad base64",
                r#"{"message":"aGk=","signature":"!"}"#,
                (400, "invalid_request"),
            ),
        ),
        to(
            "/v1/verify",
            native(
                "verify: no such signer",
                r#"{"message":"aGk=","signature":"aGk=","signer_kid":"x"}"#,
                (404, "signer_unknown"),
            ),
        ),
    ]
}

#[tokio::test]
async fn every_bad_request_gets_its_clear_refusal() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    for http2 in [false, true] {
        for row in rows() {
            // A connection each: what is left unread of a body closes HTTP/1.1's.
            let client =
                if http2 { proxy.http2_client(ALICE).await } else { proxy.client(ALICE).await };
            let headers: &[(&str, &str)] = if row.content_type.is_empty() {
                &[]
            } else {
                &[("content-type", row.content_type)]
            };
            let answer = client.send(row.method, row.path, headers, row.body).await;
            let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", row.name));
            assert_eq!((answer.status, answer.reason()), row.expected, "{}: {answer:?}", row.name);
            assert_eq!(answer.header("content-type"), "application/problem+json", "{}", row.name);
            assert_eq!(
                answer.body["type"],
                format!("urn:signing-proxy:refusal:{}", row.expected.1)
            );
            assert_eq!(answer.body["error"], answer.body["reason"]);
            assert_eq!(answer.body["status"], row.expected.0);
            assert_eq!(answer.body["request_id"], answer.header("x-request-id"));
            assert!(!answer.body["detail"].as_str().unwrap().is_empty(), "{}", row.name);
        }
    }
    good_as_ever(&proxy.client(ALICE).await).await;
    assert_eq!(proxy.health().await.status, 200, "no bad request is evidence");
}

#[tokio::test]
async fn bad_headers_get_their_clear_refusal() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let alice = proxy.client(ALICE).await;
    let long = "x".repeat(17_000);
    for (name, header, expected) in [
        ("headers too large", ("x-filler", long.as_str()), (431, "headers_too_large")),
        ("deadline in words", ("signing-deadline-ms", "soon"), (400, "invalid_request")),
        ("deadline of zero", ("signing-deadline-ms", "0"), (400, "invalid_request")),
        ("negative deadline", ("signing-deadline-ms", "-5"), (400, "invalid_request")),
    ] {
        let headers = [("content-type", "application/json"), header];
        let body = json!({"message": "aGk="}).to_string();
        let answer = alice.send(Method::POST, "/v1/sign", &headers, body).await.unwrap();
        assert_eq!((answer.status, answer.reason()), expected, "{name}");
    }
    good_as_ever(&alice).await;
}

/// A request, as raw bytes, and what comes back first.
const RAW: &[(&str, &str, &str)] = &[
    ("not HTTP", "hello\r\n\r\n", "HTTP/1.1 400"),
    ("a NUL in a header", "POST /v1/sign HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n", "HTTP/1.1 400"),
    (
        "two content lengths",
        "POST /v1/sign HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n{}}",
        "HTTP/1.1 400",
    ),
    (
        "a content length in words",
        "POST /v1/sign HTTP/1.1\r\nhost: x\r\ncontent-length: two\r\n\r\n{}",
        "HTTP/1.1 400",
    ),
    (
        "a negative content length",
        "POST /v1/sign HTTP/1.1\r\nhost: x\r\ncontent-length: -2\r\n\r\n{}",
        "HTTP/1.1 400",
    ),
    (
        "not chunked last",
        "POST /v1/sign HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, gzip\r\n\r\n",
        "HTTP/1.1 400",
    ),
    (
        "a bad chunk",
        "POST /v1/sign HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 400",
    ),
];

#[tokio::test]
async fn what_is_no_http_is_refused_and_its_connection_closed() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    for (name, bytes, expected) in RAW {
        let mut stream =
            tls(&proxy.listen, &world.pki.ca_pem, Some(&certificate), b"http/1.1").await.unwrap();
        let answer = raw(&mut stream, bytes.as_bytes()).await.unwrap();
        assert!(answer.starts_with(expected), "{name}: {answer}");
    }
    // Far beyond the limit the connection goes; its 431 may be lost with it.
    let enormous = format!("POST /v1/sign HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(1_000_000));
    let mut stream =
        tls(&proxy.listen, &world.pki.ca_pem, Some(&certificate), b"http/1.1").await.unwrap();
    match raw(&mut stream, enormous.as_bytes()).await {
        Ok(answer) => assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}"),
        Err(closed) => assert!(!closed.contains("neither closed"), "{closed}"),
    }
    assert_eq!(proxy.health().await.status, 200);
}

#[tokio::test]
async fn nothing_can_be_smuggled_behind_a_request_with_two_lengths() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy =
        world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let smuggled = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    for lengths in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
    ] {
        let before = key.calls(Operation::Sign);
        let bytes = format!(
            "POST /v1/sign HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{lengths}\r\n\r\n\
             0\r\n\r\n{smuggled}"
        );
        let mut stream =
            tls(&proxy.listen, &world.pki.ca_pem, Some(&certificate), b"http/1.1").await.unwrap();
        let answer = raw(&mut stream, bytes.as_bytes()).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{lengths}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "one answer, then closed: {answer}");
        assert_eq!(key.calls(Operation::Sign), before, "nothing reached the upstream");
    }
}

async fn good_as_ever(client: &Client) {
    let answer = client.sign_message("ec", b"hi").await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// What begins as gzip, zstd or zlib does.
const COMPRESSED: [(&str, &[u8]); 3] = [
    ("gzip", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]),
    ("zstd", &[0x28, 0xb5, 0x2f, 0xfd, 4, 0]),
    ("deflate", &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]),
];

#[tokio::test]
async fn a_compressed_body_is_refused_with_a_sentence_that_says_to_send_it_uncompressed() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let good = json!({"message": "aGk="}).to_string();
    for client in [proxy.client(ALICE).await, proxy.http2_client(ALICE).await] {
        let asked = async |path: &str, coding: Option<&str>, body: &[u8]| {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(coding.map(|coding| ("content-encoding", coding)));
            client.send(Method::POST, path, &headers, body.to_vec()).await.unwrap()
        };
        for path in ["/v1/sign", "/sign", "/signData", "/sign/hash", "/v1/verify", "/verify"] {
            for (coding, body) in COMPRESSED {
                let said = asked(path, Some(coding), body).await;
                assert_eq!(said.reason(), "unsupported_media_type", "{path} {coding}: {said:?}");
                let detail = format!(
                    "content-encoding is \"{coding}\"; send the body uncompressed, without \
                     content-encoding"
                );
                assert_eq!(said.body["detail"], detail, "{path}");
                assert_eq!(said.headers["accept-encoding"], "identity", "{path} {coding}");
                // Without the header that says so.
                let unsaid = asked(path, None, body).await;
                assert_eq!((unsaid.status, unsaid.reason()), (400, "invalid_request"), "{path}");
                let detail = format!("the body is compressed ({coding}); send it uncompressed");
                assert_eq!(unsaid.body["detail"], detail, "{path}");
            }
        }
        for coding in ["identity", "Identity", "", " , "] {
            assert_eq!(asked("/v1/sign", Some(coding), good.as_bytes()).await.status, 200);
        }
    }
}

//! What `signctl gate` takes for a KMS that answers, and that a signing proxy at the place of KMS
//! counts as it says of itself.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::json;
use system_tests::World;

use super::{Pipeline, SIGNS, answering, assert_gate, gate, gate_json, http};

/// The URL of a server in clear that answers each path as told, until the test ends.
fn at_paths(answers: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 4096];
            let length = stream.read(&mut asked).unwrap_or(0);
            let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
            let path = asked.split(' ').nth(1).unwrap_or_default();
            let _ = stream.write_all(answers(path).as_bytes());
        }
    });
    format!("http://{address}")
}

/// A refusal as KMS gives it to who does not sign the request.
fn of_kms(status: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nx-amzn-RequestId: 8f1c\r\ncontent-length: 28\r\n\r\n\
         <UnknownOperationException/>"
    )
}

#[test]
fn of_kms_only_an_answer_of_kms_or_of_what_says_that_it_is_well_is_evidence() {
    let kms = || of_kms("404 Not Found");
    let plain = |status: &str| http(status, "");
    let ok = |ok: bool| http("200 OK", &format!("{{\"ok\": {ok}}}"));
    let type_of = r#"{"__type": "MissingAuthenticationTokenException"}"#;
    // The answer at /health, and at the endpoint itself.
    for (health, itself, code, words) in [
        (kms(), kms(), 0, "reachable, HTTP 404, as KMS refuses"),
        (plain("404 No"), kms(), 0, "reachable, HTTP 404, as KMS refuses"),
        (plain("302 Found"), kms(), 0, "as KMS refuses"),
        (http("400 Bad Request", type_of), plain("500 No"), 0, "HTTP 400, as KMS refuses"),
        (ok(true), plain("500 No"), 0, "reachable, HTTP 200"),
        (http("200 OK", "healthy"), plain("500 No"), 0, "reachable, HTTP 200"),
        (plain("404 No"), http("200 OK", "<html>"), 0, "reachable, HTTP 200"),
        (http("200 OK", SIGNS), plain("500 No"), 0, "reachable, a signing proxy, 1 signer"),
        (ok(false), kms(), 3, "(not_ok): HTTP 200, and it says that it is not ok"),
        (http("503 No", r#"{"ok": false, "reason": "frozen"}"#), kms(), 3, "(frozen): HTTP 503"),
        (http("200 OK", &SIGNS.replace("normal", "breakglass")), kms(), 3, "(breakglass)"),
        (plain("500 No"), kms(), 3, "(server_error): HTTP 500"),
        (plain("503 No"), kms(), 3, "(no_evidence): HTTP 503 is what an intermediary says"),
        (plain("404 No"), plain("500 No"), 3, "(server_error): HTTP 500"),
        (plain("404 No"), ok(false), 3, "(not_ok)"),
        (plain("404 No"), plain("404 No"), 3, "(not_kms): HTTP 404 without x-amzn-RequestId"),
        (plain("404 No"), plain("403 No"), 3, "(not_kms): HTTP 403"),
        (plain("404 No"), plain("302 Found"), 3, "(no_evidence): HTTP 302"),
        (plain("404 No"), String::new(), 3, "(not_kms): HTTP 404"),
        (String::new(), kms(), 3, "(no_answer)"),
    ] {
        let what = format!("{health:?} then {itself:?}");
        let url = at_paths(move |path| match path {
            "/health" => health.clone(),
            "/" => itself.clone(),
            other => panic!("asked for {other}"),
        });
        let (found, said) = gate(&[("KMS_ENDPOINT", &url)], &[]);
        assert!(found == code && said.contains(words), "{what}: {found}, not {words:?}: {said}");
    }
    for status in ["301 Moved", "302 Found", "407 No", "502 No", "503 No", "504 No", "599 No"] {
        let answer = answering(http(status, ""));
        let words = format!("(no_evidence): HTTP {} is what an intermediary says", &status[..3]);
        assert_gate(&[("KMS_ENDPOINT", &answer)], 3, &["UNREACHABLE", &words]);
    }
    assert_gate(&[("KMS_ENDPOINT", &answering("220 mail ready\r\n"))], 3, &["(no_answer)"]);
}

#[tokio::test]
async fn a_kms_endpoint_that_is_the_signing_proxy_is_as_well_as_the_proxy_is() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let health = format!("http://{}", proxy.metrics);
    let alone = [("REQUIRE_KMS", "true"), ("KMS_ENDPOINT", health.as_str())];
    assert_gate(&alone, 0, &["reachable, a signing proxy, 1 signer"]);
    // Over mutual TLS too, where it is named as the signing proxy as well.
    let pipeline = Pipeline::of(&world, &proxy);
    let both = [("REQUIRE_KMS", "true"), ("KMS_ENDPOINT", pipeline.url.as_str())];
    assert_gate(&pipeline.variables(&both), 0, &["KMS endpoint https://", "a signing proxy"]);
    let with_path = format!("{health}/health");
    assert_gate(&[("KMS_ENDPOINT", &with_path)], 0, &["reachable, a signing proxy, 1 signer"]);

    assert_eq!(proxy.admin("POST", "/v1/freeze", json!({"reason": "INC-4"})).await.status, 200);
    assert_gate(&alone, 3, &["KMS endpoint", "UNREACHABLE (frozen)", "signctl unfreeze"]);
    assert_gate(&[("KMS_ENDPOINT", &with_path)], 3, &["(frozen)"]);
    assert_gate(&pipeline.variables(&both), 2, &["KMS endpoint", "UNREACHABLE (frozen)"]);
    let (code, found) = gate_json(&alone);
    assert_eq!((code, &found["kms"]["reason"]), (3, &json!("frozen")));
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await.status, 200);
    proxy.healthy().await;
    assert_gate(&alone, 0, &["reachable"]);
}

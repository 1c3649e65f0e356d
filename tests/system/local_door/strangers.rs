//! Requests that a page or another host sends through a program of this machine are refused,
//! whatever proves who calls.

use serde_json::json;
use system_tests::client::local;
use system_tests::{Kind, World};

use super::{JSON, SECRET, body, sign};

/// Headers of browsers and reverse proxies, and hosts that are not this machine.
const STRANGE: [(&str, &str); 16] = [
    ("origin", "http://evil.example"),
    ("origin", "null"),
    ("origin", "http://localhost"),
    ("sec-fetch-site", "cross-site"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "no-cors"),
    ("sec-fetch-dest", "empty"),
    ("forwarded", "for=10.0.0.1"),
    ("via", "1.1 nginx"),
    ("x-forwarded-for", "10.0.0.1"),
    ("x-forwarded-host", "localhost"),
    ("x-forwarded-proto", "https"),
    ("host", "evil.example"),
    ("host", "127.0.0.1.evil.example:80"),
    ("host", "10.0.0.1"),
    ("host", ""),
];

/// What nobody may ask for as a stranger, each with its method.
const PATHS: [(&str, &str); 6] = [
    ("POST", "/v1/sign"),
    ("POST", "/sign"),
    ("POST", "/v1/verify"),
    ("GET", "/v1/signers"),
    ("GET", "/health"),
    ("OPTIONS", "/v1/sign"),
];

#[tokio::test]
async fn a_browser_and_a_neighbouring_host_are_refused_with_every_proof_and_path() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let mine = format!("uid = {}", nix::unistd::geteuid());
    let proxy = world
        .proxy()
        .rare_canaries()
        .signer("ec", &key)
        .local("127.0.0.1:0", &[("token", SECRET)])
        .local("127.0.0.1:0", &[("me", &mine)])
        .local("127.0.0.1:0", &[("anyone", "anyone = true")])
        .local("unix:door.sock", &[("me", &mine)])
        .caller("local:token", &["ec"])
        .caller("local:me", &["ec"])
        .caller("local:anyone", &["ec"])
        .start()
        .await;
    let token = ("authorization", "Bearer secret");
    for place in &proxy.local {
        assert_eq!(sign(place, &[token]).await.status, 200, "{place}");
        let calls = key.calls(system_tests::Operation::Sign);
        for strange in STRANGE {
            for (method, path) in PATHS {
                let headers = [JSON, token, strange];
                let answer = local(place, method, path, &headers, body()).await;
                let refused = (answer.status, answer.reason());
                assert_eq!(refused, (401, "unauthenticated"), "{place} {path} {strange:?}");
            }
        }
        assert_eq!(key.calls(system_tests::Operation::Sign), calls, "nothing was signed");
    }
    // They are counted, recorded and told of like every refusal.
    let of_door = r#"signing_proxy_door_requests_total{door="local",result="refused"}"#;
    let refused = 4 * 3 * STRANGE.len();
    let metrics = proxy.metrics().await;
    assert!(metrics.contains(&format!("{of_door} {refused}")), "{refused}: {metrics}");
}

#[tokio::test]
async fn where_anyone_may_ask_only_json_is_taken_which_no_page_can_send_unasked() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = world
        .proxy()
        .signer("ec", &key)
        .local("127.0.0.1:0", &[("pod", "anyone = true")])
        .local("127.0.0.1:0", &[("token", SECRET)])
        .caller("local:pod", &["ec"])
        .caller("local:token", &["ec"])
        .start()
        .await;
    let [anyone, token] = &proxy.local[..] else { panic!("{:?}", proxy.local) };
    let hash = json!({"hash": "00".repeat(32)}).to_string();
    for (kind, taken) in [
        (Some("application/json"), true),
        (Some("application/json; charset=utf-8"), true),
        (Some("text/plain"), false),
        (Some("application/x-www-form-urlencoded"), false),
        (Some("multipart/form-data; boundary=x"), false),
        (Some("text/plain; application/json"), false),
        (None, false),
    ] {
        let kind = kind.map(|kind| ("content-type", kind));
        let answer = local(anyone, "POST", "/sign", kind.as_slice(), hash.clone()).await;
        if taken {
            assert_eq!(answer.status, 200, "{kind:?}: {answer:?}");
        } else {
            let refused = (answer.status, answer.reason());
            assert_eq!(refused, (415, "unsupported_media_type"), "{kind:?}");
        }
        // With a proof, a dialect takes any type, as at the data plane.
        let proof = ("authorization", "Bearer secret");
        let headers = [kind.as_slice(), &[proof]].concat();
        let answer = local(token, "POST", "/sign", &headers, hash.clone()).await;
        assert_eq!(answer.status, 200, "{kind:?}: {answer:?}");
    }
}

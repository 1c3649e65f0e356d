//! How often a caller may ask: decided before its body is read, for it alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use system_tests::client::{raw, tls};
use system_tests::{Answer, Client, Key, Kind, Operation, Profile, Proxy, ProxyBuilder, World};

use crate::ALICE;

const BOB: &str = "bob.example";

fn builder<'w>(world: &'w World, key: &Key) -> ProxyBuilder<'w> {
    let builder = world.proxy().rare_canaries().signer("ec", key);
    builder.caller(ALICE, &["ec"]).caller(BOB, &["ec"])
}

/// Asks until it is refused, at most so often: how many were signed, and the refusal.
async fn until_refused(client: &Client, tries: usize) -> (usize, Option<Answer>) {
    for signed in 0..tries {
        let answer = client.sign_message("ec", b"hi").await;
        if answer.status != 200 {
            return (signed, Some(answer));
        }
    }
    (tries, None)
}

async fn others_are_unaffected(proxy: &Proxy<'_>) {
    assert_eq!(until_refused(&proxy.client(BOB).await, 50).await.0, 50);
    assert_eq!(proxy.health().await.status, 200);
    assert_eq!(proxy.admin("GET", "/v1/status", json!(null)).await.status, 200);
    assert!(proxy.metrics().await.contains("reason=\"caller_rate_limited\""));
}

#[tokio::test]
async fn i8_a_caller_above_its_rate_is_refused_on_all_its_connections_and_nobody_else_is() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy = builder(&world, &key).rate(ALICE, 1, 20).start().await;
    let (first, second) = (proxy.client(ALICE).await, proxy.http2_client(ALICE).await);
    let calls = key.calls(Operation::Sign);
    let (signed, refused) = until_refused(&first, 100).await;
    // As many as the burst, and one for each second that this took.
    assert!((20..40).contains(&signed), "{signed} signed");
    let refused = refused.unwrap();
    assert_eq!((refused.status, refused.reason()), (429, "caller_rate_limited"), "{refused:?}");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(second.sign_message("ec", b"hi").await.reason(), "caller_rate_limited");
    let verify = json!({"message": "aGk=", "signature": STANDARD.encode([0; 70])});
    assert_eq!(second.post("/v1/verify", &verify).await.reason(), "caller_rate_limited");
    // What costs nothing is not counted.
    assert_eq!(second.get("/v1/signers").await.status, 200);
    assert_eq!(key.calls(Operation::Sign) - calls, signed as u64, "no refusal was sent upstream");
    others_are_unaffected(&proxy).await;
    // Whoever waits as long as it was told signs again.
    system_tests::eventually("alice signs again", || async {
        (first.sign_message("ec", b"hi").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_is_above_its_rate_is_refused_before_its_body_arrives() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let proxy =
        builder(&world, &key).server("body_read_timeout_ms = 2000").rate(ALICE, 1, 1).start().await;
    let certificate = world.pki.issue(&Profile::client(ALICE));
    let mut streams = Vec::new();
    for _ in 0..10 {
        let connected = tls(&proxy.listen, &world.pki.ca_pem, Some(&certificate), b"http/1.1");
        streams.push(connected.await.unwrap());
    }
    // Heads that announce bodies, which never come.
    let answers = streams.into_iter().zip(["/v1/sign", "/v1/verify", "/sign"].iter().cycle()).map(
        |(mut stream, path)| {
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                 content-length: 100\r\n\r\n"
            );
            tokio::spawn(async move { raw(&mut stream, head.as_bytes()).await })
        },
    );
    let answers: Vec<_> = answers.collect();
    let mut refused = 0;
    for answer in answers {
        let answer = answer.await.unwrap().unwrap();
        if answer.starts_with("HTTP/1.1 408") {
            continue;
        }
        assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
        assert!(answer.contains("caller_rate_limited"), "{answer}");
        refused += 1;
    }
    // One had a place, and perhaps one more for each second that this took.
    assert!(refused >= 6, "{refused} of 10 refused without their bodies");
    others_are_unaffected(&proxy).await;
}

#[tokio::test]
async fn a_reload_changes_the_rate_and_gives_nobody_a_fresh_one() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let limited = builder(&world, &key).rate(ALICE, 1, 5).rate(BOB, 1, 5);
    let proxy = limited.start().await;
    let (alice, bob) = (proxy.client(ALICE).await, proxy.client(BOB).await);
    until_refused(&alice, 100).await.1.unwrap();
    until_refused(&bob, 100).await.1.unwrap();
    // Alice's limit goes, Bob's stays.
    let file = world.scratch.path("proxy/signing-proxy.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let rate = "requests_per_second_max = 1\nburst_max = 5\n";
    assert_eq!(text.matches(rate).count(), 2);
    std::fs::write(&file, text.replacen(rate, "", 1)).unwrap();
    assert_eq!(proxy.admin("POST", "/v1/reload", json!(null)).await.status, 200);
    assert_eq!(until_refused(&alice, 50).await.0, 50);
    assert!(until_refused(&bob, 100).await.0 < 5, "its bucket was not filled anew");
}

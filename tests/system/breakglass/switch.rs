//! The hot switch and back under full load: every answer is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use system_tests::breakglass::EMERGENCY_KID;
use system_tests::journal::check;
use system_tests::{Client, Exchange, Tail, eventually};
use tokio::task::JoinSet;

use super::{KID, Site, activated, connected, end, metric_is, qualifies, records, verifies};
use crate::ALICE;

/// What came of one request.
struct Asked {
    message: Vec<u8>,
    status: u16,
    body: Value,
}

/// How many answers of each kind there were so far.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    normal: AtomicUsize,
    breakglass: AtomicUsize,
    refused: AtomicUsize,
}

impl Seen {
    async fn at_least(&self, count: &AtomicUsize, more: usize) {
        let from = count.load(Ordering::SeqCst);
        eventually("enough answers", || {
            std::future::ready((count.load(Ordering::SeqCst) >= from + more).then_some(()))
        })
        .await;
    }
}

/// Native and dialects in turn, by number.
fn request(number: usize, message: &[u8]) -> (&'static str, Value) {
    let b64 = STANDARD.encode(message);
    match number % 4 {
        0 | 1 => ("/v1/sign", json!({"signer_kid": KID, "message": b64})),
        2 => ("/sign", json!({"payload_b64": b64, "key_id": KID})),
        _ => ("/sign", json!({"data": b64, "algorithm": "ed25519", "kid": KID})),
    }
}

async fn asks(client: Client, name: String, seen: Arc<Seen>) -> Vec<Asked> {
    let mut all = Vec::new();
    let headers = [("content-type", "application/json")];
    while !seen.stop.load(Ordering::SeqCst) {
        let message = format!("{name} {}", all.len()).into_bytes();
        let (path, body) = request(all.len(), &message);
        // A connection that is dropped fails the test here.
        let answer = client.send(Method::POST, path, &headers, body.to_string()).await.unwrap();
        let count = match (answer.status, answer.body["mode"].as_str()) {
            (200, Some("breakglass")) => &seen.breakglass,
            (200, _) => &seen.normal,
            _ => &seen.refused,
        };
        count.fetch_add(1, Ordering::SeqCst);
        all.push(Asked { message, status: answer.status, body: answer.body });
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_the_switch_and_back_drop_nothing_and_name_the_key_that_signed() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    let (seen, mut load) = (Arc::new(Seen::default()), JoinSet::new());
    for number in 0..4 {
        let client = proxy.client(ALICE).await;
        load.spawn(asks(client, format!("one {number}"), Arc::clone(&seen)));
        let client = proxy.http2_client(ALICE).await;
        for stream in 0..4 {
            let name = format!("two {number} {stream}");
            load.spawn(asks(client.clone(), name, Arc::clone(&seen)));
        }
    }
    seen.at_least(&seen.normal, 200).await;
    site.key.break_with(system_tests::Fault::Bare503);
    seen.at_least(&seen.refused, 200).await;
    qualifies(&proxy).await;
    let mut request = signer.request();
    request["max_signatures"] = json!(100_000);
    let session = activated(&signer, &proxy, &request).await;
    seen.at_least(&seen.breakglass, 400).await;
    // The upstream is back: that is said, and switches nothing.
    site.key.mend();
    metric_is(&proxy, "breakglass_upstream_recovered", 1.0).await;
    proxy.process.says("the upstream is back").await;
    seen.at_least(&seen.breakglass, 200).await;
    assert_eq!(end(&proxy).await.status, 200);
    seen.at_least(&seen.normal, 200).await;
    seen.stop.store(true, Ordering::SeqCst);
    let all: Vec<Vec<Asked>> = load.join_all().await;

    let keys = site.public_keys(&signer.builder);
    let (mut of_proxy, mut of_signer) = (Vec::new(), 0);
    for asked in &all {
        let mut phase = 0;
        for Asked { message, status, body } in asked {
            let mode = body["mode"].as_str().unwrap_or_default();
            match (status, mode) {
                (200, "normal") => {
                    assert!(phase == 0 || phase >= 2, "before the switch only, and after: {body}");
                    phase = if phase == 0 { 0 } else { 3 };
                }
                (200, "breakglass") => {
                    assert!(phase <= 2, "after the session: {body}");
                    phase = 2;
                    of_signer += 1;
                }
                _ => {
                    let reason = body["reason"].as_str().unwrap();
                    // A loaded machine is late at any time, and that says nothing of the mode.
                    if ["deadline_exceeded", "indeterminate"].contains(&reason) {
                        continue;
                    }
                    // Once switched, only what was in flight at the switch back is withheld.
                    if phase == 2 {
                        assert_eq!(reason, "gate_closed_in_flight", "{body}");
                    } else {
                        assert!(phase < 2, "after the session: {body}");
                        phase = 1;
                    }
                    continue;
                }
            }
            let one_of = |names: [&str; 2]| {
                names.into_iter().find_map(|name| body[name].as_str()).unwrap().to_owned()
            };
            let kid = one_of(["signer_kid", "signer_id"]);
            let signature = one_of(["signature", "signature_b64"]);
            let signature = STANDARD.decode(signature).unwrap();
            assert_eq!(kid, if mode == "normal" { KID } else { EMERGENCY_KID }, "{body}");
            assert!(verifies(&keys, &kid, message, &signature), "another key: {body}");
            if !body["audit"].is_object() {
                continue;
            }
            if mode == "breakglass" {
                assert_eq!(body["breakglass"]["session"], session["session"], "{body}");
                assert_eq!(body["breakglass"]["incident"], "INC-7", "{body}");
                assert!(body["breakglass"]["expires_at"].is_string(), "{body}");
            } else {
                assert!(body["breakglass"].is_null(), "{body}");
            }
            of_proxy.push(Exchange::Signed(json!({
                "request_id": body["request_id"], "signer_kid": kid, "algorithm": body["algorithm"],
                "message_b64": STANDARD.encode(message), "signature_b64": body["signature"],
                "receipt": body["audit"],
            })));
        }
        assert!(phase == 3, "it ended in phase {phase}");
    }
    // Every receipt is in the proxy's journal, and what it says of the signer's in the signer's.
    let dir = site.world.scratch.path("proxy/journal");
    let registry = site.world.scratch.path("proxy/signers.json");
    proxy.stop().await;
    check(&dir, &registry, &of_proxy, Tail::Whole).unwrap();
    let builder = signer.builder.clone();
    signer.stop().await;
    let found = check(&builder.journal(), &builder.path("signers.json"), &[], Tail::Whole).unwrap();
    let emergency = system_tests::journal::read(&builder.journal(), "emergency_signed");
    assert_eq!(found["types"]["emergency_signed"], emergency.len());
    let place = |record: &Value| format!("{}:{}", record["seq"], record["leaf"].as_str().unwrap());
    let places: std::collections::HashMap<_, _> =
        emergency.iter().map(|record| (place(record), record)).collect();
    let signed = records(&dir, "signed");
    let named: Vec<_> = signed.iter().filter(|data| data["mode"] == "breakglass").collect();
    assert!(named.len() >= of_signer, "{} recorded, {of_signer} received", named.len());
    for data in named {
        let head = data["signer_record"].as_str().unwrap();
        let (_, head) = head.split_once(':').unwrap();
        let record = places.get(head).unwrap_or_else(|| panic!("{head} is not the signer's"));
        assert!(record.to_string().contains(data["signature"].as_str().unwrap()), "{record}");
        if data["replayed"] == false {
            assert_eq!(data["upstream"], "breakglass-signer", "{data}");
            assert!(
                data["attempt"].as_str().is_some_and(|attempt| attempt.ends_with("-1")),
                "{data}"
            );
        }
        assert_eq!((data.get("region"), data.get("upstream_request_id")), (None, None), "{data}");
    }
}

#[tokio::test]
async fn a_replay_never_crosses_a_mode() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    let alice = proxy.client(ALICE).await;
    let sign = async || {
        let headers = [("content-type", "application/json"), ("idempotency-key", "order-1")];
        let body = json!({"signer_kid": KID, "message": "aGk="}).to_string();
        alice.send(Method::POST, "/v1/sign", &headers, body).await.unwrap()
    };
    let normal = sign().await;
    assert_eq!(normal.body["mode"], "normal", "{}", normal.text);
    site.out(&proxy).await;
    connected(&proxy).await;
    activated(&signer, &proxy, &signer.request()).await;
    let first = sign().await;
    assert_eq!(first.body["mode"], "breakglass", "{}", first.text);
    assert_eq!(first.body["signer_kid"], EMERGENCY_KID);
    let again = sign().await;
    assert_eq!(again.signature(), first.signature());
    let made = system_tests::journal::read(&signer.builder.journal(), "emergency_signed");
    assert_eq!(made.len(), 1, "the second was not asked for again");
    // Both records name the one that the signer made.
    let signed = records(&site.world.scratch.path("proxy/journal"), "signed");
    let heads: Vec<_> = signed
        .iter()
        .filter(|data| data["mode"] == "breakglass")
        .map(|data| data["signer_record"].as_str().unwrap())
        .collect();
    assert_eq!((heads.len(), heads.first()), (2, heads.last()), "{signed:?}");
    site.key.mend();
    metric_is(&proxy, "breakglass_upstream_recovered", 1.0).await;
    assert_eq!(end(&proxy).await.status, 200);
    let back = sign().await;
    assert_eq!((back.body["mode"].as_str(), back.status), (Some("normal"), 200), "{}", back.text);
    assert_eq!(back.body["signer_kid"], KID);
}

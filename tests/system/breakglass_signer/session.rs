//! A session from its activation to its end: what it signs, for whom, how often, how long.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use system_tests::breakglass::{CALLER, EMERGENCY_KID, Signer, Wire, proxy_head, sign};
use system_tests::journal::check;
use system_tests::{Exchange, Tail, openssl};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::{KID, Site};

/// What the independent checker wants of a signature that was received.
pub(super) fn received(ask: &Value, answer: &Value) -> Exchange {
    let (ask, answer) = (&ask["sign"], &answer["signed"]);
    assert!(answer.is_object(), "{answer}");
    let mut receipt = answer["record"].clone();
    receipt["log"] = json!(format!("signing-journal/{}", receipt["log"].as_str().unwrap()));
    let mut got = json!({
        "request_id": ask["request_id"], "signer_kid": EMERGENCY_KID, "algorithm": ask["algorithm"],
        "signature_b64": answer["signature"], "receipt": receipt,
    });
    match ask["input"]["message"].as_str() {
        Some(message) => got["message_b64"] = json!(message),
        None => {
            let digest = STANDARD.decode(ask["input"]["digest"].as_str().unwrap()).unwrap();
            got["digest_hex"] = json!(hex::encode(digest));
        }
    }
    Exchange::Signed(got)
}

/// Has the checker look at the signer's journal, and at what was received.
pub(super) fn checked(signer: &Signer<'_>, exchanges: &[Exchange], tail: Tail) -> Value {
    checked_in(&signer.builder, exchanges, tail)
}

pub(super) fn checked_in(
    builder: &system_tests::breakglass::SignerBuilder<'_>,
    exchanges: &[Exchange],
    tail: Tail,
) -> Value {
    check(&builder.journal(), &builder.path("signers.json"), exchanges, tail)
        .unwrap_or_else(|defect| panic!("{defect}"))
}

/// Waits for the notice that the session is over.
pub(super) async fn session_ended(proxy: &mut Wire) -> Value {
    loop {
        let answer = proxy.next().await.unwrap();
        if answer["session_ended"].is_object() {
            return answer["session_ended"].clone();
        }
    }
}

pub(super) fn in_seconds(seconds: i64) -> String {
    (OffsetDateTime::now_utc() + Duration::seconds(seconds)).format(&Rfc3339).unwrap()
}

fn reason(answer: &Value) -> &str {
    answer["refused"]["reason"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test]
async fn i6_a_session_signs_and_every_signature_is_in_the_journal() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let session = signer.activated(&mut proxy, &signer.request()).await;
    let public_key = std::fs::read_to_string(signer.builder.path("public.pem")).unwrap();
    let mut got = Vec::new();
    for number in 0..20 {
        let message = format!("message {number}");
        let mut ask = sign(&session, KID, message.as_bytes());
        ask["sign"]["justification"] = json!("payroll \u{1f4b6} \"now\"\n");
        let answer = proxy.ask(ask.clone()).await;
        let signature = STANDARD.decode(answer["signed"]["signature"].as_str().unwrap()).unwrap();
        let mut key = site.key.clone();
        key.public_key_pem.clone_from(&public_key);
        assert!(openssl::verifies(&key, message.as_bytes(), &signature), "{answer}");
        assert_eq!(answer["signed"]["remaining"], 999 - number);
        got.push(received(&ask, &answer));
    }
    let ended = proxy.ask(json!({"end": {"reason": "KMS is back", "by": "uid 0"}})).await;
    assert_eq!(ended["ended"]["session"], session, "{ended}");
    assert_eq!(reason(&proxy.sign(&session, KID, b"late").await), "no_session");
    signer.process.signal(Signal::SIGTERM);
    let Signer { builder, mut process, .. } = signer;
    assert!(process.ended().await.success(), "{}", process.output());
    let found = checked_in(&builder, &got, Tail::Whole);
    assert_eq!(found["types"]["emergency_signed"], 20, "{found}");
    assert_eq!(
        (&found["types"]["session_activated"], &found["types"]["session_ended"]),
        (&json!(1), &json!(1))
    );
    // Ours says so too.
    let mut verify = std::process::Command::new(system_tests::programs::ours("signctl"));
    verify.args(["audit", "verify", "--json", "--journal"]).arg(builder.journal());
    let verified = verify.arg("--signers").arg(builder.path("signers.json")).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[tokio::test]
async fn a_p256_key_signs_digests() {
    let site = Site::new();
    let signer = site.signer().p256().start().await;
    let mut proxy = signer.connect().await;
    let session = signer.activated(&mut proxy, &signer.request()).await;
    let digest = aws_lc_digest(b"hello");
    let ask = json!({"sign": {
        "session": session, "caller": CALLER, "request_id": "r-1", "signer_kid": KID,
        "algorithm": "ECDSA_SHA_256", "input": {"digest": STANDARD.encode(digest)},
        "proxy_head": proxy_head(),
    }});
    let answer = proxy.ask(ask.clone()).await;
    checked(&signer, &[received(&ask, &answer)], Tail::Whole);
    let ed25519 = proxy.sign(&session, KID, b"hello").await;
    assert_eq!(reason(&ed25519), "out_of_scope", "{ed25519}");
}

/// Its journal is checked by a checker that shares no code with us (Python, OpenSSL).
#[tokio::test]
async fn an_rsa_key_signs_with_both_paddings_and_three_hashes() {
    let site = Site::new();
    let signer = site.signer().rsa(3072).start().await;
    let mut proxy = signer.connect().await;
    let session = signer.activated(&mut proxy, &signer.request()).await;
    let mut got = Vec::new();
    for padding in ["RSASSA_PKCS1_V1_5", "RSASSA_PSS"] {
        for (bits, length) in [("256", 32), ("384", 48), ("512", 64)] {
            let ask = json!({"sign": {
                "session": session, "caller": CALLER, "request_id": "r-1", "signer_kid": KID,
                "algorithm": format!("{padding}_SHA_{bits}"),
                "input": {"digest": STANDARD.encode(vec![7; length])},
                "proxy_head": proxy_head(),
            }});
            let answer = proxy.ask(ask.clone()).await;
            got.push(received(&ask, &answer));
        }
    }
    checked(&signer, &got, Tail::Whole);
    let ed25519 = proxy.sign(&session, KID, b"hello").await;
    assert_eq!(reason(&ed25519), "out_of_scope", "{ed25519}");
    let detail = ed25519["refused"]["detail"].as_str().unwrap();
    assert!(detail.contains("RSASSA_PSS_SHA_512"), "{detail}");
}

fn aws_lc_digest(message: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message).as_ref().to_vec()
}

#[tokio::test]
async fn i12_what_is_out_of_scope_is_refused_counted_and_recorded() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    assert_eq!(reason(&proxy.sign("none", KID, b"x").await), "no_session");
    let session = signer.activated(&mut proxy, &signer.request()).await;
    let good = sign(&session, KID, b"hello");
    let changed = |key: &str, value: Value| {
        let mut ask = good.clone();
        ask["sign"][key] = value;
        ask
    };
    let canary = [&b"signing-proxy canary v1\0emergency"[..], &[7; 48]].concat();
    for (ask, expected) in [
        (changed("caller", json!("spiffe://test/mallory")), "out_of_scope"),
        (changed("caller", json!("not a caller")), "invalid"),
        (changed("signer_kid", json!("other")), "out_of_scope"),
        (changed("algorithm", json!("ECDSA_SHA_256")), "out_of_scope"),
        (changed("algorithm", json!("none")), "out_of_scope"),
        (changed("session", json!("another")), "no_session"),
        (changed("input", json!({"message": STANDARD.encode(canary)})), "input_refused"),
        (changed("input", json!({"message": ""})), "input_refused"),
        (changed("input", json!({"message": "no base64!"})), "input_refused"),
        (changed("request_id", json!("")), "invalid"),
        (changed("proxy_head", json!({"log": "x", "size": 1, "root": "y"})), "invalid"),
    ] {
        let answer = proxy.ask(ask.clone()).await;
        assert_eq!(reason(&answer), expected, "{ask} {answer}");
        assert!(answer["refused"]["detail"].as_str().unwrap().len() > 10);
    }
    // Another connection of the same proxy is not the one that activated it.
    let mut other = signer.connect().await;
    assert_eq!(reason(&other.sign(&session, KID, b"x").await), "no_session");
    assert!(proxy.sign(&session, KID, b"x").await["signed"].is_object());
    proxy.ask(json!({"end": {"reason": "over", "by": "uid 0"}})).await;
    // Once it is over another one begins: what was refused in between was of neither.
    assert_eq!(reason(&proxy.sign(&session, KID, b"x").await), "no_session");
    let mut request = signer.request();
    request["id"] = json!("INC-8");
    let next = signer.activated(&mut proxy, &request).await;
    assert_eq!(reason(&proxy.sign(&session, KID, b"x").await), "no_session");
    proxy.ask(json!({"end": {"reason": "over", "by": "uid 0"}})).await;
    checked(&signer, &[], Tail::Whole);
    let mut counted = std::collections::BTreeMap::<String, u64>::new();
    for data in refusals(&signer) {
        let of = data["session"].as_str().unwrap_or("none").to_owned();
        assert_eq!(data["incident"].is_string(), of != "none", "{data}");
        let counts = data["refused"].as_array().unwrap().iter();
        *counted.entry(of).or_default() +=
            counts.map(|one| one["count"].as_u64().unwrap()).sum::<u64>();
    }
    // One before and one between them; those of the list and one of another connection.
    let expected = [("none".to_owned(), 2), (session, 12), (next, 1)];
    assert_eq!(counted, expected.into());
}

/// The data of each record of refusals.
fn refusals(signer: &Signer<'_>) -> Vec<Value> {
    let mut tail = std::process::Command::new(system_tests::programs::ours("signctl"));
    tail.args(["audit", "tail", "--json", "--type", "emergency_refusals", "--journal"]);
    let said = tail.arg(signer.builder.journal()).output().unwrap().stdout;
    let records = serde_json::Deserializer::from_slice(&said).into_iter::<Value>();
    let data = records.map(|record| {
        let record = record.unwrap();
        record.pointer("/record/data").or_else(|| record.get("data")).unwrap().clone()
    });
    data.collect()
}

#[tokio::test]
async fn i12_a_session_ends_with_its_quota_and_its_last_signature_is_given_out() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let mut request = signer.request();
    request["max_signatures"] = json!(5);
    let session = signer.activated(&mut proxy, &request).await;
    let asks: Vec<_> = (0..8).map(|n| sign(&session, KID, format!("m{n}").as_bytes())).collect();
    for ask in &asks {
        proxy.send(ask.clone()).await;
    }
    let (mut got, mut refused, mut notice) = (Vec::new(), 0, None);
    while got.len() + refused < 8 || notice.is_none() {
        let answer = proxy.next().await.unwrap();
        if answer["signed"].is_object() {
            got.push(received(&asks[got.len()], &answer));
        } else if answer["session_ended"].is_object() {
            notice = Some(answer["session_ended"].clone());
        } else {
            assert!(["no_session", "quota_exhausted"].contains(&reason(&answer)), "{answer}");
            refused += 1;
        }
    }
    let notice = notice.unwrap();
    assert_eq!((got.len(), refused), (5, 3));
    assert_eq!(
        (&notice["reason"], &notice["signatures"]),
        (&json!("quota_exhausted"), &json!(5)),
        "{notice}"
    );
    assert!(notice["record"].is_object() && notice["destruction_due"].is_string());
    checked(&signer, &got, Tail::Whole);
}

#[tokio::test]
async fn i12_a_session_ends_with_its_time() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let mut request = signer.request();
    request["expires_at"] = json!(in_seconds(3));
    let session = signer.activated(&mut proxy, &request).await;
    assert!(proxy.sign(&session, KID, b"in time").await["signed"].is_object());
    let notice = session_ended(&mut proxy).await;
    assert_eq!(notice["reason"], "expired", "{notice}");
    assert_eq!(reason(&proxy.sign(&session, KID, b"late").await), "no_session");
    checked(&signer, &[], Tail::Whole);
}

#[tokio::test]
async fn i12_a_session_ends_with_the_connection_that_activated_it() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    signer.activated(&mut proxy, &signer.request()).await;
    let mut other = signer.connect().await;
    let status = other.ask(json!({"status": {}})).await;
    assert_eq!(status["status"]["state"]["keys"][0]["state"], "open", "{status}");
    drop(proxy);
    let state = system_tests::eventually("the session is over", || {
        let asking = signer.connect();
        async {
            let mut proxy = asking.await;
            let status = proxy.ask(json!({"status": {}})).await;
            let state = status["status"]["state"].clone();
            state["session"].is_null().then_some(state)
        }
    })
    .await;
    assert_eq!(state["keys"][0]["state"], "sealed", "{state}");
    assert!(state["keys"][0]["destruction_due"].is_string(), "{state}");
    checked(&signer, &[], Tail::Whole);
}

#[tokio::test]
async fn i12_nothing_is_armed_after_a_restart_and_the_request_is_used_up() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let request = signer.request();
    let session = signer.activated(&mut proxy, &request).await;
    let ask = sign(&session, KID, b"hello");
    let got = received(&ask, &proxy.ask(ask.clone()).await);
    signer.process.signal(Signal::SIGKILL);
    let Signer { builder, mut process, .. } = signer;
    assert!(!process.ended().await.success());
    checked_in(&builder, std::slice::from_ref(&got), Tail::MayBeTorn);
    let signer = builder.start().await;
    let mut proxy = signer.connect().await;
    assert_eq!(reason(&proxy.sign(&session, KID, b"hello").await), "no_session");
    signer.unlock().await;
    let again = proxy.ask(signer.activation(&request)).await;
    assert_eq!(reason(&again), "nonce_used", "{again}");
    let found = checked(&signer, &[got], Tail::Whole);
    assert_eq!(found["types"]["session_ended"], 1, "{found}");
    // A key may serve another session until it is destroyed.
    let session = signer.activated(&mut proxy, &signer.request()).await;
    assert!(proxy.sign(&session, KID, b"hello").await["signed"].is_object());
}

#[tokio::test]
async fn a_rate_is_a_limit_and_no_end() {
    let site = Site::new();
    let signer = site.signer().caps("signatures_per_second_max = 5").start().await;
    let mut proxy = signer.connect().await;
    let session = signer.activated(&mut proxy, &signer.request()).await;
    let sent = std::time::Instant::now();
    for number in 0..40 {
        proxy.send(sign(&session, KID, format!("m{number}").as_bytes())).await;
    }
    let (mut signed, mut limited) = (0, 0);
    for _ in 0..40 {
        let answer = proxy.next().await.unwrap();
        if answer["signed"].is_object() {
            signed += 1;
        } else {
            assert_eq!(reason(&answer), "rate_limited", "{answer}");
            limited += 1;
        }
    }
    assert!(signed >= 5 && limited > 0, "{signed} signed, {limited} refused");
    // Five for each second that began meanwhile: no second has more, wherever it begins.
    let seconds = sent.elapsed().as_secs() + 1;
    assert!(signed <= 5 * seconds, "{signed} signed in {seconds} s");
    let began = std::time::Instant::now();
    while proxy.sign(&session, KID, b"again").await["signed"].is_null() {
        assert!(began.elapsed().as_secs() < 30, "it does not sign again");
    }
}

#[tokio::test]
async fn a_destroyed_key_is_refused_for_ever() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let copy = std::fs::read(signer.builder.path("emergency.pem")).unwrap();
    let destroy = json!({"destroy": {"emergency_kid": EMERGENCY_KID, "reason": "after INC-7", "by": "uid 0"}});
    signer.activated(&mut proxy, &signer.request()).await;
    let in_use = proxy.ask(destroy.clone()).await;
    assert_eq!(reason(&in_use), "out_of_scope", "{in_use}");
    proxy.ask(json!({"end": {"reason": "over", "by": "uid 0"}})).await;
    let destroyed = proxy.ask(destroy).await;
    assert_eq!(destroyed["destroyed"]["overwritten"], true, "{destroyed}");
    assert!(!signer.builder.path("emergency.pem").exists());
    let builder = signer.builder.clone();
    signer.stop().await;
    // Whoever kept a copy and puts it back finds it refused, also after a restart.
    std::fs::write(builder.path("emergency.pem"), copy).unwrap();
    let signer = builder.start().await;
    let mut proxy = signer.connect().await;
    signer.unlock().await;
    let answer = proxy.ask(signer.activation(&signer.request())).await;
    assert_eq!(reason(&answer), "key_destroyed", "{answer}");
    let status = proxy.ask(json!({"status": {}})).await;
    assert_eq!(status["status"]["state"]["keys"][0]["state"], "destroyed");
    checked(&signer, &[], Tail::Whole);
}

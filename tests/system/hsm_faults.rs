//! What goes wrong with a token and its worker: each fault takes effect, releases nothing
//! that was not verified, and is over without a restart of the proxy.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use system_tests::softhsm::{is_stopped, signal, workers_of};
use system_tests::{Answer, Client, Key, Kind, Proxy, SoftHsm, World, eventually, openssl};

use crate::ALICE;

const LINES: &str = "threads = 2\ncall_timeout_ms = 400";

/// Many failures do not shut the gate, so that each call meets the fault itself.
fn builder<'w>(world: &'w World, hsm: &SoftHsm, key: &Key) -> system_tests::ProxyBuilder<'w> {
    world.proxy().rare_canaries().token("ec", hsm, key, LINES).caller(ALICE, &["ec"])
}

/// Starts it, and waits until no canary is on its way that could meet a fault first.
async fn start<'w>(world: &'w World, hsm: &SoftHsm, key: &Key) -> Proxy<'w> {
    let proxy = builder(world, hsm, key).start().await;
    let series = r#"kms_sign_latency_count{upstream="pkcs11",region="payments",outcome="signed"}"#;
    let (mut newest, mut unchanged) = (0.0, 0);
    for _ in 0..500 {
        let signed = proxy.metric(series).await.unwrap_or_default();
        unchanged = if signed > newest { 0 } else { unchanged + 1 };
        newest = signed;
        if unchanged == 100 {
            return proxy;
        }
    }
    panic!("canaries never paused");
}

/// Asks so often at once.
async fn ask_at_once(alice: &Client, count: usize) -> Vec<Answer> {
    let asked: Vec<_> = (0..count)
        .map(|_| {
            let alice = alice.clone();
            tokio::spawn(async move { alice.sign_message("ec", b"hi").await })
        })
        .collect();
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(asked.await.unwrap());
    }
    answers
}

/// Every answer is a signature that openssl verifies, or a refusal without one.
fn nothing_unverified(key: &Key, answers: &[Answer]) {
    for answer in answers {
        if answer.status == 200 {
            assert!(openssl::verifies(key, b"hi", &answer.signature()), "{answer:?}");
        } else {
            let said = (answer.status, answer.reason());
            let known = [
                (504, "indeterminate"),
                (503, "upstream_unhealthy"),
                (503, "gate_closed_in_flight"),
                (503, "key_unavailable"),
            ];
            assert!(known.contains(&said), "{answer:?}");
            assert!(answer.body.get("signature").is_none());
        }
    }
}

fn count(answers: &[Answer], reason: &str) -> usize {
    answers.iter().filter(|answer| answer.reason() == reason).count()
}

fn reasons(answers: &[Answer]) -> Vec<&str> {
    answers.iter().map(Answer::reason).collect()
}

/// Signs again, by another worker than `before`.
async fn recovers(proxy: &Proxy<'_>, alice: &Client, key: &Key, before: &[u32]) {
    let answer = eventually("a signature again", || async {
        let answer = alice.sign_message("ec", b"hi").await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert!(openssl::verifies(key, b"hi", &answer.signature()));
    let after = workers_of(proxy.process.pid());
    assert!(after.len() == 1 && after != before, "{before:?}, then {after:?}");
    proxy.healthy().await;
}

#[tokio::test]
async fn i10_a_call_that_hangs_is_killed_at_its_deadline_and_only_what_was_sent_is_in_doubt() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    let proxy = start(&world, &hsm, &key).await;
    let alice = proxy.http2_client(ALICE).await;
    let before = workers_of(proxy.process.pid());
    hsm.order("hang");
    let began = Instant::now();
    let answers = ask_at_once(&alice, 40).await;
    let took = began.elapsed();
    hsm.mend();
    assert!(hsm.said("hang") >= 1);
    assert!(took >= Duration::from_millis(400), "cut after {took:?}");
    nothing_unverified(&key, &answers);
    // Four calls ahead for each of two threads: requests in flight are bounded.
    let in_doubt = count(&answers, "indeterminate");
    assert!((1..=8).contains(&in_doubt), "{in_doubt} in doubt");
    assert_eq!(in_doubt + count(&answers, "upstream_unhealthy"), 40);
    recovers(&proxy, &alice, &key, &before).await;
    proxy.process.says("did not answer within 400 ms; the worker was killed").await;
}

#[tokio::test]
async fn a_worker_that_is_stopped_is_killed_and_started_anew() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    let proxy = start(&world, &hsm, &key).await;
    let alice = proxy.http2_client(ALICE).await;
    let before = workers_of(proxy.process.pid());
    signal(before[0], Signal::SIGSTOP);
    eventually("the worker to stop", || std::future::ready(is_stopped(before[0]).then_some(())))
        .await;
    let answers = ask_at_once(&alice, 4).await;
    assert_eq!(count(&answers, "indeterminate"), 4, "{answers:?}");
    recovers(&proxy, &alice, &key, &before).await;
}

#[tokio::test]
async fn a_worker_that_is_killed_is_started_anew() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    let proxy = start(&world, &hsm, &key).await;
    let alice = proxy.http2_client(ALICE).await;
    for _ in 0..2 {
        let before = workers_of(proxy.process.pid());
        signal(before[0], Signal::SIGKILL);
        recovers(&proxy, &alice, &key, &before).await;
    }
    assert_eq!(hsm.said("C_Login"), 3, "one login for each worker");
}

#[tokio::test]
async fn i10_a_crash_in_the_middle_of_a_batch_leaves_nothing_unverified() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    let proxy = start(&world, &hsm, &key).await;
    let alice = proxy.http2_client(ALICE).await;
    for _ in 0..3 {
        let before = workers_of(proxy.process.pid());
        let crashes = hsm.said("crash");
        hsm.order("once crash");
        let answers = ask_at_once(&alice, 40).await;
        nothing_unverified(&key, &answers);
        assert_eq!(hsm.said("crash"), crashes + 1);
        let in_doubt = count(&answers, "indeterminate");
        assert!((1..=8).contains(&in_doubt), "{in_doubt} in doubt: {:?}", reasons(&answers));
        recovers(&proxy, &alice, &key, &before).await;
    }
}

#[tokio::test]
async fn i10_a_lost_session_certainly_signed_nothing_and_the_library_is_started_anew() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    let proxy = start(&world, &hsm, &key).await;
    let alice = proxy.http2_client(ALICE).await;
    // CKR_SESSION_HANDLE_INVALID, CKR_USER_NOT_LOGGED_IN, CKR_TOKEN_NOT_PRESENT.
    for code in ["b3", "101", "e0"] {
        let before = workers_of(proxy.process.pid());
        hsm.order(&format!("once sign={code}"));
        let answers = ask_at_once(&alice, 12).await;
        nothing_unverified(&key, &answers);
        assert_eq!(count(&answers, "indeterminate"), 0, "{answers:?}");
        assert!(count(&answers, "upstream_unhealthy") >= 1, "{answers:?}");
        recovers(&proxy, &alice, &key, &before).await;
    }
    // CKR_DEVICE_REMOVED, CKR_DEVICE_ERROR: in the middle of the call.
    for code in ["32", "30"] {
        let before = workers_of(proxy.process.pid());
        hsm.order(&format!("once sign={code}"));
        let answer = alice.sign_message("ec", b"hi").await;
        assert_eq!((answer.status, answer.reason()), (504, "indeterminate"), "{answer:?}");
        recovers(&proxy, &alice, &key, &before).await;
    }
    assert_eq!(hsm.said("sign"), 5);
}

#[tokio::test]
async fn a_refused_call_leaves_the_worker_alone() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    let proxy = start(&world, &hsm, &key).await;
    let alice = proxy.client(ALICE).await;
    let before = workers_of(proxy.process.pid());
    // CKR_DATA_LEN_RANGE, CKR_FUNCTION_FAILED.
    for (code, status) in [("21", 503), ("6", 504)] {
        hsm.order(&format!("once sign={code}"));
        assert_eq!(alice.sign_message("ec", b"hi").await.status, status, "{code}");
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    }
    assert_eq!(workers_of(proxy.process.pid()), before);
}

#[tokio::test]
async fn a_token_that_is_taken_out_is_an_outage_until_it_is_back() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    let proxy = world.proxy().token("ec", &hsm, &key, LINES).caller(ALICE, &["ec"]).start().await;
    let alice = proxy.client(ALICE).await;
    let before = workers_of(proxy.process.pid());
    hsm.remove();
    // SoftHSM itself may go on from memory; a library that is started anew does not.
    signal(before[0], Signal::SIGKILL);
    proxy.unhealthy_for("upstream_unhealthy").await;
    assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "upstream_unhealthy");
    proxy.process.says("no such token is present").await;
    hsm.put_back();
    recovers(&proxy, &alice, &key, &before).await;
}

#[tokio::test]
async fn a_library_that_is_missing_is_waited_for() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    let aside = hsm.module.with_extension("aside");
    std::fs::rename(&hsm.module, &aside).unwrap();
    let proxy =
        world.proxy().token("ec", &hsm, &key, LINES).caller(ALICE, &["ec"]).start_shut().await;
    proxy.unhealthy_for("key_unavailable").await;
    proxy.process.says("can not be loaded").await;
    std::fs::rename(&aside, &hsm.module).unwrap();
    proxy.healthy().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
}

#[tokio::test]
async fn i1_a_tokens_wrong_signature_never_leaves_and_seals_the_signer() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = hsm.key("ec", Kind::P256);
    let proxy = start(&world, &hsm, &key).await;
    let alice = proxy.client(ALICE).await;
    hsm.order("once flip");
    let answer = alice.sign_message("ec", b"hi").await;
    assert_eq!((answer.status, answer.reason()), (503, "signature_rejected"), "{answer:?}");
    assert_eq!(hsm.said("flip"), 1);
    assert!(answer.body.get("signature").is_none());
    proxy.unhealthy_for("sealed").await;
    let (code, said, _) = proxy.signctl(&["unseal", "ec", "--reason", "the token was exchanged"]);
    assert_eq!(code, 0, "{said}");
    proxy.healthy().await;
    assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
}

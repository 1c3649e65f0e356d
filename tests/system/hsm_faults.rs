//! What goes wrong with a token and its worker: each fault takes effect, releases nothing
//! that was not verified, and is over without a restart of the proxy.

use std::time::{Duration, Instant};

use system_tests::{World, eventually};

use crate::doctor::agreed;
use crate::hsm_act::{Act, SENT_MAX, count};

#[tokio::test]
async fn i10_a_call_that_hangs_is_killed_at_its_deadline_and_only_what_was_sent_is_in_doubt() {
    let world = World::new();
    let act = Act::quiet(&world).await;
    let before = act.workers();
    act.hsm.order("hang");
    let began = Instant::now();
    let answers = act.ask_at_once(40).await;
    let took = began.elapsed();
    act.hsm.mend();
    assert!(act.hsm.said("hang") >= 1);
    assert!(took >= Duration::from_millis(400), "cut after {took:?}");
    // What is in flight is bounded.
    let in_doubt = count(&answers, "indeterminate");
    assert!((1..=SENT_MAX).contains(&in_doubt), "{in_doubt} in doubt");
    assert_eq!(in_doubt + count(&answers, "upstream_unhealthy"), 40);
    act.recovers(&before).await;
    act.proxy.process.says("did not answer within 400 ms; the worker was killed").await;
}

#[tokio::test]
async fn a_worker_that_is_stopped_is_killed_and_started_anew() {
    let world = World::new();
    let act = Act::quiet(&world).await;
    let before = act.workers();
    act.stop_worker().await;
    let answers = act.ask_at_once(4).await;
    let in_doubt = count(&answers, "indeterminate");
    assert!((2..=4).contains(&in_doubt), "{answers:?}");
    assert_eq!(in_doubt + count(&answers, "upstream_unhealthy"), 4, "{answers:?}");
    act.recovers(&before).await;
}

#[tokio::test]
async fn a_worker_that_is_killed_is_started_anew() {
    let world = World::new();
    let act = Act::quiet(&world).await;
    for _ in 0..2 {
        let before = act.workers();
        act.kill_worker();
        act.recovers(&before).await;
    }
    assert_eq!(act.hsm.said("C_Login"), 3, "one login for each worker");
}

#[tokio::test]
async fn i10_of_calls_under_way_when_the_worker_is_killed_only_those_that_it_had_are_in_doubt() {
    let world = World::new();
    // So long that the kill is ours, and not the deadline's.
    let act = Act::quiet_with(&world, "threads = 2\ncall_timeout_ms = 60000").await;
    let before = act.workers();
    act.stop_worker().await;
    let begun = act.begin(40);
    eventually("all of them are in flight", || async {
        let in_flight = act.proxy.metric("signing_proxy_inflight_requests").await;
        (in_flight == Some(40.0)).then_some(())
    })
    .await;
    act.kill_worker();
    let answers = act.answers(begun).await;
    // It has one for each thread at least.
    let in_doubt = count(&answers, "indeterminate");
    assert!((2..=SENT_MAX).contains(&in_doubt), "{in_doubt} in doubt");
    assert_eq!(in_doubt + count(&answers, "upstream_unhealthy"), 40, "{answers:?}");
    act.recovers(&before).await;
}

#[tokio::test]
async fn i10_a_crash_in_the_middle_of_a_batch_leaves_nothing_unverified() {
    let world = World::new();
    let act = Act::quiet(&world).await;
    for crashes in 1..=3 {
        let before = act.workers();
        act.hsm.order("once crash");
        let answers = act.ask_at_once(40).await;
        assert_eq!(act.hsm.said("crash"), crashes);
        let in_doubt = count(&answers, "indeterminate");
        assert!((1..=SENT_MAX).contains(&in_doubt), "{in_doubt} in doubt: {answers:?}");
        act.recovers(&before).await;
    }
}

#[tokio::test]
async fn i10_a_lost_session_certainly_signed_nothing_and_the_library_is_started_anew() {
    let world = World::new();
    let act = Act::quiet(&world).await;
    // CKR_SESSION_HANDLE_INVALID, CKR_USER_NOT_LOGGED_IN, CKR_TOKEN_NOT_PRESENT.
    for code in ["b3", "101", "e0"] {
        let before = act.workers();
        act.hsm.order(&format!("once sign={code}"));
        let answers = act.ask_at_once(12).await;
        assert_eq!(count(&answers, "indeterminate"), 0, "{answers:?}");
        assert!(count(&answers, "upstream_unhealthy") >= 1, "{answers:?}");
        act.recovers(&before).await;
    }
    // CKR_DEVICE_REMOVED, CKR_DEVICE_ERROR: in the middle of the call.
    for code in ["32", "30"] {
        let before = act.workers();
        act.hsm.order(&format!("once sign={code}"));
        let answer = act.ask().await;
        assert_eq!((answer.status, answer.reason()), (504, "indeterminate"), "{answer:?}");
        act.recovers(&before).await;
    }
    assert_eq!(act.hsm.said("sign"), 5);
}

#[tokio::test]
async fn a_refused_call_leaves_the_worker_alone() {
    let world = World::new();
    let act = Act::quiet(&world).await;
    let before = act.workers();
    // CKR_DATA_LEN_RANGE, CKR_FUNCTION_FAILED.
    for (code, status) in [("21", 503), ("6", 504)] {
        act.hsm.order(&format!("once sign={code}"));
        assert_eq!(act.ask().await.status, status, "{code}");
        assert_eq!(act.ask().await.status, 200);
    }
    assert_eq!(act.hsm.said("sign"), 2);
    assert_eq!(act.workers(), before);
}

#[tokio::test]
async fn a_token_that_is_taken_out_is_an_outage_until_it_is_back() {
    let world = World::new();
    let act = Act::watched(&world).await;
    let before = act.workers();
    act.hsm.remove();
    act.refuses_for("upstream_unhealthy").await;
    act.proxy.process.says("no such token is present").await;
    assert!(!agreed(&act.proxy, "a token that was taken out").await);
    act.hsm.put_back();
    act.recovers(&before).await;
    assert!(agreed(&act.proxy, "a token that is back").await);
}

#[tokio::test]
async fn a_library_that_is_missing_is_waited_for_at_the_start_and_later() {
    let world = World::new();
    let aside = |module: &std::path::Path| module.with_extension("aside");
    let act = Act::shut_for(&world, "key_unavailable", |hsm| {
        std::fs::rename(&hsm.module, aside(&hsm.module)).unwrap();
    })
    .await;
    act.proxy.process.says("cannot be loaded").await;
    assert!(!agreed(&act.proxy, "a library that is missing").await);
    let put_back = || std::fs::rename(aside(&act.hsm.module), &act.hsm.module).unwrap();
    put_back();
    act.signs().await;
    let before = act.workers();
    std::fs::rename(&act.hsm.module, aside(&act.hsm.module)).unwrap();
    act.kill_worker();
    act.refuses_for("key_unavailable").await;
    put_back();
    act.recovers(&before).await;
}

#[tokio::test]
async fn i1_a_tokens_wrong_signature_never_leaves_and_seals_the_signer() {
    let world = World::new();
    let act = Act::quiet(&world).await;
    act.hsm.order("once flip");
    let answer = act.ask().await;
    assert_eq!((answer.status, answer.reason()), (503, "signature_rejected"), "{answer:?}");
    assert_eq!(act.hsm.said("flip"), 1);
    act.proxy.unhealthy_for("sealed").await;
    assert!(!agreed(&act.proxy, "a seal by the token").await);
    let (code, said, _) =
        act.proxy.signctl(&["unseal", "ec", "--reason", "the token was exchanged"]);
    assert_eq!(code, 0, "{said}");
    act.signs().await;
}

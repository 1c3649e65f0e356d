//! `GET /v1/events`: from a position, as soon as something is on disk, for few at a time, and a late reader is told.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use system_tests::{Answer, Proxy, World, eventually};

use crate::ALICE;

async fn ask(proxy: &Proxy<'_>, query: &str) -> Answer {
    proxy.admin("GET", &format!("/v1/events{query}"), Value::Null).await
}

fn kinds(answer: &Answer) -> Vec<&str> {
    let events = answer.body["events"].as_array().unwrap();
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

async fn freeze(proxy: &Proxy<'_>, reason: &str) {
    let frozen = proxy.admin("POST", "/v1/freeze", json!({"reason": reason})).await;
    assert_eq!(frozen.status, 200, "{frozen:?}");
}

async fn unfreeze(proxy: &Proxy<'_>) {
    let reason = json!({"reason": "looked at it"});
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", reason).await.status, 200);
}

#[tokio::test]
async fn events_are_those_after_a_position_and_what_a_request_makes_is_none() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let opened = || async {
        let all = ask(&proxy, "").await;
        let gate = all.body["events"].as_array()?.iter().rfind(|event| event["type"] == "gate")?;
        (gate["data"]["to"] == "open").then(|| all.clone())
    };
    let all = eventually("the gate's record is on disk", opened).await;
    assert_eq!(kinds(&all)[0], "start", "{all:?}");
    assert_eq!(all.body["missed_through"], Value::Null, "{all:?}");
    let from = all.body["next"].as_u64().unwrap();
    assert!(from <= all.body["size"].as_u64().unwrap(), "{all:?}");

    assert!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.signature().len() > 8);
    freeze(&proxy, "INC-42").await;
    let newer = ask(&proxy, &format!("?after={from}&wait_s=30")).await;
    assert_eq!(kinds(&newer), ["freeze"], "{newer:?}");
    let event = &newer.body["events"][0];
    assert_eq!(event["data"]["reason"], "INC-42");
    assert!(event["seq"].as_u64().unwrap() > from && event["at"].as_str().unwrap().ends_with('Z'));
    let next = newer.body["next"].as_u64().unwrap();
    assert!(kinds(&ask(&proxy, &format!("?after={next}")).await).is_empty());
    // The status counts what was asked for.
    let status = proxy.admin("GET", "/v1/status", Value::Null).await.body;
    assert_eq!(status["activity"]["signed"], 1, "{status}");
    let calls = &status["activity"]["upstreams"][0];
    assert!(calls["signed"].as_u64().unwrap() >= 2 && calls["signer_kid"] == "ec", "{status}");
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.reason(), "frozen");
    let status = proxy.admin("GET", "/v1/status", Value::Null).await.body;
    assert_eq!(
        status["activity"]["refused"],
        json!([{"reason": "frozen", "count": 1}]),
        "{status}"
    );
}

#[tokio::test]
async fn a_question_waits_until_something_happens_and_only_so_long() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    // Until nothing of the start is on its way any more.
    let next = eventually("nothing happens", || async {
        let next = ask(&proxy, "").await.body["next"].as_u64().unwrap();
        let answer = ask(&proxy, &format!("?after={next}&wait_s=1")).await;
        kinds(&answer).is_empty().then_some(next)
    })
    .await;
    let query = format!("?after={next}&wait_s=30");
    let (answer, ()) = tokio::join!(ask(&proxy, &query), freeze(&proxy, "now"));
    assert_eq!(kinds(&answer), ["freeze"], "{answer:?}");
    let next = answer.body["next"].as_u64().unwrap();
    let began = Instant::now();
    let nothing = ask(&proxy, &format!("?after={next}&wait_s=1")).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{nothing:?}");
    assert_eq!((nothing.status, kinds(&nothing).len()), (200, 0), "{nothing:?}");
}

/// Waits, question after question, until the freeze has ended.
async fn until_unfrozen(proxy: &Proxy<'_>, mut after: u64) {
    loop {
        let answer = ask(proxy, &format!("?after={after}&wait_s=20")).await;
        // The one that is too many may be any of the five.
        if answer.status == 503 {
            continue;
        }
        if kinds(&answer).contains(&"unfreeze") {
            return;
        }
        after = answer.body["next"].as_u64().unwrap();
    }
}

#[tokio::test]
async fn few_may_wait_and_whoever_waits_keeps_nobody_from_a_freeze() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    freeze(&proxy, "all is quiet").await;
    let size = || async { ask(&proxy, "").await.body["size"].as_u64().unwrap() };
    let after = size().await;
    let waiting = async {
        let wait = || until_unfrozen(&proxy, after);
        tokio::join!(wait(), wait(), wait(), wait());
    };
    let acting = async {
        // Four of one user wait, and the fifth is told so.
        let fifth = eventually("the fifth is refused", || async {
            let fifth = ask(&proxy, &format!("?after={}&wait_s=1", size().await)).await;
            (fifth.status == 503).then_some(fifth)
        })
        .await;
        assert!(fifth.text.contains("4 questions of uid 0"), "{fifth:?}");
        assert_eq!(ask(&proxy, "").await.status, 200, "who does not wait is answered");
        unfreeze(&proxy).await;
    };
    tokio::join!(waiting, acting);
}

#[tokio::test]
async fn a_late_reader_and_one_of_another_time_are_told() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let proxy = builder.clone().start().await;
    freeze(&proxy, "first").await;
    let before = ask(&proxy, "").await;
    let next = before.body["next"].as_u64().unwrap();
    unfreeze(&proxy).await;
    proxy.stop().await;
    // What was recorded before a start is in the journal alone.
    let proxy = builder.start().await;
    let late = ask(&proxy, &format!("?after={next}")).await;
    let start = late.body["events"][0]["seq"].as_u64().unwrap();
    assert_eq!(late.body["log"], before.body["log"]);
    assert_eq!(late.body["missed_through"], start - 1, "{late:?}");
    assert_eq!(kinds(&late)[0], "start", "{late:?}");
    for (query, why) in [
        ("?after=999999999", "the newest is"),
        ("?after=x", "no number"),
        ("?wait_s=31", "30 s at most"),
        ("?since=1", "not known"),
    ] {
        let refused = ask(&proxy, query).await;
        assert_eq!((refused.status, refused.reason()), (400, "invalid_request"), "{refused:?}");
        assert!(refused.text.contains(why), "{query}: {refused:?}");
    }
    let refused = proxy.admin("POST", "/v1/events", json!({})).await;
    assert_eq!(refused.reason(), "method_not_allowed", "{refused:?}");
}

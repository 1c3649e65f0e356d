//! What no record says, the trail sees by itself: that it is behind, and that a key is overdue while the
//! emergency signer is down.

use std::process::Command;

use serde_json::Value;
use system_tests::breakglass::EMERGENCY_KID;
use system_tests::postgres::Postgres;
use system_tests::programs::libfaketime;
use system_tests::trail::Trail;
use system_tests::{Receiver, eventually};

use super::{KEY_FILE, comes, events, journal_of, json_at, words};
use crate::breakglass::{Site, activated, end};

#[tokio::test]
async fn a_database_that_is_down_makes_the_trail_behind_and_its_return_ends_that() {
    let site = Site::new();
    let (_signer, _proxy) = site.both().await;
    let mut postgres = Postgres::start().await;
    let registry = site.world.scratch.path("proxy/signers.json");
    let receiver = Receiver::start();
    let some = Receiver::start();
    let mut trail = Trail::new(&[("proxy", &journal_of(&site.world))], &registry, &postgres)
        .webhook("ops", &json_at(&receiver.url("/")), &[KEY_FILE])
        .webhook(
            "some",
            &format!("{}\nevents = [\"trail_caught_up\"]", json_at(&some.url("/"))),
            &[],
        );
    trail.start();
    trail.holds("signing-proxy", 1).await;
    postgres.kill().await;
    let found = comes(&receiver, "trail_behind").await;
    let behind = found.iter().find(|event| event["event"] == "trail_behind").unwrap();
    assert_eq!(behind["data"]["sink"], "postgres", "{behind}");
    assert_eq!(behind["data"]["journal"], "signing-proxy", "{behind}");
    assert!(!behind["data"]["trouble"].as_str().unwrap().is_empty(), "{behind}");
    postgres.up().await;
    let found = comes(&receiver, "trail_caught_up").await;
    let of = |word: &str| words(&found).iter().filter(|found| **found == word).count();
    assert_eq!((of("trail_behind"), of("trail_caught_up")), (1, 1));
    // A webhook gets the events that it names.
    comes(&some, "trail_caught_up").await;
    assert_eq!(words(&events(&some)), ["trail_caught_up"]);
}

/// `signing-trail serve` as if it were two days later.
fn two_days_later(mut serve: Command) -> Command {
    serve.env("LD_PRELOAD", libfaketime()).env("FAKETIME", "+2d").env("DONT_FAKE_MONOTONIC", "1");
    serve
}

#[tokio::test]
async fn a_key_that_is_overdue_while_the_signer_is_down_is_told_once() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    let postgres = Postgres::start().await;
    let registry = site.world.scratch.path("proxy/signers.json");
    let receiver = Receiver::start();
    let (proxys, signers) = (journal_of(&site.world), signer.builder.journal());
    let journals = [("proxy", proxys.as_path()), ("signer", signers.as_path())];
    let mut trail = Trail::new(&journals, &registry, &postgres);
    trail = trail.webhook("ops", &json_at(&receiver.url("/")), &[KEY_FILE]);
    trail.start();
    comes(&receiver, "notifications_begun").await;
    site.out(&proxy).await;
    activated(&signer, &proxy, &signer.request()).await;
    assert_eq!(end(&proxy).await.status, 200);
    let found = comes(&receiver, "destruction_due").await;
    assert!(!words(&found).contains(&"destruction_overdue"));
    signer.stop().await;
    for _ in 0..2 {
        trail.kill().await;
        let command = two_days_later(trail.verb("serve"));
        trail.start_as(command);
        // Its clock is not ours: signatures are of two days later.
        eventually("the overdue key", || async {
            let all: Vec<Value> = receiver.accepted().iter().map(|sent| sent.json()).collect();
            let overdue: Vec<_> =
                all.iter().filter(|event| event["event"] == "destruction_overdue").collect();
            let [one] = overdue[..] else { return None };
            assert_eq!(one["data"]["emergency_kid"], EMERGENCY_KID);
            Some(())
        })
        .await;
        eventually("nothing waits", || async {
            let (_, status) = trail.status().await;
            (status["notifications"][0]["lag_seconds"] == 0.0).then_some(())
        })
        .await;
    }
}

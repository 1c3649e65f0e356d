//! A trail that is killed at any moment tells everything at least once, in order; a receiver that is away
//! costs it neither memory nor disk.

use nix::sys::signal::Signal;
use serde_json::json;
use system_tests::postgres::Postgres;
use system_tests::trail::Trail;
use system_tests::{Chance, Manner, Proxy, Receiver, World, eventually, is_campaign};

use super::{KEY_FILE, are_in_order, comes, events, journal_of, json_at, words};
use crate::ALICE;

/// A proxy, and a trail of it that tells `receiver`.
async fn told<'w>(world: &'w World, receiver: &Receiver) -> (Proxy<'w>, Trail) {
    let key = world.kms.key(system_tests::Kind::P256);
    let builder = world.proxy().signer("payments", &key).caller(ALICE, &["payments"]);
    let proxy = builder.segment_bytes(1 << 20).start().await;
    // Nothing of it needs the database.
    let postgres = Postgres::start().await;
    let registry = world.scratch.path("proxy/signers.json");
    let journal = journal_of(world);
    let trail = Trail::new(&[("proxy", &journal)], &registry, &postgres);
    (proxy, trail.webhook("ops", &json_at(&receiver.url("/")), &[KEY_FILE]))
}

async fn freeze(proxy: &Proxy<'_>, reason: &str) {
    let body = json!({"reason": reason});
    assert_eq!(proxy.admin("POST", "/v1/freeze", body.clone()).await.status, 200);
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", body).await.status, 200);
}

#[tokio::test]
async fn killed_at_random_it_tells_everything_at_least_once_and_in_order() {
    let world = World::new();
    let receiver = Receiver::start();
    let (proxy, mut trail) = told(&world, &receiver).await;
    trail.start();
    comes(&receiver, "notifications_begun").await;
    let mut chance = Chance::of("kills while notifications are sent");
    let rounds = if is_campaign() { 60 } else { 8 };
    let mut freezes = 0;
    for _ in 0..rounds {
        for _ in 0..chance.below(6) {
            freezes += 1;
            freeze(&proxy, &format!("freeze {freezes}")).await;
        }
        receiver.set(match chance.below(3) {
            0 => Manner::Answer(503, String::new()),
            1 => Manner::Endless,
            _ => Manner::Answer(204, String::new()),
        });
        let wait = chance.below(900) as u64;
        // A pause: the moment of the kill is by chance, and nothing is waited for.
        tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
        trail.kill().await;
        trail.start();
    }
    receiver.mend();
    freeze(&proxy, "the last").await;
    let found = eventually("the last freeze", || async {
        let found = events(&receiver);
        let last = found
            .iter()
            .any(|event| event["event"] == "unfrozen" && event["data"]["reason"] == "the last");
        last.then_some(found)
    })
    .await;
    are_in_order(&found);
    let reasons: Vec<_> = found
        .iter()
        .filter(|event| event["event"] == "frozen")
        .map(|event| event["data"]["reason"].as_str().unwrap().to_owned())
        .collect();
    let mut wanted: Vec<_> = (1..=freezes).map(|number| format!("freeze {number}")).collect();
    wanted.push("the last".to_owned());
    assert_eq!(reasons, wanted, "{chance:?}");
    let ended = words(&found).iter().filter(|word| **word == "unfrozen").count();
    assert_eq!(ended, wanted.len(), "{chance:?}");
}

#[tokio::test]
async fn what_waits_for_a_receiver_waits_in_the_journal_and_nowhere_else() {
    let world = World::new();
    let receiver = Receiver::start();
    receiver.set(Manner::Answer(500, String::new()));
    let (proxy, mut trail) = told(&world, &receiver).await;
    trail.start();
    let file = trail.path("state/ops.json");
    eventually("a state", || std::future::ready(file.exists().then_some(()))).await;
    freeze(&proxy, "the first").await;
    eventually("a failure", || async {
        let (_, status) = trail.status().await;
        (status["notifications"][0]["failed"].as_u64()? > 0).then_some(())
    })
    .await;
    let before = (std::fs::metadata(&file).unwrap().len(), trail.process().resident_kib());
    for number in 0..400 {
        freeze(&proxy, &format!("{number} {}", "x".repeat(900))).await;
    }
    let (_, status) = trail.status().await;
    assert_eq!(status["notifications"][0]["delivered"], 0, "{status}");
    let after = (std::fs::metadata(&file).unwrap().len(), trail.process().resident_kib());
    // 800 records of a kilobyte each.
    assert!(after.0 < before.0 + 8192, "{before:?} {after:?}");
    assert!(after.1 < before.1 + 8192, "KiB: {before:?} {after:?}");
    trail.kill().await;
    receiver.mend();
    trail.start();
    let found = eventually("the last of them", || async {
        let found = events(&receiver);
        (words(&found).iter().filter(|word| **word == "unfrozen").count() == 401).then_some(found)
    })
    .await;
    are_in_order(&found);
}

#[tokio::test]
async fn records_that_were_removed_meanwhile_are_named() {
    let world = World::new();
    let receiver = Receiver::start();
    let (proxy, mut trail) = told(&world, &receiver).await;
    trail.start();
    comes(&receiver, "notifications_begun").await;
    trail.process().signal(Signal::SIGTERM);
    trail.process().ended().await;
    let journal = journal_of(&world);
    let alice = proxy.client(ALICE).await;
    while system_tests::journal::segments(&journal).len() < 3 {
        assert_eq!(alice.sign_message("payments", b"hello").await.status, 200);
    }
    let segments = system_tests::journal::segments(&journal);
    std::fs::remove_file(&segments[0]).unwrap();
    let second: u64 = segments[1].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    trail.start();
    let found = comes(&receiver, "records_lost").await;
    let lost = found.iter().find(|event| event["event"] == "records_lost").unwrap();
    assert_eq!(lost["data"]["last"], second - 1, "{lost}");
    // It goes on behind the gap.
    freeze(&proxy, "after the gap").await;
    comes(&receiver, "unfrozen").await;
}

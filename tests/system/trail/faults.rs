//! What the trail does when the database, the journal or itself fails.

use std::fs;

use system_tests::postgres::Postgres;
use system_tests::{Chance, World, eventually, is_campaign, journal};

use super::{KID, journal_of, newest, proxy_in, trail_of};
use crate::ALICE;

#[tokio::test]
async fn a_database_that_would_forget_is_refused_at_the_start() {
    let world = World::new();
    let _proxy = proxy_in(&world).await;
    for (setting, named) in
        [("fsync=off", "fsync = off"), ("synchronous_commit=off", "synchronous_commit = off")]
    {
        let postgres = Postgres::start_with(&[setting]).await;
        let mut trail = trail_of(&world, &postgres);
        trail.start();
        let status = trail.process().ended().await;
        assert_eq!(status.code(), Some(1));
        assert!(trail.process().output().contains(named), "{}", trail.process().output());
    }
}

#[tokio::test]
async fn it_catches_up_after_an_outage_and_says_meanwhile_how_far_it_is_behind() {
    let world = World::new();
    let proxy = proxy_in(&world).await;
    let mut postgres = Postgres::start().await;
    let mut trail = trail_of(&world, &postgres);
    trail.start();
    trail.holds("signing-proxy", 1).await;
    postgres.kill().await;
    let alice = proxy.client(ALICE).await;
    for _ in 0..50 {
        assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
    }
    eventually("a lag that is told", || async {
        let (output, status) = trail.status().await;
        let behind = status["journals"][0]["lag_records"].as_u64()?;
        (behind >= 100 && output.status.code() == Some(1)).then_some(())
    })
    .await;
    postgres.up().await;
    trail.holds("signing-proxy", newest(&journal_of(&world))).await;
}

#[tokio::test]
async fn a_segment_that_was_removed_before_it_was_shipped_is_a_named_gap_and_never_silence() {
    let world = World::new();
    let key = world.kms.key(system_tests::Kind::P256);
    let builder = world.proxy().signer(KID, &key).caller(ALICE, &[KID]);
    let proxy = builder.segment_bytes(1 << 20).start().await;
    let alice = proxy.client(ALICE).await;
    let directory = journal_of(&world);
    while journal::segments(&directory).len() < 4 {
        assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
    }
    let segments = journal::segments(&directory);
    fs::remove_file(&segments[0]).unwrap();
    let second = segments[1].file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let postgres = Postgres::start().await;
    let mut trail = trail_of(&world, &postgres);
    trail.start();
    trail.holds("signing-proxy", newest(&directory)).await;
    let gap = postgres.sql(
        "SELECT payload->>'first', payload->>'last' FROM signing_proxy.audit_events
         WHERE event_type = 'signing.trail.gap'",
    );
    assert_eq!(gap, format!("1|{}", second - 1));
    let (output, status) = trail.status().await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(status["journals"][0]["missing_records"], second - 1);
}

#[tokio::test]
async fn killed_at_random_with_the_database_there_is_no_gap_and_no_duplicate() {
    let world = World::new();
    let proxy = proxy_in(&world).await;
    let mut postgres = Postgres::start().await;
    let mut trail = trail_of(&world, &postgres);
    trail.start();
    let alice = proxy.client(ALICE).await;
    let mut chance = Chance::of("kills of trail and database");
    let rounds = if is_campaign() { 60 } else { 6 };
    for _ in 0..rounds {
        for _ in 0..(1 + chance.below(30)) {
            assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
        }
        assert_eq!(proxy.signctl(&["freeze", "--reason", "r"]).0, 0);
        assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 0);
        let wait = chance.below(1_200) as u64;
        // A pause: the moment of the kill is by chance, and nothing is waited for.
        tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
        match chance.below(3) {
            0 => trail.kill().await,
            1 => postgres.kill().await,
            _ => {
                postgres.kill().await;
                trail.kill().await;
            }
        }
        if !postgres.is_up() {
            postgres.up().await;
        }
        if !trail.is_up() {
            trail.start();
        }
        // Frozen requests are refused until the gate knows of the end of the freeze.
        eventually("a signature", || async {
            (alice.sign_message(KID, b"hello").await.status == 200).then_some(())
        })
        .await;
    }
    let journal = journal_of(&world);
    proxy.stop().await;
    trail.holds("signing-proxy", newest(&journal)).await;
    let (code, said) = trail.signctl("verify", &postgres, &[]);
    assert_eq!(code, 0, "{chance:?}: {said}");
    let (code, said) =
        trail.signctl("reconcile", &postgres, &["--journal", journal.to_str().unwrap()]);
    assert_eq!(code, 0, "{chance:?}: {said}");
}

#[tokio::test]
async fn a_database_that_was_restored_to_an_earlier_state_is_said_and_filled_again() {
    let world = World::new();
    let proxy = proxy_in(&world).await;
    let postgres = Postgres::start().await;
    let mut trail = trail_of(&world, &postgres);
    trail.start();
    trail.holds("signing-proxy", 1).await;
    postgres.sql(
        "CREATE SCHEMA kept; CREATE TABLE kept.a AS SELECT * FROM signing_proxy.audit_events;
         CREATE TABLE kept.p AS SELECT * FROM signing_proxy.trail_positions",
    );
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
    let journal = journal_of(&world);
    proxy.stop().await;
    trail.holds("signing-proxy", newest(&journal)).await;
    postgres.sql(
        "BEGIN; TRUNCATE signing_proxy.audit_events, signing_proxy.trail_positions;
         INSERT INTO signing_proxy.audit_events SELECT * FROM kept.a;
         INSERT INTO signing_proxy.trail_positions SELECT * FROM kept.p; COMMIT;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'signing-trail'",
    );
    trail.process().says("the sink holds less than it did").await;
    trail.holds("signing-proxy", newest(&journal)).await;
    let (code, said) =
        trail.signctl("reconcile", &postgres, &["--journal", journal.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn a_journal_that_was_put_back_and_grew_past_what_the_sink_holds_is_not_shipped() {
    let world = World::new();
    let key = world.kms.key(system_tests::Kind::P256);
    let builder = world.proxy().signer(KID, &key).caller(ALICE, &[KID]);
    let at = |part: &str| world.scratch.path(part);
    let copied = |from: &str, to: &str| {
        let mut copy = std::process::Command::new("cp");
        assert!(copy.arg("-a").arg(at(from)).arg(at(to)).status().unwrap().success());
    };
    builder.clone().start().await.stop().await;
    for part in ["state", "journal"] {
        copied(&format!("proxy/{part}"), &format!("older-{part}"));
    }
    let signs = async |count: usize| {
        let proxy = builder.clone().start().await;
        let alice = proxy.client(ALICE).await;
        for _ in 0..count {
            assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
        }
        proxy.stop().await;
    };
    signs(3).await;
    let postgres = Postgres::start().await;
    let mut trail = trail_of(&world, &postgres);
    trail.start();
    let shipped = newest(&journal_of(&world));
    trail.holds("signing-proxy", shipped).await;
    trail.kill().await;
    let rows = || postgres.sql("SELECT count(*) FROM signing_proxy.audit_events");
    let before = rows();
    for part in ["state", "journal"] {
        fs::remove_dir_all(at(&format!("proxy/{part}"))).unwrap();
        copied(&format!("older-{part}"), &format!("proxy/{part}"));
    }
    signs(20).await;
    assert!(newest(&journal_of(&world)) > shipped);
    trail.start();
    trail.process().says("has the root").await;
    assert_eq!(rows(), before);
    let (output, _) = trail.status().await;
    assert_eq!(output.status.code(), Some(1));
}

//! Required mode: a signature leaves only once the database has committed its record.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;
use system_tests::postgres::Postgres;
use system_tests::trail::Trail;
use system_tests::{Answer, Chance, Client, Kind, Proxy, World, eventually, is_campaign, journal};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use super::{KID, journal_of, newest, trail_of, trail_of_both};
use crate::ALICE;
use crate::breakglass::{Site, activated, end};

/// A machine that is busy commits late.
const PATIENT: &str = "commit_timeout_ms = 3000";

/// Where the trail's socket is.
pub(super) fn socket_of(world: &World) -> PathBuf {
    world.scratch.path("required.sock")
}

/// The table of a proxy that requires it.
pub(super) fn table(world: &World, more: &str) -> String {
    let uid = nix::unistd::getuid();
    format!("[trail]\nrequired_socket = {:?}\nuid = {uid}\n{more}\n", socket_of(world))
}

/// A proxy that requires a trail, which nobody has started yet.
pub(super) async fn requiring<'w>(world: &'w World, more: &str) -> Proxy<'w> {
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().signer(KID, &key).caller(ALICE, &[KID]);
    builder.tables(&table(world, more)).start_shut().await
}

/// Its trail.
fn required_trail(world: &World, postgres: &Postgres) -> Trail {
    trail_of(world, postgres).required(&socket_of(world))
}

pub(super) async fn refused(alice: &Client) -> Answer {
    let answer = alice.sign_message(KID, b"hello").await;
    assert_eq!((answer.status, answer.reason()), (503, "audit_unavailable"), "{}", answer.text);
    answer
}

/// Signs, and returns the record's number. A busy machine may commit too late for the first one.
async fn signed(alice: &Client) -> u64 {
    let answer = leaves(alice).await;
    answer.body["audit"]["seq"].as_u64().unwrap()
}

async fn leaves(alice: &Client) -> Answer {
    eventually("a signature that leaves", || async {
        let answer = alice.sign_message(KID, b"hello").await;
        let is_late = answer.status == 503 && answer.reason() == "audit_unavailable";
        assert!(answer.status == 200 || is_late, "{}", answer.text);
        (!is_late).then_some(answer)
    })
    .await
}

/// How far the database holds a journal, by its own word.
pub(super) fn held(postgres: &Postgres, journal: &str) -> u64 {
    let held =
        format!("SELECT shipped FROM signing_proxy.trail_positions WHERE journal = '{journal}'");
    postgres.sql(&held).parse().unwrap()
}

#[tokio::test]
async fn i8_connections_that_do_not_greet_keep_no_proxy_from_a_required_trail() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let proxy = requiring(&world, PATIENT).await;
    let mut trail = required_trail(&world, &postgres);
    trail.start();
    let socket = socket_of(&world);
    let connected =
        eventually("the socket", || async { UnixStream::connect(&socket).await.ok() }).await;
    let mut silent = vec![connected];
    for _ in 0..40 {
        silent.push(UnixStream::connect(&socket).await.unwrap());
    }
    proxy.healthy().await;
    signed(&proxy.client(ALICE).await).await;
    // The oldest gave way.
    let mut told = String::new();
    silent[0].read_to_string(&mut told).await.unwrap();
    assert!(told.contains("gave way to newer ones"), "{told}");
    // What stands in place of the socket is said, and out of the way a new proxy is served.
    let aside = world.scratch.path("aside");
    std::fs::write(&aside, "not yours").unwrap();
    std::fs::rename(&aside, &socket).unwrap();
    trail.process().says("the required socket is lost: no proxy reaches this process").await;
    std::fs::remove_file(&socket).unwrap();
    eventually("it is bound again", || async { UnixStream::connect(&socket).await.ok() }).await;
}

#[tokio::test]
async fn a_signature_leaves_only_once_the_database_holds_its_record() {
    let world = World::new();
    let (proxy, postgres) = (requiring(&world, PATIENT).await, Postgres::start().await);
    let alice = proxy.client(ALICE).await;
    let mut trail = required_trail(&world, &postgres);
    trail.start();
    proxy.healthy().await;
    for _ in 0..20 {
        assert!(signed(&alice).await <= held(&postgres, "signing-proxy"));
    }
    let starts = journal::read(&journal_of(&world), "start");
    let required = format!("uid {}", nix::unistd::getuid());
    assert_eq!(starts[0]["record"]["data"]["required_trail"], required, "{starts:?}");
    // Rows come as ever: checkpoints cover each record once.
    proxy.stop().await;
    trail.holds("signing-proxy", newest(&journal_of(&world))).await;
    let (code, said) = trail.signctl("verify", &postgres, &[]);
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn without_the_trail_or_its_database_nothing_is_signed_and_then_it_is_again() {
    let world = World::new();
    let (proxy, mut postgres) = (requiring(&world, PATIENT).await, Postgres::start().await);
    let alice = proxy.client(ALICE).await;
    let health = proxy.unhealthy_for("required_trail").await;
    assert_eq!(health.body["ok"], false, "{}", health.text);
    refused(&alice).await;
    // It is refused before anybody is asked.
    assert!(journal::read(&journal_of(&world), "intent").is_empty());
    let (_, status, _) = proxy.signctl(&["status"]);
    assert!(status.contains("required_trail") && status.contains("not connected"), "{status}");
    let mut trail = required_trail(&world, &postgres);
    trail.start();
    proxy.healthy().await;
    signed(&alice).await;

    trail.kill().await;
    refused(&alice).await;
    // A freeze waits for no sink.
    assert_eq!(proxy.signctl(&["freeze", "--reason", "r"]).0, 0);
    assert_eq!(journal::read(&journal_of(&world), "freeze").len(), 1);
    assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 0);
    proxy.unhealthy_for("required_trail").await;
    trail.start();
    proxy.healthy().await;
    signed(&alice).await;

    postgres.kill().await;
    proxy.unhealthy_for("required_trail").await;
    refused(&alice).await;
    let gate = "signing_proxy_gate_state{signer_kid=\"payments\",state=\"open\"}";
    assert_eq!(proxy.metric(gate).await, Some(1.0));
    postgres.up().await;
    proxy.healthy().await;
    assert!(signed(&alice).await <= held(&postgres, "signing-proxy"));
}

#[tokio::test]
async fn in_a_session_the_emergency_signers_own_row_is_there_before_the_signature() {
    let site = Site::new();
    let (signer, proxy) = site.both_with(&table(&site.world, PATIENT)).await;
    let postgres = Postgres::start().await;
    let mut trail = trail_of_both(&site.world, &signer, &postgres);
    trail = trail.required(&socket_of(&site.world));
    trail.start();
    proxy.healthy().await;
    site.out(&proxy).await;
    activated(&signer, &proxy, &signer.request()).await;
    let alice = proxy.client(ALICE).await;
    for _ in 0..5 {
        let answer = leaves(&alice).await;
        assert_eq!(answer.body["mode"], "breakglass", "{}", answer.text);
        let id = answer.body["request_id"].as_str().unwrap();
        let rows = format!(
            "SELECT count(*) FROM signing_proxy.audit_events WHERE event_type = 'signing.breakglass.signed'
             AND actor_id = 'service:signing-breakglass' AND payload->>'request_id' = '{id}'"
        );
        assert_eq!(postgres.sql(&rows), "1");
        // Who did not ask for a proof gets none.
        assert!(answer.body["audit"]["proof"].is_null(), "{}", answer.text);
    }
    trail.kill().await;
    refused(&alice).await;
    // The session goes on once the trail is back.
    trail.start();
    assert_eq!(leaves(&alice).await.body["mode"], "breakglass");
    assert_eq!(end(&proxy).await.status, 200);
}

#[tokio::test]
async fn a_trail_that_lacks_the_emergency_signers_journal_lets_no_session_sign() {
    let site = Site::new();
    let (signer, proxy) = site.both_with(&table(&site.world, "commit_timeout_ms = 300")).await;
    let postgres = Postgres::start().await;
    let mut trail = required_trail(&site.world, &postgres);
    trail.start();
    proxy.healthy().await;
    site.out(&proxy).await;
    activated(&signer, &proxy, &signer.request()).await;
    refused(&proxy.client(ALICE).await).await;
    // It is refused before the emergency key is asked.
    assert!(journal::read(&signer.builder.journal(), "emergency_signed").is_empty());
    assert_eq!(end(&proxy).await.status, 200);
}

#[tokio::test]
async fn a_trail_whose_registry_lacks_the_emergency_signers_audit_key_is_no_obstacle_to_signing() {
    let site = Site::new();
    let (signer, proxy) = site.both_with(&table(&site.world, PATIENT)).await;
    let postgres = Postgres::start().await;
    let mut trail = required_trail(&site.world, &postgres);
    let registry = trail.registry();
    let mut known: Value = serde_json::from_slice(&fs::read(&registry).unwrap()).unwrap();
    let signers = known["signers"].as_array_mut().unwrap();
    let (before, gone) = (signers.len(), signer.builder.registry_entries());
    let is_gone = |entry: &Value| gone.iter().any(|gone| gone["signer_kid"] == entry["signer_kid"]);
    signers.retain(|entry| !is_gone(entry));
    assert_eq!(signers.len(), before - gone.len());
    fs::write(&registry, known.to_string()).unwrap();
    trail.start();
    let unknown = "the trail cannot say whether a record of the emergency signer is committed";
    proxy.process.says(unknown).await;
    proxy.healthy().await;
    assert!(signed(&proxy.client(ALICE).await).await <= held(&postgres, "signing-proxy"));
}

#[tokio::test]
async fn after_a_restart_nothing_is_signed_until_the_database_has_caught_up() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let postgres = Postgres::start().await;
    // What was written before the sink was required.
    let proxy = world.proxy().signer(KID, &key).caller(ALICE, &[KID]).start().await;
    for _ in 0..50 {
        signed(&proxy.client(ALICE).await).await;
    }
    proxy.stop().await;
    let builder = world.proxy().signer(KID, &key).caller(ALICE, &[KID]);
    let proxy = builder.tables(&table(&world, PATIENT)).start_shut().await;
    let before = newest(&journal_of(&world));
    let mut trail = required_trail(&world, &postgres);
    trail.start();
    proxy.healthy().await;
    assert!(held(&postgres, "signing-proxy") >= before);
    assert!(signed(&proxy.client(ALICE).await).await <= held(&postgres, "signing-proxy"));
}

#[tokio::test]
async fn a_database_that_was_restored_to_an_earlier_state_is_filled_before_anything_leaves() {
    let world = World::new();
    let (proxy, mut postgres) = (requiring(&world, PATIENT).await, Postgres::start().await);
    let mut trail = required_trail(&world, &postgres);
    trail.start();
    proxy.healthy().await;
    let alice = proxy.client(ALICE).await;
    let first = signed(&alice).await;
    postgres.kill().await;
    postgres.back_up();
    postgres.up().await;
    proxy.healthy().await;
    let lost = signed(&alice).await;
    postgres.kill().await;
    postgres.restore();
    postgres.up().await;
    assert!(held(&postgres, "signing-proxy") < lost && held(&postgres, "signing-proxy") >= first);
    trail.process().says("the sink holds less than it did").await;
    // The proxy hears of it a moment later, and until then says that it is well. What leaves is in the database
    // all the same, and so is all before it.
    let left = leaves(&alice).await.body["audit"]["seq"].as_u64().unwrap();
    assert!(lost < left && left <= held(&postgres, "signing-proxy"));
    let journal = journal_of(&world);
    proxy.stop().await;
    trail.holds("signing-proxy", newest(&journal)).await;
    let (code, said) =
        trail.signctl("reconcile", &postgres, &["--journal", journal.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
}

/// Asks for signatures until told to stop; returns the newest record whose signature left.
async fn load(alice: Client, answers: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> u64 {
    let mut newest = 0;
    while !stop.load(Ordering::SeqCst) {
        let answer = alice.sign_message(KID, b"hello").await;
        match answer.status {
            200 => newest = answer.body["audit"]["seq"].as_u64().unwrap().max(newest),
            503 => assert_eq!(answer.reason(), "audit_unavailable", "{}", answer.text),
            _ => panic!("{}", answer.text),
        }
        answers.fetch_add(1, Ordering::SeqCst);
    }
    newest
}

#[tokio::test]
async fn killed_at_random_under_load_what_left_is_in_the_database() {
    let world = World::new();
    let (proxy, mut postgres) = (requiring(&world, PATIENT).await, Postgres::start().await);
    let mut trail = required_trail(&world, &postgres);
    trail.start();
    proxy.healthy().await;
    let mut chance = Chance::of("kills of a required trail and its database");
    let rounds = if is_campaign() { 40 } else { 4 };
    for round in 0..rounds {
        let (answers, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut loads = Vec::new();
        for _ in 0..4 {
            let alice = proxy.client(ALICE).await;
            loads.push(tokio::spawn(load(alice, Arc::clone(&answers), Arc::clone(&stop))));
        }
        let enough = 1 + chance.below(60) as u64;
        eventually("answers", || async {
            (answers.load(Ordering::SeqCst) >= enough).then_some(())
        })
        .await;
        let which = chance.below(3);
        if which != 0 {
            postgres.kill().await;
        }
        if which != 1 {
            trail.kill().await;
        }
        proxy.unhealthy_for("required_trail").await;
        stop.store(true, Ordering::SeqCst);
        let mut left = 0;
        for load in loads {
            left = left.max(load.await.unwrap());
        }
        if !postgres.is_up() {
            postgres.up().await;
        }
        // Before the trail is there again: what left was committed by then.
        if !trail.is_up() && left > 0 {
            assert!(left <= held(&postgres, "signing-proxy"), "{chance:?}, round {round}");
        }
        if !trail.is_up() {
            trail.start();
        }
        proxy.healthy().await;
    }
    let journal = journal_of(&world);
    proxy.stop().await;
    trail.holds("signing-proxy", newest(&journal)).await;
    let (code, said) =
        trail.signctl("reconcile", &postgres, &["--journal", journal.to_str().unwrap()]);
    assert_eq!(code, 0, "{chance:?}: {said}");
}

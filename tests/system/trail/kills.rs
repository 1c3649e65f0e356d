//! Whatever can die dies at random, under load with a break-glass session in it: the proxy, the emergency signer, the
//! trail, the database, the way to the bucket. Then the journals, the rows and the archive are the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use nix::sys::signal::Signal;
use serde_json::json;
use system_tests::breakglass::Signer;
use system_tests::trail::Trail;
use system_tests::{
    Chance, Client, FaultProxy, NetworkFault, Proxy, World, eventually, is_campaign, journal,
};

use super::archive::Archived;
use super::{KID, journal_of, newest, trail_of_both};
use crate::ALICE;
use crate::breakglass::{Site, activated, connected};

/// Asks for signatures until told to stop, or until the connection ends; the requests whose signature left.
async fn load(alice: Client, left: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Vec<String> {
    let body = json!({"signer_kid": KID, "message": STANDARD.encode(b"hello")}).to_string();
    let headers = [("content-type", "application/json")];
    let mut signed = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let sent = alice.send(Method::POST, "/v1/sign", &headers, body.clone()).await;
        let Ok(answer) = sent else { break };
        if answer.status == 200 {
            assert_eq!(answer.body["mode"], "breakglass", "{}", answer.text);
            signed.push(answer.body["request_id"].as_str().unwrap().to_owned());
            left.fetch_add(1, Ordering::SeqCst);
        }
    }
    signed
}

async fn killed(process: &mut system_tests::Process) {
    process.signal(Signal::SIGKILL);
    process.ended().await;
}

#[tokio::test]
async fn whatever_is_killed_under_load_in_a_session_journals_rows_and_archive_are_the_same() {
    let site = Site::new();
    let (mut signer, mut proxy): (Signer<'_>, Proxy<'_>) = site.both().await;
    let mut archived = Archived::new().await;
    let way = FaultProxy::start(&archived.ministack.address);
    let lines = "prefix = \"prod\"\ntimeout_ms = 2000\nobject_records = 16\n";
    let mut trail = trail_of_both(&site.world, &signer, &archived.postgres).archive(
        &format!("http://{}", way.address),
        &archived.bucket,
        lines,
    );
    trail.start();
    let mut chance = Chance::of("kills of everything in a session");
    let rounds = if is_campaign() { 40 } else { 3 };
    let mut signed = Vec::new();
    for round in 0..rounds {
        // A session ends with either process: each round has its own.
        site.out(&proxy).await;
        activated(&signer, &proxy, &signer.request()).await;
        let (left, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut loads = Vec::new();
        for _ in 0..3 {
            let alice = proxy.client(ALICE).await;
            loads.push(tokio::spawn(load(alice, Arc::clone(&left), Arc::clone(&stop))));
        }
        let enough = 1 + chance.below(40) as u64;
        eventually("signatures of the session", || async {
            (left.load(Ordering::SeqCst) >= enough).then_some(())
        })
        .await;
        // Each of them in the first rounds, then any.
        let (first, also) = (round % 4, chance.below(16));
        let dies = |which: usize| which == first || also & (1 << which) != 0;
        if dies(2) {
            trail.kill().await;
        }
        if dies(3) {
            archived.postgres.kill().await;
        }
        way.set(
            [NetworkFault::None, NetworkFault::Reset(chance.below(400)), NetworkFault::Refuse]
                [chance.below(3)],
        );
        if dies(1) {
            killed(&mut signer.process).await;
        }
        if dies(0) {
            killed(&mut proxy.process).await;
        }
        stop.store(true, Ordering::SeqCst);
        for load in loads {
            signed.extend(load.await.unwrap());
        }
        if !archived.postgres.is_up() {
            archived.postgres.up().await;
        }
        way.set(NetworkFault::None);
        if dies(1) {
            signer = signer.builder.start().await;
        }
        if dies(0) {
            drop(proxy);
            proxy = site.proxy(signer.builder.registry_entries()).start_shut().await;
        }
        connected(&proxy).await;
        if !trail.is_up() {
            trail.start();
        }
        if !dies(0) && !dies(1) {
            assert_eq!(crate::breakglass::end(&proxy).await.status, 200, "{chance:?}");
        }
    }
    proxy.stop().await;
    signer.process.signal(Signal::SIGTERM);
    signer.process.ended().await;
    are_the_same(&site.world, &signer, (&archived, &trail), &signed, &chance).await;
}

/// Both journals, the rows and the archive, and what left.
async fn are_the_same(
    world: &World,
    signer: &Signer<'_>,
    (archived, trail): (&Archived, &Trail),
    signed: &[String],
    chance: &Chance,
) {
    let (proxys, signers) = (journal_of(world), signer.builder.journal());
    for (name, journal) in [("signing-proxy", &proxys), ("breakglass-signer", &signers)] {
        trail.holds(name, newest(journal)).await;
        trail.archives(name, newest(journal)).await;
    }
    // What left is in both journals, each once.
    for journal in [&proxys, &signers] {
        let kind = if journal == &proxys { "signed" } else { "emergency_signed" };
        let records = journal::read(journal, kind);
        for id in signed {
            let found =
                records.iter().filter(|record| record["record"]["data"]["request_id"] == **id);
            assert_eq!(found.count(), 1, "{chance:?}: {id} in {kind}");
        }
    }
    let with = ["--with", signers.to_str().unwrap()];
    let (code, said) = archived.reconcile(trail, world, &with);
    assert_eq!(code, 0, "{chance:?}: {said}");
    let (code, said) = trail.signctl("verify", &archived.postgres, &[]);
    assert_eq!(code, 0, "{chance:?}: {said}");
}

//! What the trail does when the database or the way to it fails: it says what is wrong, keeps no signature waiting,
//! and ships each record once.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use system_tests::postgres::Postgres;
use system_tests::trail::Trail;
use system_tests::{Chance, FaultProxy, NetworkFault, World, eventually, is_campaign};
use tokio::runtime::Builder;

use super::{KID, journal_of, newest, proxy_in, trail_of};
use crate::ALICE;

/// A database that is also reached over TCP, and a way to it that makes trouble.
async fn database() -> (Postgres, FaultProxy) {
    // Nobody else is given it at once.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (listen, port) = ("listen_addresses=127.0.0.1", format!("port={port}"));
    let postgres = Postgres::start_with(&[listen, &port]).await;
    let way = way_to(&postgres);
    (postgres, way)
}

/// A way to a database that is reached over TCP.
fn way_to(postgres: &Postgres) -> FaultProxy {
    let port = postgres.port().unwrap();
    FaultProxy::start(&format!("127.0.0.1:{port}"))
}

/// A trail of the proxy's journal whose database is reached over `way`, as `user`.
fn trail_over(world: &World, postgres: &Postgres, way: &FaultProxy, user: &str) -> Trail {
    let url = format!("postgres://{user}@{}/postgres?sslmode=disable", way.address);
    trail_of(world, postgres).url(postgres, &url, 1_000)
}

/// Nothing is missing, and nothing is there twice.
async fn is_whole(trail: &Trail, postgres: &Postgres, world: &World) {
    is_whole_in(trail, postgres, world, &[]).await;
}

/// The same of rows that are at `place`.
async fn is_whole_in(trail: &Trail, postgres: &Postgres, world: &World, place: &[&str]) {
    let journal = journal_of(world);
    trail.holds("signing-proxy", newest(&journal)).await;
    let of_journal = ["--journal", journal.to_str().unwrap()];
    let (code, said) = trail.signctl("reconcile", postgres, &[place, &of_journal].concat());
    assert_eq!(code, 0, "{said}");
    let (code, said) = trail.signctl("verify", postgres, place);
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn each_fault_of_the_way_to_the_database_is_named_and_no_signature_waits() {
    let world = World::new();
    let proxy = proxy_in(&world).await;
    let (postgres, way) = database().await;
    let mut trail = trail_over(&world, &postgres, &way, "postgres");
    trail.start();
    trail.holds("signing-proxy", 1).await;
    let alice = proxy.client(ALICE).await;
    for (trouble, named) in [
        (NetworkFault::Refuse, "connect"),
        (NetworkFault::BlackHole, "did not answer within 1000 ms"),
        (NetworkFault::Delay(Duration::from_millis(1_500)), "did not answer within 1000 ms"),
        (NetworkFault::Drip(Duration::from_millis(200)), "did not answer within 1000 ms"),
        (NetworkFault::Truncate(20), "c"),
        (NetworkFault::Reset(20), "c"),
    ] {
        way.set(trouble);
        eventually(&format!("{trouble:?} named"), || async {
            assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
            let of = trail.of("postgres", "signing-proxy").await;
            of["trouble"].as_str()?.contains(named).then_some(())
        })
        .await;
        way.set(NetworkFault::None);
        trail.holds("signing-proxy", newest(&journal_of(&world))).await;
        assert!(trail.of("postgres", "signing-proxy").await["trouble"].is_null());
    }
    proxy.stop().await;
    is_whole(&trail, &postgres, &world).await;
}

/// Freezes and unfreezes a proxy so often, with a trail and a schema of its own, while an answer of the database is lost
/// each time; how many transactions were committed by then.
async fn lose_answers(postgres: &Postgres, lane: usize, cases: usize) -> usize {
    let world = World::new();
    let proxy = proxy_in(&world).await;
    let way = way_to(postgres);
    let schema = format!("lane_{lane}");
    let mut trail = trail_over(&world, postgres, &way, "postgres")
        .postgres(&format!("schema = {schema:?}\nlock_key = {}\n", lane + 1));
    trail.start();
    trail.holds("signing-proxy", 1).await;
    let mut chance = Chance::of(&format!("answers of the database that are cut, {schema}"));
    let (mut lost, mut frozen) = (0, 0);
    let freezes = format!(
        "SELECT count(*) FROM {schema}.audit_events WHERE event_type = 'signing.proxy.freeze'"
    );
    for _ in 0..cases {
        // A row of its own, and so a transaction, in a session that is there already. It has a few answers, of which
        // COMMIT's is the last, and the connection is cut in place of one of them.
        let hits = way.hits();
        way.set(NetworkFault::Lose(chance.below(8)));
        assert_eq!(proxy.signctl(&["freeze", "--reason", "r"]).0, 0);
        eventually("an answer is lost", || async { (way.hits() > hits).then_some(()) }).await;
        way.set(NetworkFault::None);
        lost += usize::from(postgres.sql(&freezes).parse::<usize>().unwrap() > frozen);
        assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 0);
        trail.holds("signing-proxy", newest(&journal_of(&world))).await;
        frozen += 1;
        assert_eq!(postgres.sql(&freezes), frozen.to_string(), "{chance:?}");
    }
    proxy.stop().await;
    let table = format!("{schema}.audit_events");
    is_whole_in(&trail, postgres, &world, &["--schema", &schema, "--table", &table]).await;
    lost
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_ships_each_record_once() {
    let (postgres, _) = database().await;
    // Nearly all of the time is waiting: for an idle writer's checkpoint, and after a failure.
    let (lanes, cases) = if is_campaign() { (10, 30) } else { (2, 2) };
    let lost: usize = thread::scope(|scope| {
        let postgres = &postgres;
        let in_lane = |lane| {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            scope.spawn(move || runtime.block_on(lose_answers(postgres, lane, cases)))
        };
        let all: Vec<_> = (0..lanes).map(in_lane).collect();
        all.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    let cases = lanes * cases;
    println!("{lost} of {cases} transactions were committed by the time an answer was lost");
    assert!(lost > 0 || !is_campaign());
}

#[tokio::test]
async fn a_database_that_refuses_or_is_full_is_named_and_filled_later() {
    let world = World::new();
    let proxy = proxy_in(&world).await;
    let postgres = Postgres::start().await;
    let mut trail = trail_of(&world, &postgres);
    trail.start();
    trail.holds("signing-proxy", 1).await;
    let troubled = async |trail: &Trail, named: &str| {
        eventually(&format!("{named} named"), || async {
            assert_eq!(proxy.signctl(&["freeze", "--reason", "r"]).0, 0);
            assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 0);
            let of = trail.of("postgres", "signing-proxy").await;
            of["trouble"].as_str()?.contains(named).then_some(())
        })
        .await;
    };
    // As PostgreSQL says it with a full disk: could not extend file, disk_full.
    postgres.sql(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON signing_proxy.audit_events EXECUTE FUNCTION full_disk()",
    );
    troubled(&trail, "No space left on device").await;
    postgres.sql("DROP TRIGGER full_disk ON signing_proxy.audit_events");
    trail.holds("signing-proxy", newest(&journal_of(&world))).await;
    // A user that is unknown, and one that may not write.
    trail.kill().await;
    postgres.sql("CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA signing_proxy TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA signing_proxy TO reader");
    for (user, named) in
        [("nobody", "role \"nobody\" does not exist"), ("reader", "permission denied")]
    {
        let url = postgres.url().replace("postgres@", &format!("{user}@"));
        let mut refused = trail_of(&world, &postgres).url(&postgres, &url, 1_000);
        refused.start();
        troubled(&refused, named).await;
        refused.kill().await;
    }
    trail.start();
    proxy.stop().await;
    is_whole(&trail, &postgres, &world).await;
}

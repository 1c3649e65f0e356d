//! Whatever is changed in the rows is found: by `audit verify`, by `audit reconcile`, and by a verifier in
//! Python that was written from the documentation alone.

use std::fs;

use system_tests::journal::python;
use system_tests::postgres::Postgres;
use system_tests::trail::Trail;
use system_tests::{Chance, World, is_campaign};

use super::{KID, journal_of, newest, proxy_in, trail_of};
use crate::ALICE;

const TABLE: &str = "signing_proxy.audit_events";

/// What the Python verifier says of the rows.
fn independent(trail: &Trail, postgres: &Postgres) -> (bool, String) {
    let rows = postgres.sql(&format!(
        "SELECT row_to_json(r) FROM (SELECT * FROM {TABLE} ORDER BY created_at) AS r"
    ));
    let file = trail.registry().with_file_name("rows.jsonl");
    fs::write(&file, rows + "\n").unwrap();
    let output = python("tests/trail/verify.py").arg(&file).arg(trail.registry()).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), said)
}

/// Rows of a proxy that signed, with the trail still there and nothing more coming.
async fn shipped(world: &World, postgres: &Postgres) -> (Trail, std::path::PathBuf) {
    let proxy = proxy_in(world).await;
    let mut trail = trail_of(world, postgres);
    trail.start();
    let alice = proxy.client(ALICE).await;
    for round in 0..4 {
        for _ in 0..3 {
            assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
        }
        let journal = journal_of(world);
        let freeze = ["freeze", "--reason", &format!("a <reason> & {round} \u{2028}")];
        assert_eq!(proxy.signctl(&freeze).0, 0);
        assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 0);
        trail.holds("signing-proxy", newest(&journal)).await;
    }
    let journal = journal_of(world);
    proxy.stop().await;
    trail.holds("signing-proxy", newest(&journal)).await;
    (trail, journal)
}

#[tokio::test]
async fn rows_as_they_were_written_are_clean_for_every_verifier() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let (trail, journal) = shipped(&world, &postgres).await;
    let (code, said) = trail.signctl("verify", &postgres, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("no defect"), "{said}");
    let (code, said) = trail.signctl("verify", &postgres, &["--limit", "3", "--json"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("\"rows\":3") || said.contains("\"rows\": 3"), "{said}");
    let journal = ["--journal", journal.to_str().unwrap()];
    let (code, said) = trail.signctl("reconcile", &postgres, &journal);
    assert_eq!(code, 0, "{said}");
    let (is_clean, said) = independent(&trail, &postgres);
    assert!(is_clean, "{said}");
}

#[tokio::test]
async fn a_row_that_a_superuser_deletes_is_named() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let (mut trail, journal) = shipped(&world, &postgres).await;
    trail.kill().await;
    let third = format!("(SELECT id FROM {TABLE} ORDER BY created_at OFFSET 2 LIMIT 1)");
    let next =
        postgres.sql(&format!("SELECT id FROM {TABLE} ORDER BY created_at OFFSET 3 LIMIT 1"));
    postgres.sql(&format!("DELETE FROM {TABLE} WHERE id = {third}"));
    let (code, said) = trail.signctl("verify", &postgres, &[]);
    assert_eq!(code, 1);
    assert!(
        said.contains(&format!("row {next}: its prev_hash is not the hash of the row before it")),
        "{said}"
    );
    let (code, said) =
        trail.signctl("reconcile", &postgres, &["--journal", journal.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(said.contains("GAP: "), "{said}");
}

#[tokio::test]
async fn a_position_that_somebody_else_wrote_is_found() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let (mut trail, journal) = shipped(&world, &postgres).await;
    trail.kill().await;
    let journal = ["--journal", journal.to_str().unwrap(), "--wait", "0"];
    postgres.sql("CREATE TABLE kept AS SELECT * FROM signing_proxy.trail_positions");
    for (change, expected) in [
        ("root = encode(sha256('x'), 'base64')", "the position was changed"),
        ("shipped = shipped - 1", "the position was changed"),
        ("covered = covered - 1", "rows are missing at the end"),
    ] {
        postgres.sql(&format!("UPDATE signing_proxy.trail_positions SET {change}"));
        let (code, said) = trail.signctl("verify", &postgres, &[]);
        assert!(code == 1 && said.contains(expected), "{change}: {said}");
        postgres.sql(
            "TRUNCATE signing_proxy.trail_positions; INSERT INTO signing_proxy.trail_positions SELECT * FROM kept",
        );
    }
    // A position that is ahead is that of records that the rows do not show: the journal knows them.
    postgres.sql("UPDATE signing_proxy.trail_positions SET shipped = shipped + 1");
    let (code, said) = trail.signctl("reconcile", &postgres, &journal);
    assert_eq!(code, 1, "{said}");
}

#[tokio::test]
async fn a_position_counts_for_nothing_that_no_row_shows() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let (mut trail, journal) = shipped(&world, &postgres).await;
    let (last, journal) = (newest(&journal), journal.to_str().unwrap());
    // The newest checkpoint row may be a moment behind.
    let (code, said) = trail.signctl("reconcile", &postgres, &["--journal", journal]);
    assert_eq!(code, 0, "{said}");
    trail.kill().await;
    postgres.sql(&format!("CREATE TABLE kept AS SELECT * FROM {TABLE}"));
    let reconciled =
        || trail.signctl("reconcile", &postgres, &["--journal", journal, "--wait", "0"]);
    // The empty position, which holds no record against anything, and all is covered.
    postgres.sql(
        "UPDATE signing_proxy.trail_positions
         SET shipped = 0, root = encode(sha256(''), 'base64'), covered = 1000000000",
    );
    // All rows are there: that alone takes nothing from them, and every record is compared.
    let (code, said) = reconciled();
    assert_eq!(code, 0, "{said}");
    postgres.sql(&format!("DELETE FROM {TABLE} WHERE event_type <> 'signing.checkpoint'"));
    let (code, said) = reconciled();
    assert!(code == 1 && said.contains("has no row"), "{said}");
    postgres.sql(&format!("DELETE FROM {TABLE}"));
    let (code, said) = reconciled();
    assert_eq!(code, 1, "{said}");
    let gap = format!("GAP: records 1 to {last} of signing-proxy are not covered by a row");
    assert!(said.contains(&gap), "{said}");
    // The newest checkpoint row alone is gone: the journal goes on behind it.
    postgres.sql(&format!(
        "INSERT INTO {TABLE} SELECT * FROM kept WHERE event_type <> 'signing.checkpoint'
         OR (payload->>'last')::bigint < {last}"
    ));
    let (code, said) = reconciled();
    let gap = format!("to {last} of signing-proxy are not covered by a row");
    assert!(code == 1 && said.contains(&gap), "{said}");
}

#[tokio::test]
async fn every_random_change_of_the_rows_is_found() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let (mut trail, journal) = shipped(&world, &postgres).await;
    trail.kill().await;
    let journal = journal.to_str().unwrap();
    postgres.sql(&format!("CREATE TABLE kept AS SELECT * FROM {TABLE}; ALTER TABLE {TABLE} DROP CONSTRAINT audit_events_pkey, DROP CONSTRAINT audit_events_created_at_key"));
    let rows: usize = postgres.sql("SELECT count(*) FROM kept").parse().unwrap();
    let mut chance = Chance::of("changes of rows");
    let cases = if is_campaign() { 4_000 } else { 40 };
    for case in 0..cases {
        let any = chance.below(rows);
        let other = (any + 1 + chance.below(rows - 1)) % rows;
        let id = |n: usize| format!("(SELECT id FROM kept ORDER BY created_at OFFSET {n} LIMIT 1)");
        let change = match case % 4 {
            0 => {
                let columns = [
                    "id = gen_random_uuid()",
                    "actor_id = actor_id || 'x'",
                    "event_type = event_type || 'x'",
                    "payload = payload || '{\"leaf\":\"x\"}'",
                    "payload = payload || '{\"x\":1}'",
                    "prev_hash = md5(random()::text) || md5(random()::text)",
                    "hash = md5(random()::text) || md5(random()::text)",
                    "signature = 'AAAA' || substr(signature, 5)",
                    "signer_kid = 'test-audit'",
                    "signer_id = 'test-audit'",
                    "created_at = created_at + interval '1 microsecond'",
                    "ts = ts - interval '1 microsecond'",
                ];
                let at = chance.below(columns.len());
                format!("UPDATE {TABLE} SET {} WHERE id = {}", columns[at], id(any))
            }
            1 => format!("DELETE FROM {TABLE} WHERE id = {}", id(any)),
            2 => format!(
                "UPDATE {TABLE} t SET created_at = k.created_at, ts = k.ts FROM kept k
                 WHERE (t.id = {a} AND k.id = {b}) OR (t.id = {b} AND k.id = {a})",
                a = id(any),
                b = id(other)
            ),
            _ => format!(
                "DELETE FROM {TABLE} WHERE created_at >= (SELECT created_at FROM kept WHERE id = {})",
                id(any)
            ),
        };
        postgres.sql(&change);
        let (verified, said) = trail.signctl("verify", &postgres, &[]);
        let (is_clean, by_python) = independent(&trail, &postgres);
        // Only the positions and the journal know of an end that is gone. Nobody ships: no wait.
        let arguments = ["--journal", journal, "--wait", "0"];
        let (reconciled, gaps) = trail.signctl("reconcile", &postgres, &arguments);
        assert!(verified == 1 || reconciled == 1, "{chance:?}: {change}: {said}{gaps}");
        if case % 4 != 3 && any + 1 < rows && other + 1 < rows {
            assert_eq!(verified, 1, "{chance:?}: {change}: {said}");
            assert!(!is_clean, "{chance:?}: {change}: {by_python}");
        }
        postgres.sql(&format!("TRUNCATE {TABLE}; INSERT INTO {TABLE} SELECT * FROM kept"));
    }
}

//! What rows prove: as they were written they are clean for `audit verify`, for `audit reconcile`, and for a verifier
//! in Python that was written from the documentation alone. What is missing, and a position that somebody else
//! wrote, is found.

use system_tests::World;
use system_tests::postgres::Postgres;
use system_tests::trail::Trail;

use super::changes::independent;
use super::{KID, journal_of, newest, proxy_in, trail_of};
use crate::ALICE;

pub(super) const TABLE: &str = "signing_proxy.audit_events";

/// Rows of a proxy that signed, with the trail still there and nothing more coming.
pub(super) async fn shipped(world: &World, postgres: &Postgres) -> (Trail, std::path::PathBuf) {
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
    let rows = postgres.sql(&format!(
        "SELECT row_to_json(r) FROM (SELECT * FROM {TABLE} ORDER BY created_at) AS r"
    ));
    let said = independent(&trail, &[rows]);
    assert!(said.iter().all(|said| said.ends_with(" rows")), "{said:?}");
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

//! Tables that others made and write to: each shape of the field, and those that cannot hold the chain.

use system_tests::World;
use system_tests::postgres::Postgres;

use super::{KID, journal_of, newest, proxy_in, trail_of};
use crate::ALICE;

/// The writer that is there before, and links as the field's do.
const FOREIGN: &str = "encode(sha256('{}'::bytea), 'hex')";

/// Ships into a table and returns what `audit verify` says of it.
async fn ship_into(made: &str, check: &str) {
    let world = World::new();
    let postgres = Postgres::start().await;
    postgres.sql(made);
    let proxy = proxy_in(&world).await;
    let mut trail = trail_of(&world, &postgres).postgres("table = \"public.audit_events\"\n");
    trail.start();
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
    let journal = journal_of(&world);
    proxy.stop().await;
    trail.holds("signing-proxy", newest(&journal)).await;
    assert_eq!(postgres.sql(check), "t", "{check}\n{}", postgres.sql("SELECT * FROM audit_events"));
    let table = ["--table", "public.audit_events"];
    let (code, said) = trail.signctl("verify", &postgres, &table);
    assert_eq!(code, 0, "{said}");
    let journal = journal.to_str().unwrap();
    let arguments = ["--table", "public.audit_events", "--journal", journal];
    let (code, said) = trail.signctl("reconcile", &postgres, &arguments);
    assert_eq!(code, 0, "{said}");
    // The trail starts again behind its own rows.
    trail.kill().await;
    trail.start();
    trail.holds("signing-proxy", 1).await;
    let (code, said) = trail.signctl("verify", &postgres, &table);
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn a_table_without_a_hash_is_linked_by_what_its_rows_say() {
    ship_into(
        &format!(
            "CREATE TABLE audit_events (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), actor_id text,
               event_type text NOT NULL, payload jsonb NOT NULL, signature text, signer_kid text,
               prev_hash text, created_at timestamptz NOT NULL DEFAULT now());
             INSERT INTO audit_events (event_type, payload, signer_kid) VALUES ('other', '{{}}', 'stranger');
             INSERT INTO audit_events (event_type, payload, signer_kid, prev_hash, created_at)
               VALUES ('other', '{{\"n\": 0.50}}', 'stranger', {FOREIGN}, now() + interval '1 second')"
        ),
        "SELECT count(*) > 3 AND bool_and(prev_hash IS NOT NULL) FROM audit_events WHERE event_type <> 'other'",
    )
    .await;
}

#[tokio::test]
async fn a_table_with_numbers_as_ids_keeps_its_own() {
    ship_into(
        "CREATE TABLE audit_events (id bigserial PRIMARY KEY, actor_id text, event_type text NOT NULL,
           payload jsonb NOT NULL, prev_hash text, hash text NOT NULL, signature text NOT NULL,
           signer_kid text NOT NULL, created_at timestamptz NOT NULL, tenant text)",
        "SELECT count(*) > 2 AND bool_and(n = id) AND count(*) FILTER (WHERE prev_hash IS NULL) = 1
         FROM (SELECT *, row_number() OVER (ORDER BY created_at) AS n FROM audit_events) AS r",
    )
    .await;
}

#[tokio::test]
async fn a_table_with_older_rows_without_hashes_and_a_streamer_is_left_to_its_defaults() {
    ship_into(
        "CREATE TABLE audit_events (id text PRIMARY KEY, event_type text NOT NULL, payload jsonb NOT NULL,
           prev_hash text, hash text, signature text, signer_id text, ts timestamptz NOT NULL,
           stream_status text NOT NULL DEFAULT 'pending', s3_object_key text, s3_archived_at timestamptz);
         INSERT INTO audit_events (id, event_type, payload, prev_hash, ts)
           VALUES ('old-1', 'other', '{\"b\": 1, \"a\": \"x<\"}', '', now() - interval '1 hour')",
        "SELECT count(*) > 3 AND bool_and(stream_status = 'pending' AND prev_hash IS NOT NULL)
           AND count(*) FILTER (WHERE prev_hash = '') = 1 FROM audit_events",
    )
    .await;
}

#[tokio::test]
async fn the_first_row_of_a_streamers_table_has_an_empty_hash_before_it() {
    ship_into(
        "CREATE TABLE audit_events (id text PRIMARY KEY, event_type text, payload jsonb, prev_hash text,
           hash text, signature text, signer_id text, created_at timestamptz, ts timestamptz,
           stream_status text DEFAULT 'pending')",
        "SELECT prev_hash = '' AND created_at = ts FROM audit_events ORDER BY created_at LIMIT 1",
    )
    .await;
}

#[tokio::test]
async fn a_table_without_a_time_or_a_signer_is_refused_and_the_error_says_so() {
    let world = World::new();
    let _proxy = proxy_in(&world).await;
    let postgres = Postgres::start().await;
    let rest = "id uuid, event_type text, payload jsonb, prev_hash text, signature text";
    for (more, expected) in [
        ("signer_kid text", "it has no column created_at"),
        ("created_at timestamptz", "it has no column for the signer"),
    ] {
        postgres.sql(&format!(
            "DROP TABLE IF EXISTS audit_events; CREATE TABLE audit_events ({rest}, {more})"
        ));
        let mut trail = trail_of(&world, &postgres).postgres("table = \"public.audit_events\"\n");
        trail.start();
        assert_eq!(trail.process().ended().await.code(), Some(1));
        let said = trail.process().output();
        assert!(
            said.contains("public.audit_events cannot be used") && said.contains(expected),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_table_that_a_crash_of_the_database_empties_is_refused_and_noted() {
    let world = World::new();
    let _proxy = proxy_in(&world).await;
    let postgres = Postgres::start().await;
    let mut trail = trail_of(&world, &postgres);
    trail.start();
    trail.holds("signing-proxy", 1).await;
    trail.kill().await;
    for table in ["audit_events", "trail_positions"] {
        postgres.sql(&format!("ALTER TABLE signing_proxy.{table} SET UNLOGGED"));
        let (code, said) = trail.signctl("verify", &postgres, &[]);
        let note = format!("NOTE: signing_proxy.{table} is UNLOGGED");
        assert!(code == 0 && said.contains(&note), "{said}");
        trail.start();
        assert_eq!(trail.process().ended().await.code(), Some(1));
        let said = trail.process().output();
        assert!(said.contains(&format!("ALTER TABLE signing_proxy.{table} SET LOGGED")), "{said}");
        postgres.sql(&format!("ALTER TABLE signing_proxy.{table} SET LOGGED"));
    }
}

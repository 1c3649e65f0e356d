//! Whatever is changed in the rows is found: by `audit verify`, by `audit reconcile`, and by a verifier in
//! Python that was written from the documentation alone.

use std::fs;
use std::path::Path;
use std::thread;

use system_tests::journal::python;
use system_tests::postgres::Postgres;
use system_tests::trail::Trail;
use system_tests::{Chance, World, is_campaign};

use super::proves::{TABLE, shipped};

/// Copies of the table that are changed and looked at beside each other.
const LANES: usize = 4;
/// Tables that the verifier in Python reads in one run.
const AT_ONCE: usize = 50;

/// Changes of one row, each of which makes it another one.
const COLUMNS: [&str; 23] = [
    "id = gen_random_uuid()",
    "id = NULL",
    "actor_id = actor_id || 'x'",
    "actor_id = NULL",
    "event_type = event_type || 'x'",
    "event_type = NULL",
    "payload = payload || '{\"leaf\":\"x\"}'",
    "payload = payload || '{\"x\":1}'",
    "payload = NULL",
    "prev_hash = md5(random()::text) || md5(random()::text)",
    "prev_hash = CASE WHEN prev_hash IS NULL THEN repeat('0', 64) END",
    "hash = md5(random()::text) || md5(random()::text)",
    "hash = NULL",
    "signature = 'AAAA' || substr(signature, 5)",
    "signature = NULL",
    "signer_kid = 'test-audit'",
    "signer_kid = NULL",
    "signer_id = 'test-audit'",
    "signer_kid = 'test-audit', signer_id = 'test-audit'",
    "created_at = created_at + interval '1 microsecond'",
    "created_at = NULL",
    "ts = ts - interval '1 microsecond'",
    "ts = NULL",
];

/// What the verifier in Python says of tables, each one's rows as JSON.
pub(super) fn independent(trail: &Trail, tables: &[String]) -> Vec<String> {
    let scratch = system_tests::Scratch::new();
    let mut command = python("tests/trail/verify.py");
    for (number, rows) in tables.iter().enumerate() {
        let file = scratch.path(&format!("{number}.jsonl"));
        fs::write(&file, format!("{rows}\n")).unwrap();
        command.arg(file);
    }
    let output = command.arg(trail.registry()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<_> = said.lines().map(str::to_owned).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.len(), tables.len(), "{said:?} {errors}");
    assert_eq!(output.status.success(), !said.iter().any(|said| said.starts_with("DEFECT: ")));
    said
}

/// A change of the rows.
#[derive(Clone, Debug)]
struct Change {
    /// Of the table `audit_events`, with `kept` as it was before.
    sql: String,
    /// Only the positions and the journal know of an end that is gone.
    is_end_gone: bool,
}

impl Change {
    /// The `number`th: of a column, a row deleted, two rows swapped, a tail cut, in turn.
    fn random(number: usize, rows: usize, chance: &mut Chance) -> Self {
        let any = chance.below(rows);
        let other = (any + 1 + chance.below(rows - 1)) % rows;
        let column = COLUMNS[chance.below(COLUMNS.len())];
        let (any_id, other_id) = (id(any), id(other));
        let sql = match number % 4 {
            0 => format!("UPDATE audit_events SET {column} WHERE id = {any_id}"),
            1 => format!("DELETE FROM audit_events WHERE id = {any_id}"),
            2 => format!(
                "UPDATE audit_events t SET created_at = k.created_at, ts = k.ts FROM kept k
                 WHERE (t.id = {any_id} AND k.id = {other_id}) OR (t.id = {other_id} AND k.id = {any_id})"
            ),
            _ => format!(
                "DELETE FROM audit_events WHERE created_at >= (SELECT created_at FROM kept WHERE id = {any_id})"
            ),
        };
        let is_end_gone = number % 4 == 3 || (number % 4 == 1 && any + 1 == rows);
        Self { sql, is_end_gone }
    }
}

/// The id of a row that was there, by its place.
fn id(place: usize) -> String {
    format!("(SELECT id FROM kept ORDER BY created_at OFFSET {place} LIMIT 1)")
}

/// A schema with a copy of the rows and of the positions.
struct Lane<'l> {
    trail: &'l Trail,
    postgres: &'l Postgres,
    journal: &'l Path,
    schema: String,
}

impl<'l> Lane<'l> {
    fn new(number: usize, (trail, postgres, journal): (&'l Trail, &'l Postgres, &'l Path)) -> Self {
        let schema = format!("lane_{number}");
        postgres.sql(&format!(
            "CREATE SCHEMA {schema};
             CREATE TABLE {schema}.audit_events AS TABLE kept;
             CREATE TABLE {schema}.trail_positions AS TABLE signing_proxy.trail_positions;
             UPDATE {schema}.trail_positions SET audit_table = '{schema}.audit_events'"
        ));
        Self { trail, postgres, journal, schema }
    }

    /// Changes the copy, which is as `kept` before, and returns its rows.
    fn changed(&self, change: &str) -> String {
        self.postgres.sql(&format!(
            "SET search_path = {}, public;
             TRUNCATE audit_events; INSERT INTO audit_events SELECT * FROM kept; {change};
             SELECT row_to_json(r) FROM (SELECT * FROM audit_events ORDER BY created_at) AS r",
            self.schema
        ))
    }

    fn signctl(&self, verb: &str, more: &[&str]) -> (i32, String) {
        let table = format!("{}.audit_events", self.schema);
        let place = ["--schema", &self.schema, "--table", &table];
        self.trail.signctl(verb, self.postgres, &[&place, more].concat())
    }

    fn verified(&self) -> (i32, String) {
        self.signctl("verify", &[])
    }

    /// Nobody ships: no wait.
    fn reconciled(&self) -> (i32, String) {
        self.signctl("reconcile", &["--journal", self.journal.to_str().unwrap(), "--wait", "0"])
    }

    /// Makes each change by itself and asserts that all find it.
    fn finds(&self, changes: &[Change], chance: &Chance) {
        for some in changes.chunks(AT_ONCE) {
            let mut tables = Vec::new();
            for Change { sql, .. } in some {
                tables.push(self.changed(sql));
                for (code, said) in [self.verified(), self.reconciled()] {
                    assert_eq!(code, 1, "{chance:?}: {sql}: {said}");
                }
            }
            for (Change { sql, is_end_gone }, said) in
                some.iter().zip(independent(self.trail, &tables))
            {
                let is_found = said.starts_with("DEFECT: ");
                assert!(is_found || *is_end_gone, "{chance:?}: {sql}: {said}");
            }
            println!("{}: {} changes found", self.schema, some.len());
        }
    }
}

/// Rows that nobody ships to any more, all covered, and how many; `kept` has a copy of them.
async fn kept(world: &World, postgres: &Postgres) -> (Trail, std::path::PathBuf, usize) {
    let (mut trail, journal) = shipped(world, postgres).await;
    // The newest checkpoint row may be a moment behind.
    let arguments = ["--journal", journal.to_str().unwrap(), "--wait", "60"];
    let (code, said) = trail.signctl("reconcile", postgres, &arguments);
    assert_eq!(code, 0, "{said}");
    trail.kill().await;
    // From here on nothing needs to survive a crash; the trail itself refuses such a database.
    postgres.sql("ALTER SYSTEM SET fsync = off");
    postgres.sql("SELECT pg_reload_conf()");
    postgres.sql(&format!("CREATE TABLE kept AS TABLE {TABLE}"));
    let rows = postgres.sql("SELECT count(*) FROM kept").parse().unwrap();
    (trail, journal, rows)
}

#[tokio::test]
async fn every_column_that_is_changed_or_empty_is_named() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let (trail, journal, _) = kept(&world, &postgres).await;
    let lane = Lane::new(0, (&trail, &postgres, &journal));
    lane.changed("SELECT 1 WHERE false");
    for (code, said) in [lane.verified(), lane.reconciled()] {
        assert_eq!(code, 0, "{said}");
    }
    // Of a record: its payload says which.
    let freeze = "(SELECT id FROM kept WHERE event_type = 'signing.proxy.freeze' ORDER BY created_at OFFSET 1 LIMIT 1)";
    let mut tables = Vec::new();
    for column in COLUMNS {
        let change = format!("UPDATE audit_events SET {column} WHERE id = {freeze}");
        tables.push(lane.changed(&change));
        let (code, said) = lane.verified();
        assert!(code == 1 && said.contains("DEFECT: row "), "{column}: {said}");
        let (code, said) = lane.reconciled();
        let named = match column {
            "payload = NULL" => "has no row",
            column if column.starts_with("payload") => "has a row that says other than the journal",
            _ => "has a row that is not as the trail wrote it: its ",
        };
        assert!(
            code == 1 && said.contains("GAP: record ") && said.contains(named),
            "{column}: {said}"
        );
    }
    for (column, said) in COLUMNS.iter().zip(independent(&trail, &tables)) {
        assert!(said.starts_with("DEFECT: "), "{column}: {said}");
    }
}

#[tokio::test]
async fn every_random_change_of_the_rows_is_found() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let (trail, journal, rows) = kept(&world, &postgres).await;
    let mut chance = Chance::of("changes of rows");
    let cases = if is_campaign() { 4_000 } else { 40 };
    let changes: Vec<_> =
        (0..cases).map(|number| Change::random(number, rows, &mut chance)).collect();
    thread::scope(|scope| {
        for (number, changes) in changes.chunks(cases / LANES).enumerate() {
            let lane = Lane::new(number, (&trail, &postgres, &journal));
            let chance = &chance;
            scope.spawn(move || lane.finds(changes, chance));
        }
    });
    println!("{cases} changes of {rows} rows, a quarter of each kind: all found");
}

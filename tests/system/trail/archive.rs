//! The archive: real objects in a bucket of `ministack`, the stricter of the emulators, which holds S3 Object Lock.

use std::fs;
use std::process::Command;

use serde_json::Value;
use system_tests::bucket::Bucket;
use system_tests::journal::segments;
use system_tests::postgres::Postgres;
use system_tests::programs::ours;
use system_tests::trail::{CREDENTIALS, Trail};
use system_tests::{Ministack, Moto, World, eventually};

use super::{KID, journal_of, newest, proxy_in, trail_of, trail_of_both};
use crate::ALICE;
use crate::breakglass::{Site, activated, end};

/// A world with a proxy, and a trail with an archive.
pub(super) struct Archived {
    pub(super) ministack: Ministack,
    pub(super) bucket: Bucket,
    pub(super) postgres: Postgres,
}

impl Archived {
    pub(super) async fn new() -> Self {
        let ministack = Ministack::start().await;
        let bucket = Bucket::make(&ministack.address, "audit-archive", true).await;
        Self { ministack, bucket, postgres: Postgres::start().await }
    }

    pub(super) fn trail(&self, world: &World, lines: &str) -> Trail {
        let lines = format!("prefix = \"prod\"\n{lines}");
        trail_of(world, &self.postgres).archive(&self.ministack.endpoint, &self.bucket, &lines)
    }

    /// `signctl audit VERB --archive`, of the bucket.
    pub(super) fn signctl(&self, trail: &Trail, verb: &str, more: &[&str]) -> (i32, String) {
        let place = format!("s3://{}/prod", self.bucket.name);
        let at = ["--archive", &place, "--archive-region", "eu-test-1", "--archive-endpoint"];
        signctl(trail, verb, &[&at[..], &[&*self.ministack.endpoint], more].concat())
    }

    /// `signctl audit reconcile` with rows and bucket.
    pub(super) fn reconcile(&self, trail: &Trail, world: &World, more: &[&str]) -> (i32, String) {
        let (url, journal) = (self.postgres.url(), journal_of(world));
        let rows = ["--database-url", &url, "--journal", journal.to_str().unwrap()];
        self.signctl(trail, "reconcile", &[&rows[..], more].concat())
    }
}

/// `signctl audit VERB`, with the trail's registry.
pub(super) fn signctl(trail: &Trail, verb: &str, more: &[&str]) -> (i32, String) {
    let mut command = Command::new(ours("signctl"));
    command.args(["audit", verb, "--signers"]).arg(trail.registry()).args(more).envs(CREDENTIALS);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn every_record_is_in_one_object_locked_with_its_checkpoint_and_as_audit_export_writes_it() {
    let world = World::new();
    let proxy = proxy_in(&world).await;
    let archived = Archived::new().await;
    let mut trail = archived.trail(&world, "retention_days = 400\n");
    trail.start();
    let alice = proxy.client(ALICE).await;
    for _ in 0..3 {
        for _ in 0..20 {
            assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
        }
        trail.archives("signing-proxy", newest(&journal_of(&world))).await;
    }
    let journal = journal_of(&world);
    proxy.stop().await;
    let last = newest(&journal);
    trail.archives("signing-proxy", last).await;

    let keys = archived.bucket.keys().await;
    let parts: Vec<_> = keys.iter().filter(|key| key.ends_with(".jsonl")).collect();
    assert!(parts.len() >= 3 && keys.len() == 2 * parts.len(), "{keys:?}");
    for key in &keys {
        // prod/audit/2026/11/26/<log>-<first>-<last>.jsonl
        let parts: Vec<_> = key.split('/').collect();
        assert_eq!(parts[..2], ["prod", "audit"], "{key}");
        assert_eq!(parts[2..5].iter().map(|part| part.len()).collect::<Vec<_>>(), [4, 2, 2]);
        let answer = archived.bucket.get(key).await;
        assert_eq!(answer.header("x-amz-object-lock-mode"), "COMPLIANCE");
        let until = answer.header("x-amz-object-lock-retain-until-date");
        let days =
            time::OffsetDateTime::parse(until, &time::format_description::well_known::Rfc3339);
        let days = (days.unwrap() - host::clock::wall_now()).whole_days();
        assert!((399..=400).contains(&days), "{until}");
        assert!(!answer.header("x-amz-checksum-sha256").is_empty());
    }
    // All lines together are the export, and its last line is the newest checkpoint.
    let mut by_first: Vec<_> = parts
        .iter()
        .map(|key| (key.split('-').rev().nth(1).unwrap().parse::<u64>().unwrap(), (*key).clone()))
        .collect();
    by_first.sort();
    let mut lines = String::new();
    for (_, key) in &by_first {
        lines += &archived.bucket.get(key).await.text;
    }
    let export = Command::new(ours("signctl"))
        .args(["audit", "export", "--journal", journal.to_str().unwrap()])
        .output()
        .unwrap();
    let export = String::from_utf8(export.stdout).unwrap();
    let (records, checkpoint) = export.trim_end().rsplit_once('\n').unwrap();
    assert!(lines.trim_end() == records, "lines of the archive and of the export differ");
    let newest = by_first.last().unwrap().1.replace(".jsonl", ".checkpoint");
    let note = archived.bucket.get(&newest).await.text;
    let said: Value = serde_json::from_str(checkpoint).unwrap();
    assert_eq!(said["checkpoint"], note);

    // Verified in the bucket, in files from there, and as one exported file; held against journal and rows.
    let (code, said) = archived.signctl(&trail, "verify", &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("no defect: {last} records")), "{said}");
    let files = world.scratch.path("downloaded");
    archived.bucket.download(&files).await;
    let (code, said) = signctl(&trail, "verify", &["--archive", files.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    let exported = world.scratch.write("export.jsonl", &export);
    let (code, said) = signctl(&trail, "verify", &["--archive", exported.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = archived.reconcile(&trail, &world, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains(&format!("{last} records of the archive are as the journals say")),
        "{said}"
    );

    // Of several members one is damaged: that is its gap, and the other is looked at to the end.
    let members = world.scratch.path("members");
    for member in ["damaged", "whole"] {
        fs::create_dir_all(members.join(member)).unwrap();
        let copied = Command::new("cp").arg("-r").arg(&journal).arg(members.join(member)).status();
        assert!(copied.unwrap().success());
    }
    for segment in segments(&members.join("damaged/journal")) {
        fs::write(segment, "no journal").unwrap();
    }
    let url = archived.postgres.url();
    let (code, said) = signctl(
        &trail,
        "reconcile",
        &[
            &["--database-url", &*url, "--members", members.to_str().unwrap()][..],
            &["--archive", files.to_str().unwrap()],
        ]
        .concat(),
    );
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("GAP of damaged") && !said.contains("GAP of whole"), "{said}");
    assert!(
        said.contains(&format!("{last} records of the archive are as the journals say")),
        "{said}"
    );
}

#[tokio::test]
async fn a_bucket_without_object_lock_is_refused_and_the_rows_go_on() {
    let world = World::new();
    let _proxy = proxy_in(&world).await;
    let mut archived = Archived::new().await;
    archived.bucket = Bucket::make(&archived.ministack.address, "unlocked", false).await;
    let mut trail = archived.trail(&world, "");
    trail.start();
    trail.process().says("unlocked has no S3 Object Lock").await;
    trail.holds("signing-proxy", 1).await;
    assert!(archived.bucket.keys().await.is_empty());
    let (output, status) = trail.status().await;
    assert_eq!(output.status.code(), Some(1));
    assert!(status["journals"][1]["trouble"].as_str().unwrap().contains("Object Lock"), "{status}");
}

#[tokio::test]
async fn a_row_of_the_emergency_signer_is_an_object_of_its_own_where_that_is_configured() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    let archived = Archived::new().await;
    let lines = "prefix = \"prod\"\nper_event = true\n";
    let mut trail = trail_of_both(&site.world, &signer, &archived.postgres).archive(
        &archived.ministack.endpoint,
        &archived.bucket,
        lines,
    );
    trail.start();
    site.out(&proxy).await;
    activated(&signer, &proxy, &signer.request()).await;
    for _ in 0..5 {
        let answer = proxy.client(ALICE).await.sign_message(KID, b"hi").await;
        assert_eq!(answer.body["mode"], "breakglass", "{}", answer.text);
    }
    // A run that is killed in between begins where it was.
    trail.kill().await;
    trail.start();
    assert_eq!(end(&proxy).await.status, 200);
    proxy.stop().await;
    let (of_proxy, of_signer) =
        (newest(&journal_of(&site.world)), newest(&signer.builder.journal()));
    trail.archives("signing-proxy", of_proxy).await;
    trail.archives("breakglass-signer", of_signer).await;
    let rows = "SELECT count(*) FROM signing_proxy.audit_events
         WHERE actor_id = 'service:signing-breakglass' AND event_type <> 'signing.checkpoint'";
    let objects = async || {
        let keys = archived.bucket.keys().await;
        keys.into_iter().filter(|key| key.ends_with(".json")).collect::<Vec<_>>()
    };
    trail.holds("breakglass-signer", of_signer).await;
    eventually("an object of each row", || async {
        let rows: usize = archived.postgres.sql(rows).parse().unwrap();
        (rows >= 8 && objects().await.len() == rows).then_some(())
    })
    .await;
    // As readers in the field expect it, and as the row says.
    let key = &objects().await[0];
    let object: Value = serde_json::from_str(&archived.bucket.get(key).await.text).unwrap();
    let id = object["id"].as_str().unwrap();
    assert!(key.ends_with(&format!("/{id}.json")), "{key}");
    let row = archived.postgres.sql(&format!(
        "SELECT event_type, prev_hash, hash, signature, signer_id, payload->>'created_at'
         FROM signing_proxy.audit_events WHERE id = '{id}'"
    ));
    let told = ["eventType", "prevHash", "hash", "signature", "signerId", "ts"];
    assert_eq!(row, told.map(|name| object[name].as_str().unwrap_or_default()).join("|"));
    let signers = signer.builder.journal();
    let more = ["--with", signers.to_str().unwrap(), "--per-event"];
    let (code, said) = archived.reconcile(&trail, &site.world, &more);
    assert_eq!(code, 0, "{said}");

    // One that is hidden is found.
    archived.bucket.delete(key).await;
    let (code, said) = archived.reconcile(&trail, &site.world, &more);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("somebody deleted it"), "{said}");
}

#[tokio::test]
async fn another_emulator_holds_the_same_archive() {
    let world = World::new();
    let proxy = proxy_in(&world).await;
    let moto = Moto::start().await;
    let bucket = Bucket::make(&moto.address, "audit-archive", true).await;
    let (postgres, endpoint) = (Postgres::start().await, format!("http://{}", moto.address));
    let mut trail = trail_of(&world, &postgres).archive(&endpoint, &bucket, "prefix = \"prod\"\n");
    trail.start();
    let alice = proxy.client(ALICE).await;
    for _ in 0..2 {
        assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
        trail.archives("signing-proxy", newest(&journal_of(&world))).await;
        trail.kill().await;
        trail.start();
    }
    proxy.stop().await;
    trail.archives("signing-proxy", newest(&journal_of(&world))).await;
    let journal = journal_of(&world);
    let more = [
        "--archive",
        "s3://audit-archive/prod",
        "--archive-region",
        "eu-test-1",
        "--archive-endpoint",
        &endpoint,
        "--journal",
        journal.to_str().unwrap(),
        "--database-url",
        &postgres.url(),
    ];
    let (code, said) = signctl(&trail, "reconcile", &more);
    assert_eq!(code, 0, "{said}");
}

//! What the archive does when the bucket, the way to it or the trail itself fails, and what is found when somebody
//! changes what it holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use system_tests::bucket::Bucket;
use system_tests::{Chance, FaultProxy, NetworkFault, World, eventually, is_campaign, journal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::archive::{Archived, signctl};
use super::{KID, journal_of, newest, proxy_in, trail_of};
use crate::ALICE;

#[tokio::test]
async fn killed_at_random_on_a_bad_way_to_the_bucket_there_is_no_gap_and_no_duplicate() {
    let world = World::new();
    let proxy = proxy_in(&world).await;
    let archived = Archived::new().await;
    let way = FaultProxy::start(&archived.ministack.address);
    let lines = "prefix = \"prod\"\ntimeout_ms = 2000\nobject_records = 16\n";
    let endpoint = format!("http://{}", way.address);
    let mut trail =
        super::trail_of(&world, &archived.postgres).archive(&endpoint, &archived.bucket, lines);
    trail.start();
    let alice = proxy.client(ALICE).await;
    let mut chance = Chance::of("kills of the trail while it archives");
    let rounds = if is_campaign() { 100 } else { 10 };
    for _ in 0..rounds {
        for _ in 0..(1 + chance.below(20)) {
            assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
        }
        let trouble = [
            NetworkFault::None,
            NetworkFault::Reset(chance.below(400)),
            NetworkFault::Truncate(chance.below(400)),
            NetworkFault::Delay(Duration::from_millis(300)),
            NetworkFault::BlackHole,
            NetworkFault::Refuse,
        ];
        way.set(trouble[chance.below(trouble.len())]);
        // A pause: the moment of the kill is by chance, and nothing is waited for.
        tokio::time::sleep(Duration::from_millis(chance.below(1_500) as u64)).await;
        if chance.below(3) > 0 {
            trail.kill().await;
            trail.start();
        }
    }
    way.set(NetworkFault::None);
    let journal = journal_of(&world);
    proxy.stop().await;
    trail.archives("signing-proxy", newest(&journal)).await;
    let (code, said) = archived.reconcile(&trail, &world, &[]);
    assert_eq!(code, 0, "{chance:?}: {said}");
    // No version beside the first of any object.
    let keys = archived.bucket.keys().await;
    assert_eq!(archived.bucket.versions().await, keys.len(), "{chance:?}: {keys:?}");
}

#[tokio::test]
async fn each_fault_of_the_bucket_is_named_and_neither_the_rows_nor_a_signature_wait() {
    let world = World::new();
    let proxy = proxy_in(&world).await;
    let archived = Archived::new().await;
    let way = FaultProxy::start(&archived.ministack.address);
    let endpoint = format!("http://{}", way.address);
    let lines = "prefix = \"prod\"\ntimeout_ms = 1000\n";
    let mut trail =
        trail_of(&world, &archived.postgres).archive(&endpoint, &archived.bucket, lines);
    trail.start();
    trail.archives("signing-proxy", 1).await;
    let alice = proxy.client(ALICE).await;
    for (trouble, named) in [
        (NetworkFault::Refuse, "the bucket's endpoint cannot be reached"),
        (NetworkFault::BlackHole, "no answer within 1000 ms"),
        (NetworkFault::Delay(Duration::from_millis(1_500)), "no answer within 1000 ms"),
        (NetworkFault::Drip(Duration::from_millis(200)), "no answer within 1000 ms"),
        (NetworkFault::Truncate(20), "the bucket's endpoint cannot be reached"),
        (NetworkFault::Reset(20), "the bucket's endpoint cannot be reached"),
    ] {
        way.set(trouble);
        eventually(&format!("{trouble:?} named"), || async {
            assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
            let of = trail.of("archive", "signing-proxy").await;
            of["trouble"].as_str()?.contains(named).then_some(())
        })
        .await;
        trail.holds("signing-proxy", newest(&journal_of(&world)) - 1).await;
        way.set(NetworkFault::None);
        let last = newest(&journal_of(&world));
        trail.archives("signing-proxy", last).await;
    }
    let (code, said) = archived.reconcile(&trail, &world, &["--wait", "20"]);
    assert_eq!(code, 0, "{said}");
}

/// Answers every request in the same way.
async fn answering(status: &str, code: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; 8192];
            let _ = stream.read(&mut asked).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn a_refusal_of_the_bucket_is_named_by_its_code_and_no_secret_is_in_any_line() {
    let world = World::new();
    let _proxy = proxy_in(&world).await;
    let archived = Archived::new().await;
    for (status, code, named) in [
        ("403 Forbidden", "InvalidAccessKeyId", "refuses the credentials (InvalidAccessKeyId)"),
        (
            "403 Forbidden",
            "SignatureDoesNotMatch",
            "refuses the credentials (SignatureDoesNotMatch)",
        ),
        ("400 Bad Request", "ExpiredToken", "refuses the credentials (ExpiredToken)"),
        ("301 Moved Permanently", "PermanentRedirect", "is in another region (PermanentRedirect)"),
        ("503 Slow Down", "SlowDown", "is throttling (SlowDown)"),
        ("404 Not Found", "NoSuchBucket", "audit-archive does not exist"),
        ("500 Internal", "InternalError", "answers 500 InternalError"),
        ("507 Insufficient Storage", "StorageFull", "answers 507 StorageFull"),
    ] {
        let address = answering(status, code).await;
        let mut trail = trail_of(&world, &archived.postgres).archive(
            &format!("http://{address}"),
            &archived.bucket,
            "",
        );
        let mut command = trail.verb("serve");
        command.env("AWS_SECRET_ACCESS_KEY", "hunter2-and-more");
        trail.start_as(command);
        trail.process().says(named).await;
        trail.holds("signing-proxy", 1).await;
        assert!(!trail.process().output().contains("hunter2"), "{}", trail.process().output());
        trail.kill().await;
    }
    // And where there is nothing to sign a request with.
    let mut trail = archived.trail(&world, "");
    let mut command = trail.verb("serve");
    let home = world.scratch.path("nobody");
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("HOME", home);
    trail.start_as(command);
    trail.process().says("no AWS credentials can be had").await;
    trail.holds("signing-proxy", 1).await;
}

#[tokio::test]
async fn a_segment_that_was_removed_before_it_was_archived_is_a_gap_that_is_remembered() {
    let world = World::new();
    let key = world.kms.key(system_tests::Kind::P256);
    let builder = world.proxy().signer(KID, &key).caller(ALICE, &[KID]);
    let proxy = builder.segment_bytes(1 << 20).start().await;
    let alice = proxy.client(ALICE).await;
    let directory = journal_of(&world);
    while journal::segments(&directory).len() < 3 {
        assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
    }
    let segments = journal::segments(&directory);
    fs::remove_file(&segments[0]).unwrap();
    let second = segments[1].file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let archived = Archived::new().await;
    let mut trail = archived.trail(&world, "");
    trail.start();
    trail.archives("signing-proxy", newest(&directory)).await;
    // Also by a run that knows nothing of it but what the bucket says.
    trail.kill().await;
    trail.start();
    trail.archives("signing-proxy", newest(&directory)).await;
    let of = trail.of("archive", "signing-proxy").await;
    assert_eq!(of["missing_records"], second - 1, "{of}");
    let (code, said) = archived.signctl(&trail, "verify", &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("records 1 to {} of", second - 1)), "{said}");
    let (code, said) = archived.signctl(&trail, "verify", &["--partial"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("not checked: the roots of"), "{said}");
}

/// A bucket with objects of a journal, and the same as files.
async fn filled(world: &World) -> (Archived, system_tests::trail::Trail, PathBuf) {
    let proxy = proxy_in(world).await;
    let archived = Archived::new().await;
    let mut trail = archived.trail(world, "object_records = 8\n");
    trail.start();
    let alice = proxy.client(ALICE).await;
    for _ in 0..40 {
        assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
    }
    proxy.stop().await;
    let last = newest(&journal_of(world));
    trail.archives("signing-proxy", last).await;
    trail.holds("signing-proxy", last).await;
    trail.kill().await;
    let files = world.scratch.path("downloaded");
    archived.bucket.download(&files).await;
    (archived, trail, files)
}

#[tokio::test]
async fn what_is_written_over_hidden_or_added_in_the_bucket_is_found_and_the_first_version_is_looked_at()
 {
    let world = World::new();
    let (archived, trail, _) = filled(&world).await;
    let keys = archived.bucket.keys().await;
    let (code, said) = archived.signctl(&trail, "verify", &[]);
    assert_eq!(code, 0, "{said}");
    let lines = keys.iter().find(|key| key.ends_with(".jsonl")).unwrap();
    let was = archived.bucket.get(lines).await.text;

    archived.bucket.put(lines, &was.replace("signed", "failed")).await;
    let (code, said) = archived.signctl(&trail, "verify", &["--json"]);
    assert_eq!(code, 1);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    // The version over it is the only defect: what is locked below is as it was.
    assert_eq!(said["defects"], 1, "{said}");
    assert!(said["defect"][0].as_str().unwrap().contains("it was written over"), "{said}");

    let note = keys.iter().rfind(|key| key.ends_with(".checkpoint")).unwrap();
    archived.bucket.delete(note).await;
    let (_, said) = archived.signctl(&trail, "verify", &[]);
    assert!(said.contains(&format!("{}: somebody deleted it", &note["prod/".len()..])), "{said}");
    let (code, said) = archived.reconcile(&trail, &world, &[]);
    assert_eq!(code, 1);
    assert!(said.contains("GAP: archive: "), "{said}");

    // An object of nobody's: no checkpoint of it can be signed, and it is not locked.
    let log = lines.rsplit('/').next().unwrap().split('-').next().unwrap();
    let foreign = format!("prod/audit/2020/01/01/{log}-1-9999.jsonl");
    archived.bucket.put(&foreign, &was).await;
    let (_, said) = archived.signctl(&trail, "verify", &[]);
    assert!(said.contains("not locked in COMPLIANCE mode"), "{said}");
}

#[tokio::test]
async fn every_random_change_of_downloaded_files_is_found() {
    let world = World::new();
    let (archived, trail, files) = filled(&world).await;
    let place = files.to_str().unwrap();
    let mut kept = BTreeMap::new();
    for key in archived.bucket.keys().await {
        let path = files.join(key);
        kept.insert(path.clone(), fs::read(path).unwrap());
    }
    let (code, said) = signctl(&trail, "verify", &["--archive", place]);
    assert_eq!(code, 0, "{said}");
    let names: Vec<_> = kept.keys().cloned().collect();
    let mut chance = Chance::of("changes of archived files");
    let cases = if is_campaign() { 4_000 } else { 60 };
    let (url, journal) = (archived.postgres.url(), journal_of(&world));
    for case in 0..cases {
        let any = &names[chance.below(names.len())];
        let bytes = &kept[any];
        let mut is_of_the_end = false;
        let what = match case % 4 {
            0 => {
                let mut changed = bytes.clone();
                let at = chance.below(changed.len());
                changed[at] ^= 1 << chance.below(8);
                fs::write(any, changed).unwrap();
                format!("byte {at} of {}", any.display())
            }
            1 => {
                let length = chance.below(bytes.len());
                fs::write(any, &bytes[..length]).unwrap();
                format!("{} cut to {length} bytes", any.display())
            }
            2 => {
                let ending = any.extension().unwrap();
                let same = names.iter().filter(|name| name.extension() == Some(ending));
                let others: Vec<_> = same.filter(|name| *name != any).collect();
                let other = others[chance.below(others.len())];
                fs::write(any, &kept[other]).unwrap();
                fs::write(other, bytes).unwrap();
                format!("{} and {} swapped", any.display(), other.display())
            }
            _ => {
                fs::remove_file(any).unwrap();
                is_of_the_end = true;
                format!("{} removed", any.display())
            }
        };
        let (mut code, said) = signctl(&trail, "verify", &["--archive", place]);
        if code == 0 && is_of_the_end {
            // Of an end that is gone only the journal and the rows know.
            let more =
                ["--database-url", &url, "--journal", journal.to_str().unwrap(), "--wait", "0"];
            code = signctl(&trail, "reconcile", &[&["--archive", place], &more[..]].concat()).0;
        }
        assert_eq!(code, 1, "{chance:?}: {what}: {said}");
        for (path, bytes) in &kept {
            fs::write(path, bytes).unwrap();
        }
    }
}

#[tokio::test]
async fn the_journal_is_pruned_only_as_far_as_the_archive_holds_it() {
    let world = World::new();
    let key = world.kms.key(system_tests::Kind::P256);
    let builder = world.proxy().signer(KID, &key).caller(ALICE, &[KID]);
    let proxy = builder.segment_bytes(1 << 20).start().await;
    let alice = proxy.client(ALICE).await;
    let archived = Archived::new().await;
    let mut trail = archived.trail(&world, "");
    trail.start();
    trail.archives("signing-proxy", 1).await;
    let directory = journal_of(&world);
    while journal::segments(&directory).len() < 4 {
        assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
    }
    let last = newest(&directory);
    trail.holds("signing-proxy", last).await;
    trail.archives("signing-proxy", last).await;
    proxy.stop().await;
    trail.holds("signing-proxy", newest(&directory)).await;
    trail.archives("signing-proxy", newest(&directory)).await;
    let journal = directory.to_str().unwrap();
    let url = archived.postgres.url();
    let flags = ["--database-url", &*url, "--journal", journal, "--keep", "1"];
    let (code, said) = archived.signctl(&trail, "prune", &flags);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("3 segments can go"), "{said}");
    // Another bucket, which holds nothing of it.
    let empty = Bucket::make(&archived.ministack.address, "other-archive", true).await;
    let before = Archived { bucket: empty, ..archived };
    let (code, said) = before.signctl(&trail, "prune", &flags);
    assert_eq!(code, 1, "{said}");
}

//! `signctl audit` beside a proxy that writes, and on copies that somebody changed.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use signing_core::tree::{Frontier, SignedCheckpoint, TreeHash};
use system_tests::programs::ours;
use system_tests::{Chance, Kind, ProxyBuilder, World, is_campaign};

use crate::ALICE;

/// Runs `signctl audit` on that journal: exit code, stdout, stderr.
pub(crate) fn audit(journal: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(ours("signctl"));
    let output = command.arg("audit").args(arguments).arg("--journal").arg(journal).output();
    let output = output.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// What `verify --json` says against the registry.
fn verified(world: &World, journal: &Path, more: &[&str]) -> (i32, Value) {
    let registry = world.scratch.path("proxy/signers.json");
    let mut arguments = vec!["verify", "--json", "--signers", registry.to_str().unwrap()];
    arguments.extend(more);
    let (code, said, errors) = audit(journal, &arguments);
    let said = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{errors}"));
    (code, said)
}

fn builder(world: &World) -> ProxyBuilder<'_> {
    let key = world.kms.key(Kind::P256);
    world.proxy().signer("ec", &key).caller(ALICE, &["ec"])
}

/// A journal that a proxy wrote and ended in order, with some signatures, and the receipt
/// of the last.
async fn written(world: &World, signatures: usize) -> Value {
    signs(&builder(world), signatures).await
}

/// Signs so often with a proxy that starts and stops; the receipt of the last.
pub(crate) async fn signs(builder: &ProxyBuilder<'_>, signatures: usize) -> Value {
    let proxy = builder.clone().start().await;
    let alice = proxy.client(ALICE).await;
    let mut receipt = Value::Null;
    for _ in 0..signatures {
        receipt = alice.sign_message("ec", b"hi").await.body["audit"].clone();
    }
    proxy.stop().await;
    receipt
}

#[tokio::test]
async fn tail_shows_records_as_they_happen_and_verify_is_clean_after_a_crash() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let journal = builder.journal();
    let mut proxy = builder.clone().start().await;
    let mut tail = Command::new(ours("signctl"))
        .args(["audit", "tail", "--follow", "--json", "--type", "signed", "--journal"])
        .arg(&journal)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let answer = proxy.client(ALICE).await.sign_message("ec", b"hi").await;
    let shown: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(shown["record"]["data"]["signature"], answer.body["signature"]);
    assert_eq!(
        (&shown["seq"], &shown["leaf"]),
        (&answer.body["audit"]["seq"], &answer.body["audit"]["leaf"])
    );

    proxy.process.signal(Signal::SIGKILL);
    let _ = proxy.process.ended().await;
    let again = builder.start().await;
    let second = again.client(ALICE).await.sign_message("ec", b"hi").await;
    let shown: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(shown["leaf"], second.body["audit"]["leaf"], "it goes on after a restart");
    tail.kill().unwrap();
    tail.wait().unwrap();
    let (code, said) = verified(&world, &journal, &[]);
    assert_eq!((code, &said["ok"], &said["live"]), (0, &json!(true), &json!(true)), "{said}");
    assert_eq!((&said["signatures_checked"], &said["keys"]), (&json!(2), &json!("registered")));
}

#[tokio::test]
async fn nothing_calls_the_journal_of_a_busy_proxy_defective() {
    let world = World::new();
    let proxy = builder(&world).start().await;
    let journal = world.proxy().journal();
    let mut follow = Command::new(ours("signctl"))
        .args(["audit", "tail", "--follow", "--json", "-n", "1", "--journal"])
        .arg(&journal)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let followed = std::thread::spawn(move || {
        let seq =
            |line: String| serde_json::from_str::<Value>(&line).unwrap()["seq"].as_u64().unwrap();
        let first = seq(lines.next().unwrap().unwrap());
        // It ends when it is stopped, or by itself if it finds a defect.
        let last = lines.map_while(Result::ok).map(seq).zip(first + 1..);
        last.inspect(|(seq, expected)| assert_eq!(seq, expected)).last().map(|(seq, _)| seq)
    });
    let tools = tokio::task::spawn_blocking(move || {
        for _ in 0..40 {
            for arguments in [&["verify", "--limit", "20"][..], &["tail", "-n", "5"], &["export"]] {
                let (code, said, errors) = audit(&journal, arguments);
                assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}: {said}");
            }
        }
    });
    let signs = async || {
        let alice = proxy.client(ALICE).await;
        let mut newest = 0;
        while !tools.is_finished() {
            let answer = alice.sign_message("ec", b"hi").await;
            newest = answer.body["audit"]["seq"].as_u64().unwrap_or(newest);
        }
        newest
    };
    let (one, two) = tokio::join!(signs(), signs());
    tools.await.unwrap();
    proxy.stop().await;
    follow.kill().unwrap();
    follow.wait().unwrap();
    let (signed, followed) = (one.max(two), followed.join().unwrap().unwrap_or(0));
    assert!(signed > 100 && followed > signed / 2, "up to {signed}, followed up to {followed}");
}

#[tokio::test]
async fn tail_filters_and_a_person_can_read_it() {
    let world = World::new();
    let receipt = written(&world, 3).await;
    let journal = world.proxy().journal();
    let (code, said, _) = audit(&journal, &["tail", "-n", "2", "--type", "signed"]);
    assert_eq!((code, said.lines().count()), (0, 2), "{said}");
    let last = said.lines().last().unwrap();
    for word in [&receipt["seq"].to_string(), "signed", "ec", "ECDSA_SHA_256", ALICE] {
        assert!(last.contains(word), "{word}: {last}");
    }
    let (_, said, _) = audit(&journal, &["tail", "--caller", "spiffe://nobody.example/x"]);
    assert_eq!(said, "");
    let (_, said, _) = audit(&journal, &["tail", "-n", "1"]);
    assert!(said.contains("stop"), "{said}");
    let time = said.split("  ").next().unwrap();
    assert!(time.len() == 27 && time.ends_with('Z'), "UTC, with microseconds: {time}");
    let (code, _, errors) = audit(&journal, &["tail", "--type", "sined"]);
    assert!(code != 0 && errors.contains("signed") && errors.contains("withheld"), "{errors}");
    let (code, _, errors) = audit(Path::new("/nowhere"), &["tail"]);
    assert!(code == 1 && errors.contains("/nowhere"), "{errors}");
}

#[tokio::test]
async fn tail_with_a_filter_looks_back_to_the_oldest_record() {
    let world = World::new();
    let proxy = builder(&world).segment_bytes(1 << 20).start().await;
    let alice = proxy.client(ALICE).await;
    let first = alice.sign_message("ec", b"hi").await;
    let mut signatures = 1;
    while system_tests::journal::segments(&world.proxy().journal()).len() < 3 {
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
        signatures += 1;
    }
    proxy.stop().await;
    let journal = world.proxy().journal();
    let lines = |arguments: &[&str]| {
        let (code, said, errors) = audit(&journal, &[&["tail", "--json"], arguments].concat());
        assert_eq!((code, errors.as_str()), (0, ""), "{said}");
        let lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect::<Vec<Value>>()
    };
    let found = lines(&["--request", first.body["request_id"].as_str().unwrap()]);
    assert_eq!(found.len(), 2, "its intent and its outcome: {found:?}");
    assert_eq!(found[1]["leaf"], first.body["audit"]["leaf"]);
    assert_eq!(lines(&["--type", "init", "-n", "1"])[0]["seq"], 1);
    let segments: Vec<_> = lines(&["--type", "segment", "-n", "5"]);
    assert_eq!(segments.len(), 2, "all there are: {segments:?}");
    let all = lines(&["--caller", ALICE, "-n", "1000000"]);
    assert_eq!(all.len(), 2 * signatures);
    // Fewer: the newest of them, in order.
    assert_eq!(lines(&["--caller", ALICE, "-n", "7"]), all[all.len() - 7..]);
    assert!(lines(&["--request", "none"]).is_empty());
}

#[tokio::test]
async fn a_changed_byte_anywhere_is_found_and_its_record_named() {
    let world = World::new();
    let receipt = written(&world, 2).await;
    let journal = world.proxy().journal();
    let (code, said) = verified(&world, &journal, &[]);
    assert_eq!((code, said["live"].as_bool()), (0, Some(false)), "{said}");
    let used = usize::try_from(said["bytes"].as_u64().unwrap()).unwrap();
    let name = "00000000000000000001.journal";
    let bytes = std::fs::read(journal.join(name)).unwrap();
    let frames = system_tests::journal::frames(&journal.join(name));
    let copy = world.scratch.path("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(journal.join(name), copy.join(name)).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(copy.join(name)).unwrap();
    let mut chance = Chance::of("changed bytes");
    let places: Vec<usize> = if is_campaign() {
        (0..used + 16).collect()
    } else {
        (0..24).map(|_| chance.below(used + 16)).collect()
    };
    for at in places {
        let changed = bytes[at] ^ (1 << chance.below(8));
        file.write_all_at(&[changed], u64::try_from(at).unwrap()).unwrap();
        let (code, said) = verified(&world, &copy, &[]);
        assert_eq!(code, 1, "byte {at}: {said}");
        // Of a checkpoint, the newest record that it covers; whether it is one is in its length.
        let frame = frames.iter().rev().find(|frame| frame.from <= at as u64);
        let hit = frame.map_or(1, |frame| {
            let next = frame.number + u64::from(frame.is_checkpoint);
            let is_behind = frame.to <= at as u64;
            let begin = if is_behind { frame.to } else { frame.from };
            let is_flag = at as u64 == begin + 3 && (changed ^ bytes[at]) == 0x80;
            let is_in_checkpoint = frame.is_checkpoint && !is_behind;
            (next - u64::from(is_in_checkpoint != is_flag)).max(1)
        });
        assert_eq!(said["defect"]["record"], hit, "byte {at}: {said}");
        file.write_all_at(&bytes[at..=at], u64::try_from(at).unwrap()).unwrap();
    }
    // A record that is cut off is missed by whoever kept its receipt.
    let seq = receipt["seq"].as_u64().unwrap();
    let before = frames.iter().rev().find(|frame| frame.is_checkpoint && frame.number < seq);
    let cut = usize::try_from(before.unwrap().to).unwrap();
    file.write_all_at(&vec![0; used - cut], u64::try_from(cut).unwrap()).unwrap();
    let (code, said) = verified(&world, &copy, &[]);
    assert_eq!(code, 0, "nothing is left to show it: {said}");
    let kept = format!("{}:{}", receipt["seq"], receipt["leaf"].as_str().unwrap());
    let (code, said) = verified(&world, &copy, &["--receipt", &kept]);
    assert_eq!(code, 1, "{said}");
    assert!(said["defect"]["sentence"].as_str().unwrap().contains("cut short"), "{said}");
    assert_eq!(said["receipt"]["found"], false, "{said}");
    let (code, said) = verified(&world, &journal, &["--receipt", &kept, "--limit", "3"]);
    assert_eq!(code, 0, "{said}");
    // What was asked for leaves a trace.
    let mut asked = receipt.clone();
    asked["found"] = true.into();
    for name in ["seq", "leaf", "found"] {
        assert_eq!(said["receipt"][name], asked[name], "{said}");
    }
    assert!(said["kept_head"].is_null(), "{said}");
    let head = format!("{}:{}", said["head"]["size"], said["head"]["root"].as_str().unwrap());
    let words = ["verify", "--receipt", &kept, "--head", &head];
    let (code, said, errors) = audit(&journal, &words);
    assert_eq!(code, 0, "{said}{errors}");
    let [record, leaf] = [receipt["seq"].to_string(), receipt["leaf"].as_str().unwrap().to_owned()];
    for (name, what) in [
        ("receipt ", format!("found: record {record} with the leaf {leaf}")),
        ("kept head ", "found: the first ".to_owned()),
    ] {
        let line = said.lines().find(|line| line.starts_with(name));
        assert!(line.is_some_and(|line| line.contains(&what)), "{what}: {said}");
    }
}

#[tokio::test]
async fn export_writes_lines_that_a_checkpoint_covers() {
    let world = World::new();
    written(&world, 1).await;
    let journal = world.proxy().journal();
    let file = world.scratch.path("records.jsonl");
    let (code, _, errors) = audit(&journal, &["export", "--output", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{errors}");
    let lines = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, records) = lines.split_last().unwrap();
    let mut tree = Frontier::default();
    for (number, line) in records.iter().enumerate() {
        assert_eq!(line["seq"], number + 1);
        // By docs/reference/journal.md: the leaf is over the record's bytes.
        let leaf = TreeHash::leaf(line["record"].to_string().as_bytes());
        assert_eq!(line["leaf"], leaf.to_string(), "{line}");
        tree.push(leaf);
    }
    let checkpoint = SignedCheckpoint::parse(last["checkpoint"].as_str().unwrap()).unwrap();
    let stated = checkpoint.checkpoint();
    assert_eq!((stated.size, stated.root), (tree.size(), tree.root()));
    assert_eq!(records[0]["log"], stated.log.origin());
    let (code, _, errors) = audit(&journal, &["export", "--output", file.to_str().unwrap()]);
    assert!(code == 1 && errors.contains("is there already"), "{errors}");
    // Nothing is written where somebody put something else, and a range has to be there.
    let linked = world.scratch.path("elsewhere");
    std::fs::write(&linked, "kept").unwrap();
    let other = world.scratch.path("other.jsonl");
    std::os::unix::fs::symlink(&linked, world.scratch.path("other.jsonl.new")).unwrap();
    let (code, _, errors) = audit(&journal, &["export", "--output", other.to_str().unwrap()]);
    assert!(code == 1 && errors.contains("other.jsonl.new"), "{errors}");
    assert_eq!(std::fs::read_to_string(&linked).unwrap(), "kept");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for range in [&["--from", "5", "--to", "3"][..], &["--from", "999999"]] {
        let (code, said, errors) = audit(&journal, &[&["export"], range].concat());
        assert_eq!((code, said.as_str()), (1, ""), "{range:?}");
        assert!(errors.contains("there are no records from"), "{errors}");
    }
    // A clean verdict says of what.
    let (_, said, _) = audit(&journal, &["verify"]);
    let verdict = said.lines().next().unwrap();
    for part in ["no defect", "the journal names ITSELF", "1 NOT checked", "--signers"] {
        assert!(verdict.contains(part), "{part}: {verdict}");
    }
    // A reader that has enough ends it as it ends any filter.
    let mut export = Command::new(ours("signctl"))
        .args(["audit", "export", "--journal"])
        .arg(&journal)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(export.stdout.take());
    assert_eq!(export.wait().unwrap().code(), Some(141));
}

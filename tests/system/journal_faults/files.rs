//! The journal's files taken away, replaced, cut or put back: found before the next
//! signature leaves, or at the next start.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use system_tests::journal::segments;
use system_tests::programs::{ours, system};
use system_tests::{Exchange, Proxy, Tail};

use super::Site;

/// Does something to the newest segment while the proxy runs, and has it found.
async fn found_while_running(harm: impl FnOnce(&Path)) {
    let site = Site::new();
    let proxy = site.proxy().start().await;
    assert!(site.ask(&proxy).await.seq().is_some());
    harm(segments(&site.journal()).last().unwrap());
    refuses(&site, &proxy).await;
}

/// The very next request is refused, and the journal is sealed.
async fn refuses(site: &Site, proxy: &Proxy<'_>) {
    let exchange = site.ask(proxy).await;
    assert!(
        matches!(&exchange, Exchange::Refused(503, why) if why == "audit_unavailable"),
        "{exchange:?}"
    );
    proxy.unhealthy_for("audit_unavailable").await;
    proxy.audit_sealed().await;
}

/// What a proxy says that does not start, and whose journal nobody makes.
fn refused_start(site: &Site) -> String {
    let proxy = site.proxy();
    let output = proxy.verb("serve", &proxy.write()).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What `signctl audit verify` says of the journal.
fn verified(site: &Site) -> Value {
    let mut verify = Command::new(ours("signctl"));
    verify.args(["audit", "verify", "--json", "--journal"]).arg(site.journal());
    serde_json::from_slice(&verify.output().unwrap().stdout).unwrap()
}

/// Copies a directory with everything in it.
fn copy(from: &Path, to: &Path) {
    assert!(system("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[tokio::test]
async fn a_segment_that_is_deleted_is_missed_before_the_next_signature_leaves() {
    found_while_running(|segment| fs::remove_file(segment).unwrap()).await;
}

#[tokio::test]
async fn a_segment_that_is_replaced_by_its_copy_is_missed() {
    found_while_running(|segment| {
        let copied = segment.with_extension("copy");
        fs::copy(segment, &copied).unwrap();
        fs::rename(copied, segment).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_segment_that_is_cut_short_is_found() {
    found_while_running(|segment| {
        fs::OpenOptions::new().write(true).open(segment).unwrap().set_len(4096).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_is_moved_away_is_missed() {
    found_while_running(|segment| {
        let directory = segment.parent().unwrap();
        fs::rename(directory, directory.with_extension("away")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_idle_proxy_misses_its_journal_too() {
    let site = Site::new();
    let proxy = site.proxy().start().await;
    fs::remove_dir_all(site.journal()).unwrap();
    proxy.unhealthy_for("audit_unavailable").await;
}

#[tokio::test]
async fn two_proxies_do_not_write_one_journal() {
    let site = Site::new();
    let mut received = Vec::new();
    let first = site.proxy().start().await;
    let second = site.proxy().directory("second").journal_in("../proxy/journal");
    let said = second.try_start(None).await.unwrap_err();
    assert!(said.contains("another process writes this journal"), "{said}");
    // The first one is not disturbed.
    received.push(site.ask(&first).await);
    site.signs_on(first, &mut received).await;
}

#[tokio::test]
async fn a_journal_that_is_gone_is_not_begun_anew_by_itself() {
    let site = Site::new();
    let mut received = Vec::new();
    let before = site.signs_again(&mut received).await;
    fs::remove_dir_all(site.journal()).unwrap();
    let said = refused_start(&site);
    assert!(said.contains("there is no journal here"), "{said}");
    assert!(said.contains("signing-proxy init"), "{said}");

    // A new one says which it replaces.
    let mut since = Vec::new();
    let after = site.signs_again(&mut since).await;
    assert_ne!(before["head"], after["head"]);
    let head = before["head"].as_str().unwrap();
    let first = fs::read(segments(&site.journal()).remove(0)).unwrap();
    let replaces = format!("\"replaces\":{}", json!(head));
    assert!(String::from_utf8_lossy(&first).contains(&replaces), "{replaces}");
}

#[tokio::test]
async fn an_older_copy_of_the_journal_is_refused() {
    let site = Site::new();
    let mut received = Vec::new();
    site.signs_again(&mut received).await;
    let (journal, kept) = (site.journal(), site.world.scratch.path("kept"));
    copy(&journal, &kept);
    site.signs_again(&mut received).await;
    let newer = site.world.scratch.path("newer");
    fs::rename(&journal, &newer).unwrap();
    copy(&kept, &journal);
    let said = refused_start(&site);
    assert!(said.contains("an older copy was put in its place"), "{said}");

    fs::remove_dir_all(&journal).unwrap();
    fs::rename(&newer, &journal).unwrap();
    site.signs_again(&mut received).await;
}

#[tokio::test]
async fn damage_is_named_at_the_start_and_by_verify_and_a_torn_write_is_cut() {
    let site = Site::new();
    let mut received = Vec::new();
    site.signs_again(&mut received).await;
    let segment = segments(&site.journal()).remove(0);
    let original = fs::read(&segment).unwrap();
    let records = system_tests::journal::records(&segment);
    let frames = system_tests::journal::frames(&segment);

    let (seq, inside) = &records[records.len() / 2];
    let mut damaged = original.clone();
    damaged[usize::try_from(inside.from).unwrap() + 200] ^= 1;
    fs::write(&segment, &damaged).unwrap();
    let said = site.proxy().try_start(None).await.unwrap_err();
    assert!(said.contains(segment.to_str().unwrap()), "{said}");
    assert!(said.contains(&format!("record {seq} ")), "{said}");

    // Bytes behind the last record that no crash leaves there.
    let (seq, last) = records.last().unwrap();
    let [from, end] = [last.from, last.to].map(|at| usize::try_from(at).unwrap());
    let mut junk = original.clone();
    junk[end..end + 700].fill(7);
    fs::write(&segment, &junk).unwrap();
    let said = site.proxy().try_start(None).await.unwrap_err();
    let why =
        format!("record {} at byte {end} is damaged: what stands there is no torn write", seq + 1);
    assert!(said.contains(segment.to_str().unwrap()) && said.contains(&why), "{said}");
    let defect = verified(&site)["defect"].clone();
    assert_eq!((&defect["record"], &defect["at"]), (&json!(seq + 1), &json!(end)), "{defect}");
    assert!(said.contains(defect["what"].as_str().unwrap()), "{said}");
    assert_eq!(fs::read(&segment).unwrap(), junk, "it was changed");

    // The beginning of the next record, as a process leaves it that dies while it writes.
    let mut torn = original;
    let record = frames.iter().rev().find(|frame| !frame.is_checkpoint).unwrap();
    let written = usize::try_from(record.to - record.from).unwrap() / 2;
    torn.copy_within(from..from + written, end);
    torn[end + 8..end + 16].copy_from_slice(&(seq + 1).to_le_bytes());
    fs::write(&segment, &torn).unwrap();
    site.check(&received, Tail::MayBeTorn);
    let found = verified(&site);
    assert_eq!((&found["ok"], &found["torn"]["at"]), (&json!(true), &json!(end)), "{found}");
    site.signs_again(&mut received).await;
    let text = String::from_utf8_lossy(&fs::read(&segment).unwrap()).into_owned();
    let cut = format!("\"cut_bytes\":{written},");
    assert!(text.contains(&cut), "the start does not say what was cut: {cut}");
    assert_eq!(verified(&site)["torn"], json!(null));
}

#[tokio::test]
async fn an_orderly_stop_is_no_error_of_the_journal() {
    let site = Site::new();
    let mut proxy = site.proxy().start().await;
    assert!(site.ask(&proxy).await.seq().is_some());
    proxy.process.signal(Signal::SIGTERM);
    assert!(proxy.process.ended().await.success());
    let said = proxy.process.output();
    assert!(said.contains("the journal is closed: the process is stopping"), "{said}");
    assert!(!said.contains("\"level\":\"ERROR\""), "{said}");
}

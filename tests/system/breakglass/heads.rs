//! A signer whose log does not go on from the one that the proxy knows: it was put back to an older
//! state, however far it went since, or is another one.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use system_tests::breakglass::{Signer, SignerBuilder};
use system_tests::journal::Tail;
use system_tests::programs::ours;
use system_tests::{Proxy, eventually, journal};

use super::{
    KID, Site, activate, activated, connected, end, metric_is, recorded, records, refused, status,
};
use crate::ALICE;
use crate::audit_tools::audit;

pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Keeps what a process that is stopped has on its disk.
pub(super) fn keep_parts(at: impl Fn(&str) -> PathBuf, name: &str) {
    for part in ["state", "journal"] {
        copy(&at(part), &at(&format!("{name}-{part}")));
    }
}

/// Puts it back.
pub(super) fn put_parts_back(at: impl Fn(&str) -> PathBuf, name: &str) {
    for part in ["state", "journal"] {
        std::fs::remove_dir_all(at(part)).unwrap();
        copy(&at(&format!("{name}-{part}")), &at(part));
    }
}

fn keep(signer: &SignerBuilder<'_>, name: &str) {
    keep_parts(|part| signer.path(part), name);
}

fn put_back(signer: &SignerBuilder<'_>, name: &str) {
    put_parts_back(|part| signer.path(part), name);
}

/// How many records its journal has.
fn size(signer: &SignerBuilder<'_>) -> u64 {
    let segments = journal::segments(&signer.journal());
    journal::records(segments.last().unwrap()).last().unwrap().0
}

/// Starts it and stops it until its journal has more records than that.
async fn grown_beyond(signer: &SignerBuilder<'_>, records: u64) {
    while size(signer) <= records {
        signer.clone().start().await.stop().await;
    }
}

/// Waits until the proxy refuses a signer for its log; what it says of it.
async fn refused_signer(proxy: &Proxy<'_>) -> Value {
    eventually("a signer that is refused", || async {
        let status = status(proxy).await;
        status["refused_signer"].is_object().then(|| status["refused_signer"].clone())
    })
    .await
}

/// What the proxy's journal tells of signers' logs, up to one that became known so.
async fn signer_logs(site: &Site, how: &str) -> Vec<Value> {
    recorded(&site.world.scratch.path("proxy/journal"), "signer_log", |log| log["how"] == how).await
}

/// That this request activates nothing, though all of it is right.
async fn activates_nothing(signer: &Signer<'_>, proxy: &Proxy<'_>, papers: &Value) {
    signer.unlock().await;
    let (reason, detail) = refused(proxy, papers).await;
    assert_eq!(reason, "signer_unavailable", "{detail}");
}

#[tokio::test]
async fn i7_a_signer_that_was_put_back_and_grew_is_refused_until_an_operator_accepts_it() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let builder = signer.builder.clone();
    signer.stop().await;
    keep(&builder, "older");
    let signer = builder.clone().start().await;
    let proxies = site.proxy(builder.registry_entries());
    let proxy = proxies.clone().start().await;
    connected(&proxy).await;
    site.out(&proxy).await;
    let papers = signer.papers(&signer.request());
    signer.unlock().await;
    assert_eq!(activate(&proxy, &papers).await.status, 200);
    assert_eq!(proxy.client(ALICE).await.sign_message(KID, b"hi").await.status, 200);
    assert_eq!(end(&proxy).await.status, 200);
    signer.stop().await;
    let known = size(&builder);
    metric_is(&proxy, "breakglass_signer_connected", 0.0).await;

    // As it was put back: behind what is known. And once it went further than that.
    put_back(&builder, "older");
    let signer = builder.clone().start().await;
    let said = refused_signer(&proxy).await;
    assert!(said["why"].as_str().unwrap().contains("was there already"), "{said}");
    activates_nothing(&signer, &proxy, &papers).await;
    signer.stop().await;
    grown_beyond(&builder, known).await;
    let signer = builder.clone().start().await;
    eventually("a refusal of the log that grew", || async {
        let said = refused_signer(&proxy).await;
        said["why"].as_str().unwrap().contains("not shown to be").then_some(())
    })
    .await;
    activates_nothing(&signer, &proxy, &papers).await;
    let (code, said, errors) = proxy.signctl(&["breakglass", "status"]);
    assert!(code == 0 && said.contains("is REFUSED"), "{said}{errors}");
    eventually("the condition", || async {
        let said = proxy.admin("GET", "/v1/status", Value::Null).await.text;
        said.contains("breakglass-signer is refused").then_some(())
    })
    .await;

    // A restart of either changes nothing, nor does the loss of the file that the journal can give again.
    proxy.stop().await;
    signer.stop().await;
    std::fs::remove_file(builder.path("state/tree-nodes")).unwrap();
    let signer = builder.clone().start().await;
    let proxy = proxies.clone().start_shut().await;
    refused_signer(&proxy).await;
    site.out(&proxy).await;
    activates_nothing(&signer, &proxy, &papers).await;
    assert!(records(&builder.journal(), "session_activated").is_empty());

    // An operator accepts it, which the proxy's journal tells with both heads.
    let said = refused_signer(&proxy).await;
    let reason = "the disk was put back, INC-9";
    let (code, told, errors) = proxy.signctl(&["breakglass", "accept-signer", "--reason", reason]);
    assert!(code == 0 && told.contains("accepted"), "{told}{errors}");
    connected(&proxy).await;
    let accepted = signer_logs(&site, "accepted").await.pop().unwrap();
    assert_eq!(accepted["reason"], reason, "{accepted}");
    assert_eq!(accepted["signer_instance"], json!(signer.instance), "{accepted}");
    assert_eq!((&accepted["signer_head"], &accepted["known"]), (&said["head"], &said["known"]));
    assert!(accepted["by"].as_str().unwrap().starts_with("uid "), "{accepted}");
    signer.unlock().await;
    let answer = activate(&proxy, &papers).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(end(&proxy).await.status, 200);
    let again = proxy.admin("POST", "/v1/breakglass/accept-signer", json!({"reason": "x"})).await;
    assert_eq!((again.status, &again.body["reason"]), (409, &json!("nothing_refused")));

    // The log that was replaced is not believed again: what was used in the other one is not in it.
    signer.stop().await;
    put_back(&builder, "older");
    let _signer = builder.clone().start().await;
    refused_signer(&proxy).await;
    proxy.stop().await;
    let registry = site.world.scratch.path("proxy/signers.json");
    let proxy_journal = site.world.scratch.path("proxy/journal");
    let (code, said, errors) =
        audit(&proxy_journal, &["verify", "--signers", registry.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}{errors}");
    journal::check(&proxy_journal, &registry, &[], Tail::Whole).unwrap();
}

#[tokio::test]
async fn i7_a_signer_made_anew_or_another_instance_is_refused_and_the_first_is_recorded() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let other = site.signer().directory("other").start().await;
    let mut entries = signer.builder.registry_entries();
    let mut other_audit = other.builder.registry_entries().remove(1);
    other_audit["signer_kid"] = json!("other-audit");
    entries.push(other_audit);
    let proxy = site.proxy(entries).start().await;
    connected(&proxy).await;
    let logs = signer_logs(&site, "first").await;
    assert_eq!(logs.len(), 1, "{logs:?}");
    assert!(logs[0]["known"].is_null(), "{logs:?}");

    // Another one at the same socket, whose audit key is registered.
    let builder = signer.builder.clone();
    let socket = signer.socket();
    signer.stop().await;
    let _ = std::fs::remove_file(&socket);
    std::os::unix::fs::symlink(other.socket(), &socket).unwrap();
    let said = refused_signer(&proxy).await;
    assert!(said["why"].as_str().unwrap().contains("not one that is known here"), "{said}");
    assert_eq!(said["instance"], json!(other.instance));
    std::fs::remove_file(&socket).unwrap();

    // The first one as it was is still known.
    let signer = builder.clone().start().await;
    connected(&proxy).await;
    assert!(status(&proxy).await["refused_signer"].is_null());
    signer.stop().await;

    // Made anew: a log that nobody knows.
    for part in ["state", "journal"] {
        std::fs::remove_dir_all(builder.path(part)).unwrap();
    }
    let signer = builder.clone().start().await;
    let said = refused_signer(&proxy).await;
    assert!(said["why"].as_str().unwrap().contains("not one that is known here"), "{said}");
    let accepted =
        proxy.admin("POST", "/v1/breakglass/accept-signer", json!({"reason": "new disk"})).await;
    assert_eq!(accepted.status, 200, "{}", accepted.text);
    connected(&proxy).await;
    site.out(&proxy).await;
    activated(&signer, &proxy, &signer.request()).await;
}

#[tokio::test]
async fn i7_a_log_is_shown_to_go_on_from_a_record_that_was_moved_away() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let builder = signer.builder.clone();
    let proxies = site.proxy(builder.registry_entries());
    let proxy = proxies.clone().start().await;
    connected(&proxy).await;
    // What it knows is in the first segment.
    proxy.stop().await;
    // Another proxy than the one that the signer knows has to be accepted first.
    let (mut wire, known) = signer.greet().await;
    let no = wire.ask(signer.shows(&known)).await;
    assert_eq!(no["refused"]["reason"], "log_refused", "{no}");
    let mut accept = std::process::Command::new(ours("signctl"));
    accept.args(["breakglass", "accept-proxy", "--reason", "a second proxy", "--operator-socket"]);
    assert!(accept.arg(signer.operator_socket()).status().unwrap().success());
    let mut wire = signer.connect().await;
    let mut request = signer.request();
    request["max_signatures"] = json!(10_000);
    let session = signer.activated(&mut wire, &request).await;
    for _ in 0..30 {
        for _ in 0..100 {
            wire.send(system_tests::breakglass::sign(&session, KID, &[b'x'; 64])).await;
        }
        for _ in 0..100 {
            assert!(wire.next().await.unwrap()["signed"].is_object());
        }
    }
    drop(wire);
    signer.stop().await;
    let segments = journal::segments(&builder.journal());
    assert!(segments.len() >= 3, "{segments:?}");
    for old in &segments[..segments.len() - 2] {
        std::fs::remove_file(old).unwrap();
    }
    let nodes = builder.path("state/tree-nodes");
    std::fs::rename(&nodes, builder.path("kept-nodes")).unwrap();

    // Without its file the signer cannot show it.
    let signer = builder.clone().start().await;
    let proxy = proxies.clone().start().await;
    let said = refused_signer(&proxy).await;
    assert!(said["why"].as_str().unwrap().contains("is not shown to go on"), "{said}");
    signer.stop().await;

    // With it, it can, and that is the newest that is known from then on.
    std::fs::rename(builder.path("kept-nodes"), &nodes).unwrap();
    let signer = builder.clone().start().await;
    connected(&proxy).await;
    let known = status(&proxy).await["signer"]["head"]["size"].as_u64().unwrap();
    assert!(known > 3000, "{known}");
    let is_newest = |log: &Value| {
        let size = log["signer_head"].as_str().unwrap().split(':').nth(1).unwrap();
        log["how"] == "extends" && size.parse::<u64>().unwrap() > 3000
    };
    recorded(&site.world.scratch.path("proxy/journal"), "signer_log", is_newest).await;
    // A journal of which most is gone still shows what comes after.
    signer.stop().await;
    std::fs::remove_file(&nodes).unwrap();
    let _signer = builder.start().await;
    connected(&proxy).await;
}

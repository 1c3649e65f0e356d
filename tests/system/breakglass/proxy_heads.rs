//! A proxy whose log does not go on from the one that the emergency signer knows: it was put back to an older
//! state, or shows a log that is not its own.

use serde_json::{Value, json};
use system_tests::breakglass::{Signer, checkpoint, proxy_head};
use system_tests::journal::{self, Tail};
use system_tests::{ProxyBuilder, eventually};

use super::heads::{keep_parts, put_parts_back};
use super::{KID, Site, activate, connected, end, metric_is, recorded, records, refused, status};
use crate::ALICE;
use crate::audit_tools::audit;

/// The signer's own word for the proxy that it refuses, asked past the proxy.
async fn refused_proxy(signer: &Signer<'_>, says: &str) -> Value {
    eventually("a proxy that is refused", || async {
        let held = operator(signer, &["status", "--json"]).await.1;
        let refused =
            serde_json::from_str::<Value>(&held).unwrap()["signer"]["refused_proxy"].clone();
        refused["why"].as_str().is_some_and(|why| why.contains(says)).then_some(refused)
    })
    .await
}

/// A verb of `signctl breakglass` at the signer's own socket.
async fn operator(signer: &Signer<'_>, verb: &[&str]) -> (bool, String) {
    let mut command = std::process::Command::new(system_tests::programs::ours("signctl"));
    command.arg("breakglass").args(verb).arg("--operator-socket").arg(signer.operator_socket());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn size(proxy: &ProxyBuilder<'_>) -> u64 {
    let segments = journal::segments(&proxy.journal());
    journal::records(segments.last().unwrap()).last().unwrap().0
}

#[tokio::test]
async fn i7_a_proxy_that_was_put_back_and_grew_is_refused_until_an_operator_accepts_it() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let builder = signer.builder.clone();
    let proxies = site.proxy(builder.registry_entries());
    let at = |part: &str| site.world.scratch.path(&format!("proxy/{part}"));
    let proxy = proxies.clone().start().await;
    connected(&proxy).await;
    let first = recorded(&builder.journal(), "proxy_log", |log| log["how"] == "first").await;
    assert_eq!(first.len(), 1, "{first:?}");
    proxy.stop().await;
    keep_parts(at, "older");
    let proxy = proxies.clone().start().await;
    connected(&proxy).await;
    site.out(&proxy).await;
    let papers = signer.papers(&signer.request());
    signer.unlock().await;
    assert_eq!(activate(&proxy, &papers).await.status, 200);
    assert_eq!(proxy.client(ALICE).await.sign_message(KID, b"hi").await.status, 200);
    assert_eq!(end(&proxy).await.status, 200);
    site.mend(&proxy).await;
    proxy.stop().await;
    let known = size(&proxies);

    // As it was put back, and once it went further than that: it signs by KMS, and gets no session.
    put_parts_back(at, "older");
    let proxy = proxies.clone().start().await;
    let said = refused_proxy(&signer, "was there already").await;
    assert_eq!(proxy.client(ALICE).await.sign_message(KID, b"hi").await.status, 200);
    metric_is(&proxy, "breakglass_signer_connected", 0.0).await;
    proxy.process.says("bring its newest state and journal back").await;
    proxy.stop().await;
    while size(&proxies) <= known {
        proxies.clone().start().await.stop().await;
    }
    // A restart of the signer changes nothing.
    signer.stop().await;
    let signer = builder.clone().start().await;
    let proxy = proxies.clone().start().await;
    let grown = refused_proxy(&signer, "not shown to be").await;
    assert_eq!(grown["instance"], said["instance"]);
    site.out(&proxy).await;
    signer.unlock().await;
    let fresh = signer.papers(&signer.request());
    let (reason, detail) = refused(&proxy, &fresh).await;
    assert_eq!(reason, "signer_unavailable", "{detail}");
    let (good, held) = operator(&signer, &["status"]).await;
    assert!(good && held.contains("CANNOT BE ARMED: a proxy is refused for its log"), "{held}");

    // An operator accepts it, which the signer's journal tells with both heads.
    let reason = "its disk was put back, INC-9";
    let (good, told) = operator(&signer, &["accept-proxy", "--reason", reason]).await;
    assert!(good && told.contains("accepted: the proxy"), "{told}");
    connected(&proxy).await;
    let is_accepted = |log: &Value| log["how"] == "accepted";
    let accepted = recorded(&builder.journal(), "proxy_log", is_accepted).await.pop().unwrap();
    assert_eq!((&accepted["reason"], &accepted["known"]), (&json!(reason), &grown["known"]));
    assert_eq!(accepted["proxy_instance"], grown["instance"], "{accepted}");
    assert!(accepted["by"].as_str().unwrap().ends_with("at the operator socket"), "{accepted}");
    signer.unlock().await;
    let answer = activate(&proxy, &signer.papers(&signer.request())).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(end(&proxy).await.status, 200);
    let (good, told) = operator(&signer, &["accept-proxy", "--reason", "x"]).await;
    assert!(!good && told.contains("no proxy is refused"), "{told}");
    proxy.stop().await;
    signer.stop().await;
    let registry = builder.path("signers.json");
    let (code, said, errors) =
        audit(&builder.journal(), &["verify", "--signers", registry.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}{errors}");
    journal::check(&builder.journal(), &registry, &[], Tail::Whole).unwrap();
}

#[tokio::test]
async fn i7_a_proxy_that_shows_no_log_or_one_that_is_not_its_own_gets_no_session() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let other = site.signer().directory("other").start().await;
    let (mut first, _) = signer.greet().await;
    // Its own checkpoint, as it shows it to whoever asks, is no proxy's.
    let head = first.ask(json!({"status": {}})).await["status"]["state"]["head"].clone();
    let extend = json!({"extend": {"log": head["log"], "size": 0}});
    let own = first.ask(extend).await["extends"]["checkpoint"].clone();
    let unknown = checkpoint(&other.builder.path("client-audit.key"));
    let right = signer.shows(&json!(0))["show"]["checkpoint"].as_str().unwrap().to_owned();
    let torn = right.replacen("\n7\n", "\n8\n", 1);
    let shows =
        |checkpoint: &Value| json!({"show": {"size": 0, "checkpoint": checkpoint, "hashes": []}});
    for (what, shown, word) in [
        ("nothing", None, "log_refused"),
        ("no checkpoint", Some(json!("x")), "log_refused"),
        ("the signer's own", Some(own), "log_refused"),
        ("one by a key that is not registered", Some(json!(unknown)), "log_refused"),
        ("one that was changed", Some(json!(torn)), "log_refused"),
    ] {
        let (mut wire, _) = signer.greet().await;
        if let Some(shown) = shown {
            let no = wire.ask(shows(&shown)).await;
            assert_eq!(no["refused"]["reason"], word, "{what}: {no}");
        }
        let no = wire.ask(signer.activation(&signer.request())).await;
        assert_eq!(no["refused"]["reason"], "log_refused", "{what}: {no}");
    }
    assert!(records(&signer.builder.journal(), "session_activated").is_empty());

    // Once it is known, a proof from another size says nothing, and a message without a proof proves nothing.
    let mut wire = signer.connect().await;
    let again = wire.ask(shows(&json!(right))).await;
    assert_eq!(again["refused"]["reason"], "invalid", "{again}");
    let (mut bare, known) = signer.greet().await;
    let no = bare.ask(json!({"show": {"size": known, "checkpoint": right}})).await;
    assert_eq!(no["refused"]["reason"], "log_refused", "{no}");
    // The head of another log than the one that was shown.
    let mut activation = signer.activation(&signer.request());
    activation["activate"]["proxy_head"]["log"] = json!("1".repeat(32));
    let no = wire.ask(activation).await;
    assert_eq!(no["refused"]["reason"], "invalid", "{no}");
    let session = signer.activated(&mut wire, &signer.request()).await;
    let mut foreign = system_tests::breakglass::sign(&session, KID, b"hi");
    foreign["sign"]["proxy_head"]["log"] = json!("1".repeat(32));
    assert_eq!(wire.ask(foreign).await["refused"]["reason"], "invalid");
    // What it says of its log while it signs counts for what it has to go on from.
    let mut further = system_tests::breakglass::sign(&session, KID, b"hi");
    further["sign"]["proxy_head"]["size"] = json!(9);
    assert!(wire.ask(further).await["signed"].is_object());
    drop(wire);
    let builder = signer.builder.clone();
    signer.stop().await;
    let signer = builder.start().await;
    let (mut wire, known) = signer.greet().await;
    assert_eq!(known, 9);
    let no = wire.ask(signer.shows(&known)).await;
    assert_eq!(no["refused"]["reason"], "log_refused", "{no}");
    assert_eq!(proxy_head()["size"], 7);
}

#[tokio::test]
async fn i7_a_proxys_log_is_shown_to_go_on_from_a_record_that_was_moved_away() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let builder = signer.builder.clone();
    let proxies = site.proxy(builder.registry_entries()).segment_bytes(1 << 20);
    let proxy = proxies.clone().start().await;
    connected(&proxy).await;
    // What the signer knows is in the first segment.
    signer.stop().await;
    let alice = proxy.client(ALICE).await;
    while journal::segments(&proxies.journal()).len() < 3 {
        for _ in 0..100 {
            assert_eq!(alice.sign_message(KID, b"hi").await.status, 200);
        }
    }
    proxy.stop().await;
    let segments = journal::segments(&proxies.journal());
    std::fs::remove_file(&segments[0]).unwrap();
    let nodes = site.world.scratch.path("proxy/state/tree-nodes");
    let kept = site.world.scratch.path("kept-nodes");
    std::fs::rename(&nodes, &kept).unwrap();

    // Without its file the proxy cannot show it.
    let signer = builder.clone().start().await;
    let proxy = proxies.clone().start().await;
    refused_proxy(&signer, "is not shown to go on").await;
    proxy.stop().await;

    // With it, it can, and that is the newest that is known from then on.
    std::fs::rename(&kept, &nodes).unwrap();
    let proxy = proxies.clone().start().await;
    connected(&proxy).await;
    assert!(status(&proxy).await["signer"]["refused_proxy"].is_null());
    recorded(&builder.journal(), "proxy_log", |log| log["how"] == "extends").await;
    // A journal of which the beginning is gone still shows what comes after.
    proxy.stop().await;
    std::fs::remove_file(&nodes).unwrap();
    let proxy = proxies.start().await;
    connected(&proxy).await;
}

#[tokio::test]
async fn i7_a_tail_that_the_signer_or_whoever_starts_it_knows_is_not_cut() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let proxies = site.proxy(signer.builder.registry_entries());
    let at = |part: &str| site.world.scratch.path(&format!("proxy/{part}"));
    proxies.clone().start().await.stop().await;
    keep_parts(at, "older");
    let segment = journal::segments(&proxies.journal()).pop().unwrap();
    let end = usize::try_from(journal::frames(&segment).last().unwrap().to).unwrap();
    let proxy = proxies.clone().start().await;
    connected(&proxy).await;
    proxy.stop().await;
    let newer = std::fs::read(&segment).unwrap();
    let known = size(&proxies);

    // The disk as it was, with the beginning of the next record behind it.
    let torn_to = (end + 64).next_multiple_of(512);
    let put_back_torn = || {
        put_parts_back(at, "older");
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[end..torn_to].copy_from_slice(&newer[end..torn_to]);
        std::fs::write(&segment, &bytes).unwrap();
        bytes
    };
    let torn = put_back_torn();
    let said = proxies.clone().try_start(None).await.err().unwrap();
    assert!(said.contains("the emergency signer says so"), "{said}");
    assert!(std::fs::read(&segment).unwrap() == torn, "it was cut");
    // Nobody who answers knows it, but whoever starts it has the position of a sink.
    signer.stop().await;
    let log = known_log(&segment);
    let mut command = proxies.command();
    command.args(["--known-head", &format!("{log}:{known}")]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("--known-head says so"), "{said}");
    assert!(std::fs::read(&segment).unwrap() == torn, "it was cut");
    // As before, without anybody who knows.
    let proxy = proxies.clone().start().await;
    proxy.process.says("the emergency signer does not say what it knows of it").await;
    proxy.process.says("a torn write was cut").await;
}

/// The log of the journal that begins with this segment, by the first line of its header's checkpoint.
fn known_log(segment: &std::path::Path) -> String {
    let bytes = std::fs::read(segment).unwrap();
    let text = String::from_utf8_lossy(&bytes[..4096]).into_owned();
    text.split_once("signing-journal/").unwrap().1[..32].to_owned()
}

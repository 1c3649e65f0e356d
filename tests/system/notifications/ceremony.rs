//! A whole ceremony while nobody can be told of it: nothing waits, and everything arrives later.

use serde_json::{Value, json};
use system_tests::breakglass::EMERGENCY_KID;
use system_tests::postgres::Postgres;
use system_tests::trail::Trail;
use system_tests::{FaultProxy, Manner, NetworkFault, Pki, Receiver, eventually};

use super::{KEY_FILE, SIGNED, are_in_order, comes, events, journal_of, json_at, words};
use crate::ALICE;
use crate::breakglass::{Site, activated, end};

/// What a ceremony is told as, in its order.
const TOLD: [&str; 8] = [
    "gate_shut",
    "frozen",
    "unfrozen",
    "session_begun",
    "session_ended",
    "destruction_due",
    "key_destroyed",
    "gate_open",
];

/// Whether `words` has all of them in that order, among others.
fn has_in_order(words: &[&str], wanted: &[&str]) -> bool {
    let mut words = words.iter();
    wanted.iter().all(|wanted| words.any(|word| word == wanted))
}

#[tokio::test]
async fn a_ceremony_waits_for_no_receiver_and_every_event_arrives_later_in_order() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    let postgres = Postgres::start().await;
    let registry = site.world.scratch.path("proxy/signers.json");
    let (proxys, signers) = (journal_of(&site.world), signer.builder.journal());

    // Each is away in another way.
    let refused = Receiver::start();
    let refusing = FaultProxy::start(&refused.address);
    refusing.set(NetworkFault::Refuse);
    let unreached = Receiver::start();
    let dropping = FaultProxy::start(&unreached.address);
    dropping.set(NetworkFault::BlackHole);
    let (hangs, fails, leads, closes, misses) = (
        Receiver::start(),
        Receiver::start(),
        Receiver::start(),
        Receiver::start(),
        Receiver::start(),
    );
    hangs.set(Manner::Hang);
    fails.set(Manner::Answer(500, "no".to_owned()));
    let elsewhere = Receiver::start();
    leads.set(Manner::Redirect(elsewhere.url("/")));
    closes.set(Manner::Close);
    misses.set(Manner::Answer(404, "no_service".to_owned()));
    let other = Pki::named("another authority");
    let untrusted = Receiver::start_tls(&other, None);

    let urls = [
        ("refused", format!("http://{}/hook", refusing.address)),
        ("unreached", format!("http://{}/hook", dropping.address)),
        ("hangs", hangs.url("/hook")),
        ("fails", fails.url("/hook?a=b")),
        ("leads", leads.url("/hook")),
        ("closes", closes.url("/hook")),
    ];
    let journals = [("proxy", proxys.as_path()), ("signer", signers.as_path())];
    let mut trail = Trail::new(&journals, &registry, &postgres);
    for (name, url) in &urls {
        trail = trail.webhook(name, &json_at(url), &[KEY_FILE]);
    }
    let lines = format!("{SIGNED}\nca_file = \"ca.pem\"\nurl = {:?}", untrusted.url("/hook"));
    trail = trail.webhook("untrusted", &lines, &[("ca.pem", &site.world.pki.ca_pem)]);
    let slack_url = misses.url("/services/T0/B0/very-secret");
    trail = trail.webhook(
        "slack",
        "form = \"slack\"\nurl_file = \"slack.url\"",
        &[("slack.url", &slack_url)],
    );
    trail.start();
    // Where each begins is on disk before anything happens.
    for name in ["refused", "unreached", "hangs", "fails", "leads", "closes", "untrusted", "slack"]
    {
        let file = trail.path(&format!("state/{name}.json"));
        eventually(&format!("the state of {name}"), || async {
            let text = std::fs::read_to_string(&file).ok()?;
            (text.contains("signing-proxy") && text.contains("breakglass-signer")).then_some(())
        })
        .await;
    }

    site.out(&proxy).await;
    assert_eq!(
        proxy.admin("POST", "/v1/freeze", json!({"reason": "INC <!channel> 7"})).await.status,
        200
    );
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await.status, 200);
    activated(&signer, &proxy, &signer.request()).await;
    let alice = proxy.client(ALICE).await;
    for _ in 0..5 {
        let answer = alice.sign_message("payments", b"hi").await;
        assert_eq!(answer.body["mode"], "breakglass", "{}", answer.text);
    }
    // Killed in the midst of it.
    trail.kill().await;
    assert_eq!(end(&proxy).await.status, 200);
    trail.start();
    let destroy = ["breakglass", "destroy", EMERGENCY_KID, "--reason", "INC-7"];
    let (code, _, said) = eventually("the destruction", || async {
        let done = proxy.signctl(&destroy);
        (done.0 == 0).then_some(done)
    })
    .await;
    assert_eq!(code, 0, "{said}");
    site.mend(&proxy).await;
    trail.process().says("a notification is not delivered").await;
    for receiver in [&refused, &unreached, &hangs, &fails, &leads, &closes, &untrusted, &misses] {
        assert!(receiver.accepted().is_empty());
    }
    let (output, status) = trail.status().await;
    assert_eq!(output.status.code(), Some(1), "{status}");

    // All of them are back, after one more kill.
    trail.kill().await;
    refusing.set(NetworkFault::None);
    dropping.set(NetworkFault::None);
    for receiver in [&hangs, &fails, &leads, &closes, &misses] {
        receiver.mend();
    }
    std::fs::write(trail.path("ca.pem"), &other.ca_pem).unwrap();
    trail.start();
    let all = [&refused, &unreached, &hangs, &fails, &leads, &closes, &untrusted];
    for receiver in all {
        let found = comes(receiver, "key_destroyed").await;
        let found = if words(&found).contains(&"gate_open") {
            found
        } else {
            comes(receiver, "gate_open").await
        };
        are_in_order(&found);
        assert_eq!(words(&found)[0], "notifications_begun");
        assert!(has_in_order(&words(&found), &TOLD[..7]), "{:?}", words(&found));
        assert!(has_in_order(&words(&found), &["gate_shut", "gate_open"]), "{:?}", words(&found));
    }
    // Each was told the same of each journal, whatever it did. How the events of two journals fall between each other is
    // promised to nobody: it follows from what was on disk when the trail looked.
    let told = |receiver: &Receiver| -> Vec<Value> {
        let mut found = events(receiver);
        found.retain(|event| event["seq"].is_u64());
        // Stable: of one journal they keep the order in which they came.
        found.sort_by_key(|event| event["journal"].to_string());
        found
    };
    // What a gate did last may have reached some of them only.
    eventually("each was told the same", || async {
        let first = told(&refused);
        all.iter().all(|receiver| told(receiver) == first).then_some(())
    })
    .await;
    assert!(elsewhere.sent().is_empty(), "a redirect was followed");
    assert!(fails.accepted().iter().all(|sent| sent.path == "/hook?a=b"));

    let found = told(&refused);
    let of = |word: &str| found.iter().find(|event| event["event"] == word).unwrap();
    assert_eq!(of("frozen")["data"]["frozen"], true);
    assert_eq!(of("unfrozen")["data"]["frozen"], false);
    assert_eq!(of("session_begun")["data"]["approvers"].as_array().unwrap().len(), 2);
    assert_eq!(of("session_ended")["data"]["signatures"], 5);
    assert_eq!(of("key_destroyed")["data"]["emergency_kid"], EMERGENCY_KID);
    assert!(found.iter().all(|event| event["instance"] == "eu-1"));

    // Slack gets one line each, in which nobody is mentioned.
    let lines = eventually("the key's end in Slack", || async {
        let sent = misses.accepted();
        let lines: Vec<_> =
            sent.iter().map(|sent| sent.json()["text"].as_str().unwrap().to_owned()).collect();
        lines.iter().any(|line| line.contains("is destroyed")).then_some(lines)
    })
    .await;
    let frozen = lines.iter().find(|line| line.contains("Signing is frozen")).unwrap();
    assert!(frozen.starts_with("[eu-1] ") && frozen.contains("INC &lt;!channel&gt; 7"), "{frozen}");

    let (_, status) = eventually("nothing kept back", || async {
        let (output, status) = trail.status().await;
        output.status.success().then_some((output, status))
    })
    .await;
    assert_eq!(status["notifications"].as_array().unwrap().len(), 8, "{status}");
    // No secret leaves by the log, the metrics or the status.
    let metrics = super::scraped(&trail).await;
    let log = trail.process().output();
    for secret in ["very-secret", "whsec_", "bm90aWZpY2F0aW9u"] {
        for said in [&metrics, &log, &status.to_string()] {
            assert!(!said.contains(secret), "{secret}: {said}");
        }
    }
    assert!(
        metrics.contains("audit_trail_notification_blocked{destination=\"hangs\"} 0"),
        "{metrics}"
    );
}

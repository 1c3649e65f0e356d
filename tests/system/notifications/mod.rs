//! Notifications and annotations: real journals, receivers that are away in every way, a trail that
//! is killed, and a policy service whose verdicts are kept.

mod begins;
mod ceremony;
mod checks;
mod kills;
mod policy;
mod sees;

use std::collections::BTreeMap;
use std::path::PathBuf;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use system_tests::{Receiver, Sent, World, eventually};

/// The key of all webhooks here.
const KEY: &str = "whsec_bm90aWZpY2F0aW9ucyBhcmUgc2lnbmVkIHdpdGggdGhpcw==";
/// The line of a webhook that names it.
const SIGNED: &str = "hmac_key_file = \"hmac.key\"";
/// The file that it names.
const KEY_FILE: (&str, &str) = ("hmac.key", KEY);

/// Lines of a webhook in our form.
fn json_at(url: &str) -> String {
    format!("{SIGNED}\nurl = {url:?}")
}

/// The proxy's journal.
fn journal_of(world: &World) -> PathBuf {
    world.scratch.path("proxy/journal")
}

/// What a receiver accepted, each event once, in the order of its first coming. Every signature is checked, and
/// what comes twice is the same.
fn events(receiver: &Receiver) -> Vec<Value> {
    let mut seen: BTreeMap<String, Value> = BTreeMap::new();
    let mut found = Vec::new();
    for sent in receiver.accepted() {
        is_signed(&sent);
        let body = sent.json();
        let id = body["id"].as_str().unwrap().to_owned();
        match seen.get(&id) {
            Some(before) => assert_eq!(*before, body, "the same id, and another body"),
            None => {
                seen.insert(id, body.clone());
                found.push(body);
            }
        }
    }
    found
}

/// Checks the signature as docs/operating/notifications.md says.
fn is_signed(sent: &Sent) {
    let key = STANDARD.decode(KEY.strip_prefix("whsec_").unwrap()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let (id, at) = (sent.header("webhook-id"), sent.header("webhook-timestamp"));
    let content = [format!("{id}.{at}.").as_bytes(), &sent.body].concat();
    let signature = sent.header("webhook-signature").strip_prefix("v1,").unwrap();
    hmac::verify(&key, &content, &STANDARD.decode(signature).unwrap()).unwrap();
    assert_eq!(sent.json()["id"], id);
    let age = time::OffsetDateTime::now_utc().unix_timestamp() - at.parse::<i64>().unwrap();
    assert!((-5..300).contains(&age), "signed {age} s ago");
}

/// The words of events.
fn words(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

/// Waits until a receiver has accepted an event; all that it has accepted by then.
async fn comes(receiver: &Receiver, word: &str) -> Vec<Value> {
    eventually(&format!("the event {word}"), || async {
        let events = events(receiver);
        words(&events).contains(&word).then_some(events)
    })
    .await
}

/// Of each journal, events come in the order of its records.
fn are_in_order(events: &[Value]) {
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    for event in events {
        let Some(seq) = event["seq"].as_u64() else { continue };
        let before = newest.insert(event["log"].as_str().unwrap(), seq).unwrap_or(0);
        assert!(before <= seq, "record {before} came before record {seq}: {event}");
    }
}

/// The trail's metrics.
async fn scraped(trail: &system_tests::trail::Trail) -> String {
    system_tests::client::plain(&trail.metrics().await, "/metrics").await.text
}

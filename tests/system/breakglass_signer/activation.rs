//! An activation through the process: what of I5 and of the cheats of an operator's day is
//! refused, by which word, and that it is recorded and uses up nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use system_tests::Tail;
use system_tests::breakglass::{
    NAMESPACE, PASSPHRASE, Signer, Wire, activation, approve_with, nonce, sign,
};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::session::{checked, in_seconds};
use super::{KID, Site};

pub(super) fn word(answer: &Value) -> &str {
    answer["refused"]["reason"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

/// Asks with these bytes and approvals of `who`.
async fn asked(
    signer: &Signer<'_>,
    proxy: &mut Wire,
    bytes: &[u8],
    who: &[&str],
    request: &Value,
) -> Value {
    let approvals: Vec<_> = who.iter().map(|name| signer.approve(name, bytes)).collect();
    proxy.ask(activation(bytes, &approvals, request)).await
}

#[tokio::test]
async fn i5_while_the_proxy_says_that_it_is_frozen_only_a_request_that_names_that_freeze_begins() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let mut request = signer.request();
    let frozen = |request: &Value| {
        let mut ask = signer.activation(request);
        ask["activate"]["freeze"] = json!("01010101010101010101010101010101");
        ask
    };
    signer.unlock().await;
    for named in [Value::Null, json!("02020202020202020202020202020202")] {
        if named.is_string() {
            request["under_freeze"] = named;
        }
        let answer = proxy.ask(frozen(&request)).await;
        assert_eq!(word(&answer), "other_freeze", "{answer}");
    }
    // The bytes are approved as they are: a proxy cannot add the name.
    request["under_freeze"] = json!("01010101010101010101010101010101");
    let mut forged = frozen(&request);
    let approved = serde_json::to_vec_pretty(&signer.request()).unwrap();
    forged["activate"]["approvals_b64"] =
        json!(["security", "finance"].map(|who| STANDARD.encode(signer.approve(who, &approved))));
    assert_eq!(word(&proxy.ask(forged).await), "approval_invalid");
    // The passphrase still waits.
    let answer = proxy.ask(frozen(&request)).await;
    assert_eq!(
        answer["activated"]["session"]["under_freeze"], "01010101010101010101010101010101",
        "{answer}"
    );
}

#[tokio::test]
async fn i5_every_cheat_is_refused_by_name_recorded_and_uses_up_nothing() {
    let site = Site::new();
    let signer = site.signer().caps("session_max_s = 7200\nsignatures_max = 5000").start().await;
    let mut proxy = signer.connect().await;
    let request = signer.request();
    let good = serde_json::to_vec_pretty(&request).unwrap();
    let changed = |key: &str, value: Value| {
        let mut changed = request.clone();
        changed[key] = value;
        serde_json::to_vec_pretty(&changed).unwrap()
    };
    let both = ["security", "finance"];
    let mut refused = 0;
    for (bytes, who, expected) in [
        (changed("audience", json!("another")), &both[..], "other_audience"),
        (changed("instances", json!(["0".repeat(64)])), &both, "other_instance"),
        (changed("emergency_kid", json!("another")), &both, "key_unknown"),
        (changed("emergency_key_sha256", json!("0".repeat(64))), &both, "key_mismatch"),
        (changed("replaces", json!(["emergency"])), &both, "replaces_unknown"),
        (changed("not_before", json!(in_seconds(60))), &both, "not_yet_valid"),
        // Yesterday's approval.
        (
            {
                let mut old = request.clone();
                old["outage_since"] = json!("2026-01-01T00:00:00Z");
                old["not_before"] = json!("2026-01-01T10:00:00Z");
                old["expires_at"] = json!("2026-01-01T11:00:00Z");
                serde_json::to_vec(&old).unwrap()
            },
            &both,
            "expired",
        ),
        (changed("expires_at", json!(in_seconds(7300))), &both, "session_too_long"),
        (changed("max_signatures", json!(5001)), &both, "quota_too_large"),
        (changed("outage_since", json!(in_seconds(-30))), &both, "outage_too_short"),
        (changed("more", json!(1)), &both, "request_invalid"),
        (b"{}".to_vec(), &both, "request_invalid"),
        (good.clone(), &["security"], "role_missing"),
        (good.clone(), &[], "role_missing"),
        (good.clone(), &["security", "security"], "same_key"),
    ] {
        let answer = asked(&signer, &mut proxy, &bytes, who, &request).await;
        assert_eq!(word(&answer), expected, "{answer}");
        assert!(answer["refused"]["record"].is_object(), "{answer}");
        refused += 1;
    }
    // One byte changed after it was signed, in every way that a mail does it.
    let approvals = both.map(|name| signer.approve(name, &good));
    let text = String::from_utf8(good.clone()).unwrap();
    for edited in [
        text.replace("\"max_signatures\": 1000", "\"max_signatures\": 1001"),
        text.replace('\n', "\r\n"),
        format!("{text}\n"),
        format!("{text} "),
    ] {
        let answer = proxy.ask(activation(edited.as_bytes(), &approvals, &request)).await;
        assert_eq!(word(&answer), "approval_invalid", "{answer}");
        refused += 1;
    }
    let found = checked(&signer, &[], Tail::Whole);
    assert_eq!(found["types"]["session_refused"], refused, "{found}");
    // None of that burnt anything. It may be slow, since so many were asked for.
    let began = std::time::Instant::now();
    signer.unlock().await;
    let answer = loop {
        let answer = proxy.ask(activation(&good, &approvals, &request)).await;
        if answer["refused"]["reason"] != "overloaded" {
            break answer;
        }
        assert!(began.elapsed().as_secs() < 30, "{answer}");
    };
    assert!(answer["activated"].is_object(), "{answer}");
}

#[tokio::test]
async fn i5_a_typo_burns_nothing_and_a_used_request_is_used() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let request = signer.request();
    let ask = signer.activation(&request);
    let locked = proxy.ask(ask.clone()).await;
    assert_eq!(word(&locked), "locked", "{locked}");
    let (unlocked, said) = signer.unlock_with("correct horse battery stable").await;
    assert!(unlocked, "{said}");
    let wrong = proxy.ask(ask.clone()).await;
    assert_eq!(word(&wrong), "passphrase_wrong", "{wrong}");
    // A passphrase is used once, the wrong one too.
    assert_eq!(word(&proxy.ask(ask.clone()).await), "locked");
    signer.unlock().await;
    let activated = proxy.ask(ask.clone()).await;
    let session = activated["activated"]["session"]["session"].as_str().unwrap().to_owned();
    assert_eq!(word(&proxy.ask(ask.clone()).await), "nonce_used");
    // Another one while one is in force.
    let other = proxy.ask(signer.activation(&signer.request())).await;
    assert_eq!(word(&other), "session_in_force", "{other}");
    assert!(proxy.sign(&session, KID, b"hello").await["signed"].is_object());
    proxy.ask(json!({"end": {"reason": "over", "by": "uid 0"}})).await;
    signer.unlock().await;
    let again = proxy.ask(ask).await;
    assert_eq!(word(&again), "nonce_used", "{again}");
    let found = checked(&signer, &[], Tail::Whole);
    assert_eq!(
        (&found["types"]["session_activated"], &found["types"]["session_refused"]),
        (&json!(1), &json!(6))
    );
}

#[tokio::test]
async fn i5_of_two_activations_at_once_one_wins_and_both_are_recorded() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let (mut one, mut other) = (signer.connect().await, signer.connect().await);
    let asks = [signer.activation(&signer.request()), signer.activation(&signer.request())];
    signer.unlock().await;
    let [first, second] = asks;
    let (first, second) = tokio::join!(one.ask(first), other.ask(second));
    let won = [&first, &second].iter().filter(|answer| answer["activated"].is_object()).count();
    assert_eq!(won, 1, "{first} {second}");
    let lost = if first["activated"].is_object() { &second } else { &first };
    assert!(["session_in_force", "locked"].contains(&word(lost)), "{lost}");
    let found = checked(&signer, &[], Tail::Whole);
    assert_eq!(
        (&found["types"]["session_activated"], &found["types"]["session_refused"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test]
async fn i11_a_proxy_that_sees_no_outage_activates_nothing() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let good = signer.activation(&signer.request());
    for outages in [
        json!([]),
        json!([{"signer_kid": KID, "since": in_seconds(-59), "seconds": 59}]),
        json!([{"signer_kid": "other", "since": in_seconds(-3600), "seconds": 3600}]),
    ] {
        let mut ask = good.clone();
        ask["activate"]["outages"] = outages;
        assert_eq!(word(&proxy.ask(ask).await), "outage_not_observed");
    }
    // Exactly the minimum is one.
    let mut ask = good;
    ask["activate"]["outages"] =
        json!([{"signer_kid": KID, "since": in_seconds(-60), "seconds": 60}]);
    assert_eq!(word(&proxy.ask(ask).await), "locked");
}

#[tokio::test]
async fn i5_an_approvers_file_that_changed_refuses_until_a_restart() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let approvers = signer.builder.path("approvers");
    let before = std::fs::read(&approvers).unwrap();
    std::fs::write(&approvers, [&before[..], b"# a comment\n"].concat()).unwrap();
    let ask = signer.activation(&signer.request());
    assert_eq!(word(&proxy.ask(ask.clone()).await), "approvers_changed");
    // Another file in its place is another file.
    let new = signer.builder.path("approvers.new");
    std::fs::write(&new, &before).unwrap();
    std::fs::write(&approvers, &before).unwrap();
    assert_eq!(word(&proxy.ask(ask.clone()).await), "locked", "the same bytes are the same file");
    std::fs::remove_file(&approvers).unwrap();
    assert_eq!(word(&proxy.ask(ask).await), "approvers_changed");
}

#[tokio::test]
async fn what_is_no_hello_or_no_message_ends_the_connection() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let log = "0".repeat(32);
    for (first, expected) in [
        (json!({"hello": {"id": 1, "version": 1, "deployment": "test"}}), "mismatch"),
        (json!({"hello": {"id": 1, "version": 3, "deployment": "test", "log": log}}), "mismatch"),
        (json!({"hello": {"id": 1, "version": 2, "deployment": "other", "log": log}}), "mismatch"),
        (json!({"hello": {"id": 1, "version": 2, "deployment": "test", "log": "x"}}), "invalid"),
        (sign("s", KID, b"x"), "invalid"),
    ] {
        let mut wire = Wire::connect(&signer.socket()).await;
        wire.send(first).await;
        assert_eq!(word(&wire.next().await.unwrap()), expected);
        assert!(wire.next().await.is_none(), "the connection goes on");
    }
    for bytes in [&b"{}"[..], b"no json", b"{\"sign\":{}}", b"[]"] {
        let mut wire = signer.connect().await;
        wire.send_bytes(bytes).await;
        assert!(wire.next().await.is_none(), "{}", String::from_utf8_lossy(bytes));
    }
    assert!(signer.connect().await.ask(json!({"status": {}})).await["status"].is_object());
}

#[tokio::test]
async fn signctl_request_is_what_two_people_sign_and_the_signer_takes() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let known = signer.request();
    let file = signer.builder.path("request.json");
    let text = |key: &str| known[key].as_str().unwrap().to_owned();
    let mut signctl = std::process::Command::new(system_tests::programs::ours("signctl"));
    signctl.args(["--socket", "/nowhere", "breakglass", "request", "--incident", "INC-9"]);
    signctl.args(["--justification", "KMS is down", "--audience", "test", "--replaces", KID]);
    signctl.args([
        "--emergency-kid",
        "emergency",
        "--emergency-key-sha256",
        &text("emergency_key_sha256"),
    ]);
    signctl.args(["--instance", &signer.instance, "--callers", "spiffe://test/alice"]);
    signctl.args(["--outage-since", &text("outage_since"), "--not-before", &text("not_before")]);
    let output = signctl.arg("--out").arg(&file).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (approve, file_shown) = ("signctl breakglass approve", file.display());
    for line in [
        format!("Security: {approve} {file_shown} --key KEY"),
        format!("Finance: {approve} {file_shown} --key KEY"),
        format!("ssh-keygen -Y sign -n {NAMESPACE} -f KEY {file_shown}"),
    ] {
        assert!(said.contains(&line), "missing: {line}: {said}");
    }
    let bytes = std::fs::read(&file).unwrap();
    let approvals = ["security", "finance"]
        .map(|name| approve_with(&signer.builder.path(name), NAMESPACE, &bytes));
    signer.unlock().await;
    let request: Value = serde_json::from_slice(&bytes).unwrap();
    let answer = proxy.ask(activation(&bytes, &approvals, &request)).await;
    assert_eq!(answer["activated"]["session"]["incident"], "INC-9", "{answer}");
    assert_ne!(
        STANDARD.decode(request["nonce"].as_str().unwrap()).unwrap(),
        STANDARD.decode(nonce()).unwrap()
    );
}

#[tokio::test]
async fn guessing_passphrases_is_slow_and_none_is_written_down() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut slow = None;
    for number in 0..8 {
        let (unlocked, said) = signer.unlock_with(&format!("{PASSPHRASE} {number}")).await;
        if !unlocked {
            slow = Some(said);
            break;
        }
    }
    assert!(slow.unwrap().contains("too many passphrases"));
    let (unlocked, said) = signer.unlock_with("").await;
    assert!(!unlocked && said.contains("empty"), "{said}");
}

#[tokio::test]
async fn i5_a_used_request_is_not_usable_again_under_a_journal_that_was_begun_anew() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let request = signer.request();
    signer.activated(&mut proxy, &request).await;
    let builder = signer.builder.clone();
    drop(proxy);
    signer.stop().await;
    std::fs::remove_dir_all(builder.path("state")).unwrap();
    std::fs::remove_dir_all(builder.journal()).unwrap();
    // Within one second nobody has two approvals, a restart and an init.
    let second = OffsetDateTime::parse(request["not_before"].as_str().unwrap(), &Rfc3339).unwrap();
    system_tests::eventually("the next second", || {
        let later = OffsetDateTime::now_utc() > second + Duration::seconds(1);
        std::future::ready(later.then_some(()))
    })
    .await;
    let signer = builder.start().await;
    let mut proxy = signer.connect().await;
    signer.unlock().await;
    let again = proxy.ask(signer.activation(&request)).await;
    assert_eq!(word(&again), "nonce_used", "{again}");
    let detail = again["refused"]["detail"].as_str().unwrap();
    assert!(detail.contains("the oldest record of this signer's journal"), "{detail}");
    let found = checked(&signer, &[], Tail::Whole);
    assert_eq!(found["types"]["session_refused"], 1, "{found}");
    signer.activated(&mut proxy, &signer.request()).await;
}

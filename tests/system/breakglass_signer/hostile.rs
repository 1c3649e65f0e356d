//! What code that took over the proxy gets out of `signer.sock`, ask by ask: the lines of SECURITY.md.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use system_tests::breakglass::{EMERGENCY_KID, PASSPHRASE, Signer, Wire, activation, sign};
use system_tests::programs::ours;
use system_tests::{Tail, eventually};

use super::session::{checked, session_ended};
use super::{KID, Site};

/// Connections that the signer serves at once.
const PROXIES_MAX: usize = 8;
/// Activations in a row that are looked at.
const ACTIVATIONS_MAX: usize = 20;

fn refused<'a>(answer: &'a Value, reason: &str) -> &'a str {
    assert_eq!(answer["refused"]["reason"], reason, "{answer}");
    answer["refused"]["detail"].as_str().unwrap()
}

/// What the records of a type say.
fn records(signer: &Signer<'_>, kind: &str) -> Vec<Value> {
    crate::breakglass::records(&signer.builder.journal(), kind)
}

async fn state(proxy: &mut Wire) -> Value {
    proxy.ask(json!({"status": {}})).await["status"]["state"].clone()
}

async fn destroy(proxy: &mut Wire, kid: &str) -> Value {
    let ask = json!({"destroy": {"emergency_kid": kid, "reason": "mine", "by": "uid 0 (root)"}});
    proxy.ask(ask).await
}

/// `signctl breakglass ARGUMENTS` at the signer's own socket.
pub(super) async fn operator(signer: &Signer<'_>, arguments: &[&str]) -> (bool, Value) {
    let mut signctl = Command::new(ours("signctl"));
    signctl.args(["--json", "breakglass"]).args(arguments).arg("--operator-socket");
    signctl.arg(signer.operator_socket());
    let output = tokio::task::spawn_blocking(move || signctl.output().unwrap()).await.unwrap();
    let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.success(), said)
}

#[tokio::test]
async fn a_hostile_proxy_learns_how_the_signer_is_and_no_secret() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let session = signer.activated(&mut proxy, &signer.request()).await;
    signer.unlock().await;
    let state = state(&mut proxy).await;
    assert_eq!(state["session"]["session"], session, "{state}");
    let said: Vec<_> = state.as_object().unwrap().keys().map(String::as_str).collect();
    let mut known = [
        "instance",
        "deployment",
        "signer_version",
        "audit_public_key",
        "audit_kid",
        "head",
        "session",
        "keys",
        "unlocked",
        "min_outage_s",
        "session_max_s",
        "signatures_max",
        "signatures_per_second_max",
        "required_roles",
        "approvers_sha256",
        "hardware_required",
        "development",
    ];
    known.sort_unstable();
    let mut said = said;
    said.sort_unstable();
    assert_eq!(said, known, "what is new here is new to a hostile proxy too");
    let text = state.to_string();
    assert!(!text.contains(PASSPHRASE) && !text.contains("PRIVATE"), "{text}");
}

#[tokio::test]
async fn a_hostile_proxy_activates_nothing_by_itself_and_uses_up_neither_passphrase_nor_request() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    signer.unlock().await;
    let request = signer.request();
    let bytes = serde_json::to_vec_pretty(&request).unwrap();
    let (mut looked_at, mut put_off) = (0, 0);
    for _ in 0..3 * ACTIVATIONS_MAX {
        let answer = proxy.ask(activation(&bytes, &[], &request)).await;
        match answer["refused"]["reason"].as_str().unwrap() {
            "role_missing" => looked_at += 1,
            "overloaded" => put_off += 1,
            other => panic!("{other}: {answer}"),
        }
    }
    // One more comes back every few seconds, however slow this machine is.
    assert!((ACTIVATIONS_MAX..2 * ACTIVATIONS_MAX).contains(&looked_at), "{looked_at}");
    assert!(put_off > 0);
    // So little fills no disk.
    assert_eq!(records(&signer, "session_refused").len(), looked_at);
    assert_eq!(records(&signer, "session_activated").len(), 0);
    assert_eq!(state(&mut proxy).await["unlocked"], true);
    // What two people approved is still good, once there is a turn.
    let papers = signer.activation(&request);
    eventually("a turn", || {
        let (papers, signer) = (papers.clone(), &signer);
        async move {
            let mut proxy = signer.connect().await;
            let answer = proxy.ask(papers).await;
            if answer["refused"]["reason"] == "overloaded" {
                return None;
            }
            assert!(answer["activated"].is_object(), "{answer}");
            Some(())
        }
    })
    .await;
}

#[tokio::test]
async fn a_hostile_proxy_claims_any_outage_and_it_is_recorded_as_a_claim() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    signer.activated(&mut proxy, &signer.request()).await;
    let data = &records(&signer, "session_activated")[0];
    assert_eq!(data["claimed"][0]["seconds"], 3600, "{data}");
    assert_ne!(
        data["claimed"][0]["since"], data["outage_since"],
        "what the approvers attest is apart"
    );
}

#[tokio::test]
async fn a_hostile_proxy_spends_the_approved_quota_in_any_approved_callers_name_and_no_more() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let mut request = signer.request();
    let (alice, bob) = ("spiffe://test/alice", "spiffe://test/bob");
    request["callers"] = json!([alice, bob]);
    request["max_signatures"] = json!(3);
    let session = signer.activated(&mut proxy, &request).await;
    let asks = |caller: &str| {
        let mut ask = sign(&session, KID, b"pay it all to me");
        ask["sign"]["caller"] = json!(caller);
        ask
    };
    // Another connection of the same user has no session.
    let mut beside = signer.connect().await;
    refused(&beside.ask(asks(alice)).await, "no_session");
    refused(&proxy.ask(asks("spiffe://test/carol")).await, "out_of_scope");
    let mut elsewhere = asks(alice);
    elsewhere["sign"]["signer_kid"] = json!("salaries");
    refused(&proxy.ask(elsewhere).await, "out_of_scope");
    for caller in [alice, bob, bob] {
        let answer = proxy.ask(asks(caller)).await;
        assert!(answer["signed"].is_object(), "{answer}");
    }
    refused(&proxy.ask(asks(alice)).await, "no_session");
    assert_eq!(session_ended_since(&signer).await["reason"], "quota_exhausted");
    // Each has its record, in the name that was said.
    let signed = records(&signer, "emergency_signed");
    let callers: Vec<_> = signed.iter().map(|one| one["caller"].clone()).collect();
    assert_eq!(callers, [alice, bob, bob]);
    // The papers are used up.
    signer.unlock().await;
    refused(&proxy.ask(signer.activation(&request)).await, "nonce_used");
    checked(&signer, &[], Tail::Whole);
}

async fn session_ended_since(signer: &Signer<'_>) -> Value {
    eventually("the end is recorded", || {
        std::future::ready(records(signer, "session_ended").into_iter().next())
    })
    .await
}

#[tokio::test]
async fn a_hostile_proxy_ends_a_session_in_anybodys_name_and_begins_none_with_it() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let mut beside = signer.connect().await;
    let request = signer.request();
    let session = signer.activated(&mut proxy, &request).await;
    let ended = beside.ask(json!({"end": {"reason": "mine", "by": "uid 0 (root)"}})).await;
    assert_eq!(ended["ended"]["session"], session, "{ended}");
    assert_eq!(session_ended(&mut proxy).await["session"], session);
    // As the proxy says it: only what comes by the operator's socket is the kernel's word.
    let by = &records(&signer, "session_ended")[0]["by"];
    assert_eq!(by, "uid 0 (root)");
    signer.unlock().await;
    refused(&proxy.ask(signer.activation(&request)).await, "nonce_used");
    refused(&beside.ask(json!({"end": {"reason": "again", "by": "x"}})).await, "no_session");
}

#[tokio::test]
async fn a_hostile_proxy_destroys_no_key_that_no_session_used_and_an_operator_does() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let file = signer.builder.path("emergency.pem");
    let sealed = std::fs::read(&file).unwrap();
    for _ in 0..20 {
        let no = destroy(&mut proxy, EMERGENCY_KID).await;
        let why = refused(&no, "out_of_scope");
        assert!(why.contains("not due") && why.contains("--operator-socket"), "{why}");
    }
    for kid in ["nobody", "", "../emergency", &"x".repeat(60_000)] {
        refused(&destroy(&mut proxy, kid).await, "out_of_scope");
    }
    assert_eq!(std::fs::read(&file).unwrap(), sealed);
    let key = state(&mut proxy).await["keys"][0].clone();
    assert!(key["state"] == "sealed" && key["destruction_due"].is_null(), "{key}");
    assert_eq!(records(&signer, "key_destroyed").len(), 0);
    let told = signer.process.output().matches("a destruction is refused").count();
    assert!((1..=10).contains(&told), "{told} lines in the log");
    // It still opens.
    let request = signer.request();
    signer.activated(&mut proxy, &request).await;
    // Nor by the operator while a session uses it.
    let reason = ["destroy", EMERGENCY_KID, "--reason", "the passphrase leaked"];
    let (good, said) = operator(&signer, &reason).await;
    assert!(!good && said["detail"].as_str().unwrap().contains("a session uses"), "{said}");
    refused(&destroy(&mut proxy, EMERGENCY_KID).await, "out_of_scope");
    assert_eq!(std::fs::read(&file).unwrap(), sealed);
}

#[tokio::test]
async fn an_operator_destroys_a_key_that_no_session_used_by_the_kernels_word() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let file = signer.builder.path("emergency.pem");
    for (arguments, words) in [
        (["destroy", EMERGENCY_KID, "--reason", " "], "one line"),
        (["destroy", "nobody", "--reason", "x"], "holds no emergency key nobody"),
    ] {
        let (good, said) = operator(&signer, &arguments).await;
        assert!(!good && said["destroyed"] == false, "{said}");
        assert!(said["detail"].as_str().unwrap().contains(words), "{said}");
    }
    assert!(file.exists());
    // With --signers it is revoked first, as through the proxy.
    let registry = signer.builder.path("signers.json");
    let reason = [
        "destroy",
        EMERGENCY_KID,
        "--reason",
        "it leaked",
        "--signers",
        registry.to_str().unwrap(),
    ];
    let (good, said) = operator(&signer, &reason).await;
    assert!(good && said["destroyed"] == true && said["overwritten"] == true, "{said}");
    assert!(!file.exists());
    assert!(std::fs::read_to_string(&registry).unwrap().contains("revokedAt"));
    let data = &records(&signer, "key_destroyed")[0];
    assert_eq!(
        (&data["by"], &data["reason"]),
        (&json!("uid 0 (root) at the operator socket"), &json!("it leaked"))
    );
    signer.unlock().await;
    let no = proxy.ask(signer.activation(&signer.request())).await;
    assert_eq!(no["refused"]["reason"], "key_destroyed", "{no}");
    let why = destroy(&mut proxy, EMERGENCY_KID).await;
    assert!(refused(&why, "out_of_scope").contains("destroyed already"), "{why}");
    assert_eq!(records(&signer, "key_destroyed").len(), 1);
    checked(&signer, &[], Tail::Whole);
}

#[tokio::test]
async fn a_hostile_proxy_destroys_a_key_that_a_session_used_and_that_has_to_go_anyway() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    signer.activated(&mut proxy, &signer.request()).await;
    proxy.ask(json!({"end": {"reason": "mine", "by": "me"}})).await;
    let destroyed = destroy(&mut proxy, EMERGENCY_KID).await;
    assert_eq!(destroyed["destroyed"]["overwritten"], true, "{destroyed}");
    let by = &records(&signer, "key_destroyed")[0]["by"];
    assert_eq!(by, "uid 0 (root)", "a claim, without the operator socket's words");
}

#[tokio::test]
async fn a_hostile_proxy_that_takes_every_place_and_floods_them_keeps_no_operator_from_the_end() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let mut proxy = signer.connect().await;
    let session = signer.activated(&mut proxy, &signer.request()).await;
    let mut floods = Vec::new();
    for number in 0..PROXIES_MAX - 1 {
        let mut wire = signer.connect().await;
        // Never reads again.
        floods.push(tokio::spawn(async move {
            let ask = match number % 3 {
                0 => json!({"status": {}}),
                1 => sign("INC-7-00000000", KID, &[7; 30_000]),
                _ => json!({"destroy": {"emergency_kid": EMERGENCY_KID, "reason": "x", "by": "x"}}),
            };
            loop {
                wire.send(ask.clone()).await;
            }
        }));
    }
    // One more has no place.
    let mut more = Wire::connect(&signer.socket()).await;
    more.send(signer.hello()).await;
    assert!(more.next().await.is_none());
    let began = Instant::now();
    let (good, held) = operator(&signer, &["status"]).await;
    assert!(good && held["session"]["session"] == session, "{held}");
    let (good, ended) = operator(&signer, &["end", "--reason", "it is not to be believed"]).await;
    assert!(good && ended["session"] == session, "{ended}");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    for flood in floods {
        flood.abort();
    }
}

#[tokio::test]
async fn a_hostile_proxy_that_sends_what_is_no_message_loses_its_connection_and_its_session() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let rubbish = [
        b"{}".to_vec(),
        b"[]".to_vec(),
        vec![0; 60_000],
        br#"{"unlock":{"id":1,"passphrase":"x"}}"#.to_vec(),
        json!({"sign": {"id": 1, "session": "x"}}).to_string().into_bytes(),
    ];
    for bytes in rubbish {
        let mut proxy = signer.connect().await;
        let session = signer.activated(&mut proxy, &signer.request()).await;
        proxy.send_bytes(&bytes).await;
        while proxy.next().await.is_some() {}
        let mut again = signer.connect().await;
        eventually("the session is over", || {
            let ended = records(&signer, "session_ended")
                .into_iter()
                .any(|data| data["session"] == session && data["reason"] == "proxy_gone");
            std::future::ready(ended.then_some(()))
        })
        .await;
        assert_eq!(state(&mut again).await["session"], Value::Null);
    }
}

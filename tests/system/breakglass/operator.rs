//! The emergency signer's own socket: an operator ends a session and sees what is armed, past a proxy
//! that hangs, and nobody else does.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use system_tests::breakglass::Signer;
use system_tests::programs::{ours, system};
use system_tests::{Happens, Strace, When, eventually};

use super::{KID, Site, end, ended_for, metric_is, over, records, status};
use crate::ALICE;

const REASON: &str = "the proxy hangs, INC-7";

/// `signctl breakglass ARGUMENTS` at the signer's own socket.
async fn asks(signer: &Signer<'_>, arguments: &[&str]) -> Output {
    let mut signctl = std::process::Command::new(ours("signctl"));
    signctl.arg("breakglass").args(arguments).arg("--operator-socket");
    signctl.arg(signer.operator_socket());
    tokio::task::spawn_blocking(move || signctl.output().unwrap()).await.unwrap()
}

async fn asks_json(signer: &Signer<'_>, arguments: &[&str]) -> (bool, Value) {
    let output = asks(signer, &[arguments, &["--json"]].concat()).await;
    let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.success(), said)
}

fn words(output: &Output) -> (bool, String) {
    let said = [&output.stdout[..], &output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn i12_an_operator_ends_a_session_at_the_signer_though_the_proxy_hangs() {
    let site = Site::new();
    let (signer, proxy, session) = site.in_session().await;
    let alice = proxy.client(ALICE).await;
    assert_eq!(alice.sign_message(KID, b"hi").await.status, 200);
    proxy.process.signal(Signal::SIGSTOP);
    let (good, held) = asks_json(&signer, &["status"]).await;
    assert!(good, "{held}");
    assert_eq!(held["session"]["session"], session["session"], "{held}");
    assert_eq!(held["session"]["remaining"], 999, "{held}");
    let key = |held: &Value| held["signer"]["keys"][0]["state"].clone();
    assert_eq!((key(&held), &held["signer"]["unlocked"]), (json!("open"), &json!(false)));
    let (good, said) = words(&asks(&signer, &["status"]).await);
    assert!(good && said.contains("999 of 1000 signatures are left"), "{said}");
    let (good, ended) = asks_json(&signer, &["end", "--reason", REASON]).await;
    assert!(good, "{ended}");
    assert_eq!((&ended["ended"], &ended["session"]), (&json!(true), &session["session"]));
    assert!(ended["destruction_due"].is_string() && ended["signer_record"].is_string(), "{ended}");
    // Over at the signer, on disk, by whom the kernel names, while the proxy still stands.
    let theirs = records(&signer.builder.journal(), "session_ended");
    assert_eq!(theirs.len(), 1, "{theirs:?}");
    for (key, value) in
        [("by", "uid 0 (root) at the operator socket"), ("reason", "operator"), ("detail", REASON)]
    {
        assert_eq!(theirs[0][key], value, "{theirs:?}");
    }
    let (_, held) = asks_json(&signer, &["status"]).await;
    assert!(held["session"].is_null() && key(&held) == "sealed", "{held}");
    assert!(held["signer"]["keys"][0]["destruction_due"].is_string(), "{held}");
    // There is none any more, and that is said.
    let (good, said) = words(&asks(&signer, &["end", "--reason", REASON]).await);
    assert_eq!((good, said.trim()), (false, "signctl: no_session: no session is in force"));
    let (good, said) = asks_json(&signer, &["end", "--reason", REASON]).await;
    assert_eq!(
        (good, &said["ended"], &said["reason"]),
        (false, &json!(false), &json!("no_session"))
    );
    // The proxy hears of it as soon as it hears anything.
    proxy.process.signal(Signal::SIGCONT);
    over(&proxy).await;
    let ours = ended_for(&site, "operator").await;
    assert_eq!(ours["detail"], REASON, "{ours}");
    assert_eq!(alice.sign_message(KID, b"hi").await.reason(), "upstream_unhealthy");
}

#[tokio::test]
async fn i12_an_end_at_the_signer_has_the_proxy_back_to_normal_at_once() {
    let site = Site::new();
    let (signer, proxy, session) = site.in_session().await;
    let alice = proxy.client(ALICE).await;
    site.key.mend();
    metric_is(&proxy, "breakglass_upstream_recovered", 1.0).await;
    assert_eq!(alice.sign_message(KID, b"hi").await.body["mode"], "breakglass");
    let (good, said) = words(&asks(&signer, &["end", "--reason", REASON]).await);
    let began = Instant::now();
    let name = session["session"].as_str().unwrap();
    assert!(good && said.starts_with(&format!("the session {name} is over")), "{said}");
    let signed = eventually("a signature of the upstream's", || async {
        let answer = alice.sign_message(KID, b"hi").await;
        (answer.body["mode"] == "normal").then_some(answer)
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!((signed.status, &signed.body["signer_kid"]), (200, &json!(KID)), "{}", signed.text);
    assert!(status(&proxy).await["session"].is_null());
    assert_eq!(end(&proxy).await.status, 409, "there is none to end");
}

#[tokio::test]
async fn i12_nobody_else_ends_or_looks_and_an_end_has_a_reason() {
    let site = Site::new();
    let (signer, proxy, session) = site.in_session().await;
    // Let anyone connect: then SO_PEERCRED alone decides.
    for path in [site.world.scratch.dir(), &signer.builder.path("")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let anyone = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(signer.operator_socket(), anyone).unwrap();
    // A copy, since the tests' directory may be closed to others.
    let copy = site.world.scratch.path("signctl");
    std::fs::copy(ours("signctl"), &copy).unwrap();
    for arguments in [&["end", "--reason", "mine"][..], &["status"]] {
        let mut stranger = system("setpriv");
        stranger.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&copy);
        stranger.arg("breakglass").args(arguments).arg("--operator-socket");
        let (good, said) = words(&stranger.arg(signer.operator_socket()).output().unwrap());
        assert!(!good && said.contains("operator.allowed_uids"), "{said}");
        assert!(said.contains("uid 65534 (nobody)"), "{said}");
    }
    let log = signer.process.says("refused: allowed_uids").await;
    assert!(log.contains("uid 65534 (nobody)"), "{log}");
    let too_long = "x".repeat(1025);
    for reason in ["", "  ", "two\nlines", &too_long] {
        let (good, said) = words(&asks(&signer, &["end", "--reason", reason]).await);
        assert!(!good && said.contains("one line of 1 to 1024 bytes"), "{said}");
    }
    assert_eq!(status(&proxy).await["signer"]["session"]["session"], session["session"]);
    assert_eq!(proxy.client(ALICE).await.sign_message(KID, b"hi").await.status, 200);
    let unlocks = records(&signer.builder.journal(), "unlock");
    assert_eq!(unlocks[0]["by"], "uid 0 (root)", "{unlocks:?}");
    let inits = records(&signer.builder.journal(), "init");
    assert_eq!(inits[0]["by"], "uid 0 (root)", "{inits:?}");
}

#[tokio::test]
async fn i12_an_end_at_the_signer_does_not_miss_an_activation_that_is_under_way() {
    let site = Site::new();
    let builder = site.signer();
    drop(builder.command());
    let segment = builder.journal().join("00000000000000000001.journal");
    let delays = Happens::Delays(Duration::from_millis(900));
    let trace = site.world.scratch.path("trace");
    let strace = Strace::inject("fdatasync", delays, When::From(1), &trace).on(&segment);
    let signer = builder.try_start(Some(&strace)).await.unwrap();
    let mut wire = signer.connect().await;
    signer.unlock().await;
    wire.send(signer.activation(&signer.request())).await;
    eventually("an activation that waits for the disk", || {
        let bytes = std::fs::read(&segment).unwrap();
        let written = bytes.windows(17).any(|window| window == b"session_activated");
        std::future::ready(written.then_some(()))
    })
    .await;
    let (_, held) = asks_json(&signer, &["status"]).await;
    assert!(held["session"].is_null(), "this test came too late: {held}");
    let (good, ended) = asks_json(&signer, &["end", "--reason", REASON]).await;
    assert!(good && ended["ended"] == true, "{ended}");
    let activated = wire.next().await.unwrap();
    assert!(activated["activated"].is_object(), "{activated}");
    let notice = wire.next().await.unwrap();
    assert_eq!(notice["session_ended"]["reason"], "operator", "{notice}");
    let session = notice["session_ended"]["session"].as_str().unwrap();
    let late = wire.sign(session, KID, b"late").await;
    assert_eq!(late["refused"]["reason"], "no_session", "{late}");
}

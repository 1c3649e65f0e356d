//! A signer that lies: what stands between it and the proxy changes its answers. Doubt ends the
//! session, and nothing leaves.

use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use system_tests::Proxy;
use system_tests::breakglass::Signer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

use super::{KID, Site, activated, connected, ended_at, ended_for, metric_is, over, records};
use crate::ALICE;

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    /// A signature by another key.
    OtherKey,
    /// Its own signature of something said before.
    Stale,
    NoBase64,
    /// An answer of another kind.
    OtherAnswer,
    /// An answer to what nobody asked.
    Unasked,
    NoMessage,
    TooLong,
    /// The end of a session that is none.
    OtherSession,
    /// No answer.
    Silence,
    OtherDeployment,
    OtherAuditKey,
    OtherVersion,
    /// The activated session has another name.
    OtherName,
    /// Keys should have been destroyed long ago.
    Overdue,
    /// A proof of another log.
    FalseProof,
    NoProof,
    /// A checkpoint of before, and its proof.
    StaleLog,
    /// A checkpoint that its audit key did not sign.
    UnsignedLog,
    /// The instance of another audit key.
    OtherInstance,
    /// No word of its log.
    OtherThanLog,
}

/// Stands between the proxy and the signer.
struct Liar(Arc<Mutex<Lie>>);

impl Liar {
    fn start(site: &Site, lie: Lie) -> Self {
        let listener = UnixListener::bind(site.world.scratch.path("signer/liar.sock")).unwrap();
        let real = site.world.scratch.path("signer/signer.sock");
        let lies = Arc::new(Mutex::new(lie));
        let telling = Arc::clone(&lies);
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let Ok(far) = UnixStream::connect(&real).await else { continue };
                let (mut asks, near) = near.into_split();
                let (answers, mut far) = far.into_split();
                let telling = Arc::clone(&telling);
                tokio::spawn(async move { tokio::io::copy(&mut asks, &mut far).await });
                tokio::spawn(tell(answers, near, telling));
            }
        });
        Self(lies)
    }

    fn tells(&self, lie: Lie) {
        *self.0.lock().unwrap() = lie;
    }
}

async fn tell(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lies: Arc<Mutex<Lie>>) {
    let (mut stale, mut first_log) = (None, None);
    while let Ok(length) = from.read_u32_le().await {
        let mut bytes = vec![0; length as usize];
        if from.read_exact(&mut bytes).await.is_err() {
            return;
        }
        let mut answer: Value = serde_json::from_slice(&bytes).unwrap();
        let lie = *lies.lock().unwrap();
        let mut more = Vec::new();
        if let Some(welcome) = answer.get_mut("welcome") {
            match lie {
                Lie::OtherDeployment => welcome["state"]["deployment"] = json!("another"),
                Lie::OtherAuditKey => {
                    welcome["state"]["audit_public_key"] = json!(STANDARD.encode([7; 44]));
                }
                Lie::OtherVersion => welcome["version"] = json!(3),
                Lie::OtherInstance => welcome["state"]["instance"] = json!("5a".repeat(32)),
                _ => {}
            }
        }
        if answer["extends"].is_object() {
            lie_about_the_log(lie, &mut answer, &mut first_log);
        }
        if lie == Lie::Overdue && answer["status"].is_object() {
            let key = &mut answer["status"]["state"]["keys"][0];
            key["destruction_overdue"] = json!(true);
            key["destruction_due"] = json!("2026-01-01T00:00:00Z");
        }
        if lie == Lie::OtherName && answer["activated"].is_object() {
            answer["activated"]["session"]["session"] = json!("INC-8-00000000");
        }
        if answer["signed"].is_object() {
            let told = answer["signed"]["signature"].clone();
            let signed = &mut answer["signed"];
            match lie {
                Lie::OtherKey => {
                    let key = Ed25519KeyPair::generate().unwrap();
                    assert_eq!(key.public_key().as_ref().len(), 32);
                    signed["signature"] = json!(STANDARD.encode(key.sign(b"hi").as_ref()));
                }
                Lie::Stale => signed["signature"] = stale.clone().unwrap(),
                Lie::NoBase64 => signed["signature"] = json!("no base64!"),
                Lie::OtherAnswer => {
                    let (id, record) = (signed["id"].clone(), signed["record"].clone());
                    answer = json!({"ended": {
                        "id": id, "session": "x", "record": record, "destruction_due": "2030-01-01T00:00:00Z",
                    }});
                }
                Lie::Unasked => signed["id"] = json!(999_999_999_u64),
                Lie::NoMessage => {
                    more = [&7_u32.to_le_bytes()[..], b"{\"x\":1}"].concat();
                }
                Lie::TooLong => more = u32::MAX.to_le_bytes().to_vec(),
                Lie::OtherSession => {
                    let ended = json!({"session_ended": {
                        "session": "another", "reason": "expired", "detail": "x", "signatures": 0,
                        "destruction_due": "2030-01-01T00:00:00Z", "record": null,
                    }});
                    more = frame(&ended);
                }
                Lie::Silence => continue,
                _ => {}
            }
            stale = Some(told);
        }
        // What comes first is believed first.
        if to.write_all(&[more, frame(&answer)].concat()).await.is_err() {
            return;
        }
    }
}

fn lie_about_the_log(lie: Lie, answer: &mut Value, first: &mut Option<Value>) {
    let id = answer["extends"]["id"].clone();
    let shown = answer["extends"].clone();
    let shown = first.get_or_insert(shown);
    match lie {
        Lie::FalseProof => {
            let hashes = answer["extends"]["hashes"].as_array_mut().unwrap();
            assert!(!hashes.is_empty(), "the log grew, so there is something to prove");
            hashes[0] = json!(STANDARD.encode([7; 32]));
        }
        Lie::NoProof => drop(answer["extends"].as_object_mut().unwrap().remove("hashes")),
        Lie::StaleLog => {
            answer["extends"] = shown.clone();
            answer["extends"]["id"] = id;
        }
        Lie::UnsignedLog => {
            // The root is another one, and the signature still the old one's.
            let note = answer["extends"]["checkpoint"].as_str().unwrap();
            let mut lines: Vec<&str> = note.split('\n').collect();
            let root = STANDARD.encode([7; 32]);
            lines[2] = &root;
            answer["extends"]["checkpoint"] = json!(lines.join("\n"));
        }
        Lie::OtherThanLog => *answer = json!({"status": {"id": id, "state": {}}}),
        _ => {}
    }
}

fn frame(answer: &Value) -> Vec<u8> {
    let json = answer.to_string();
    let length = u32::try_from(json.len()).unwrap().to_le_bytes();
    [&length, json.as_bytes()].concat()
}

/// A signer, what stands before it, and a proxy, in a session.
async fn lied_to(site: &Site) -> (Signer<'_>, Proxy<'_>, Liar) {
    let signer = site.signer().start().await;
    let liar = Liar::start(site, Lie::None);
    let proxy = proxy(site, &signer).await;
    connected(&proxy).await;
    site.out(&proxy).await;
    activated(&signer, &proxy, &signer.request()).await;
    (signer, proxy, liar)
}

async fn proxy<'s>(site: &'s Site, signer: &Signer<'_>) -> Proxy<'s> {
    let lines =
        "signer_socket = \"../signer/liar.sock\"\nmin_outage_s = 1\nsign_timeout_ms = 1000\n";
    site.proxy(signer.builder.registry_entries()).breakglass(lines).start().await
}

#[tokio::test]
async fn i10_a_signature_or_an_answer_that_is_not_believed_ends_the_session_and_does_not_leave() {
    for (lie, reason, ends_for) in [
        (Lie::OtherKey, "signature_rejected", "signature_rejected"),
        (Lie::Stale, "signature_rejected", "signature_rejected"),
        (Lie::NoBase64, "breakglass_signer_unavailable", "signature_rejected"),
        (Lie::OtherAnswer, "breakglass_signer_unavailable", "signature_rejected"),
        (Lie::Unasked, "breakglass_signer_unavailable", "signer_gone"),
        (Lie::NoMessage, "breakglass_signer_unavailable", "signer_gone"),
        (Lie::TooLong, "breakglass_signer_unavailable", "signer_gone"),
    ] {
        println!("{lie:?}");
        let site = Site::new();
        let (signer, proxy, liar) = lied_to(&site).await;
        let alice = proxy.client(ALICE).await;
        assert_eq!(alice.sign_message(KID, b"before").await.status, 200);
        liar.tells(lie);
        let answer = alice.sign_message(KID, b"hi").await;
        assert_eq!(answer.reason(), reason, "{lie:?}: {}", answer.text);
        assert!(answer.body["signature"].is_null(), "{}", answer.text);
        assert!(!answer.text.contains("sealed"), "{}", answer.text);
        liar.tells(Lie::None);
        metric_is(&proxy, "breakglass_active", 0.0).await;
        ended_for(&site, ends_for).await;
        let after = alice.sign_message(KID, b"hi").await;
        assert_eq!(after.reason(), "upstream_unhealthy", "{lie:?}: {}", after.text);
        // Over at the signer too.
        connected(&proxy).await;
        over(&proxy).await;
        let ended = ended_at(&signer, 1).await;
        assert_eq!(ended.len(), 1, "{lie:?}: {ended:?}");
        let released = records(&site.world.scratch.path("proxy/journal"), "signed");
        let released = released.iter().filter(|data| data["mode"] == "breakglass").count();
        assert_eq!(released, 1, "{lie:?}");
    }
}

#[tokio::test]
async fn a_signer_that_says_nothing_is_waited_for_so_long_and_another_session_is_not_ours() {
    let site = Site::new();
    let (_signer, proxy, liar) = lied_to(&site).await;
    let alice = proxy.client(ALICE).await;
    liar.tells(Lie::OtherSession);
    assert_eq!(alice.sign_message(KID, b"one").await.status, 200);
    assert_eq!(alice.sign_message(KID, b"two").await.status, 200);
    liar.tells(Lie::Silence);
    let began = std::time::Instant::now();
    let answer = alice.sign_message(KID, b"three").await;
    assert_eq!(answer.reason(), "breakglass_signer_unavailable", "{}", answer.text);
    assert!(began.elapsed().as_secs() < 8, "it hung");
    liar.tells(Lie::None);
    assert_eq!(alice.sign_message(KID, b"four").await.status, 200);
}

#[tokio::test]
async fn i7_a_signer_of_another_deployment_version_or_audit_key_is_not_connected() {
    for (lie, says) in [
        (Lie::OtherDeployment, "it is of the deployment"),
        (Lie::OtherAuditKey, "is not in the registry"),
        (Lie::OtherVersion, "run the same release of both"),
    ] {
        let site = Site::new();
        let signer = site.signer().start().await;
        let liar = Liar::start(&site, lie);
        let proxy = proxy(&site, &signer).await;
        proxy.process.says(says).await;
        site.out(&proxy).await;
        signer.unlock().await;
        let papers = signer.papers(&signer.request());
        assert_eq!(super::refused(&proxy, &papers).await.0, "signer_unavailable", "{lie:?}");
        assert_eq!(proxy.metric("breakglass_signer_connected").await, Some(0.0));
        liar.tells(Lie::None);
        connected(&proxy).await;
        assert_eq!(super::activate(&proxy, &papers).await.status, 200, "{lie:?}");
    }
}

#[tokio::test]
async fn i7_a_signer_that_lies_about_its_log_is_not_connected_and_a_session_with_it_is_over() {
    for (lie, says) in [
        (Lie::FalseProof, "are not shown to be those that were there"),
        (Lie::NoProof, "is not shown to go on"),
        (Lie::UnsignedLog, "is not signed by its audit key"),
        (Lie::OtherInstance, "its instance is not the one of its audit key"),
    ] {
        println!("{lie:?}");
        let site = Site::new();
        let signer = site.signer().start().await;
        let liar = Liar::start(&site, Lie::None);
        let proxy = proxy(&site, &signer).await;
        connected(&proxy).await;
        // Its log grows, so that there is something to prove.
        let builder = signer.builder.clone();
        liar.tells(lie);
        signer.stop().await;
        let signer = builder.start().await;
        proxy.process.says(says).await;
        metric_is(&proxy, "breakglass_signer_connected", 0.0).await;
        site.out(&proxy).await;
        signer.unlock().await;
        let papers = signer.papers(&signer.request());
        assert_eq!(super::refused(&proxy, &papers).await.0, "signer_unavailable", "{lie:?}");
        liar.tells(Lie::None);
        connected(&proxy).await;
        let answer = super::activate(&proxy, &papers).await;
        assert_eq!(answer.status, 200, "{lie:?}: {}", answer.text);
        assert_eq!(proxy.client(ALICE).await.sign_message(KID, b"hi").await.status, 200);
        // It is looked at again and again.
        if lie != Lie::OtherInstance {
            liar.tells(lie);
            metric_is(&proxy, "breakglass_active", 0.0).await;
            let ended = ended_for(&site, "signer_gone").await;
            assert!(ended["detail"].as_str().unwrap().contains(says), "{lie:?}: {ended}");
        }
    }
}

#[tokio::test]
async fn i7_a_checkpoint_of_before_and_a_log_that_is_not_shown_end_the_session() {
    for (lie, says) in
        [(Lie::StaleLog, "was there already"), (Lie::OtherThanLog, "no message of this version")]
    {
        println!("{lie:?}");
        let site = Site::new();
        let (_signer, proxy, liar) = lied_to(&site).await;
        assert_eq!(proxy.client(ALICE).await.sign_message(KID, b"hi").await.status, 200);
        liar.tells(lie);
        metric_is(&proxy, "breakglass_active", 0.0).await;
        let ended = ended_for(&site, "signer_gone").await;
        assert!(ended["detail"].as_str().unwrap().contains(says), "{lie:?}: {ended}");
    }
}

#[tokio::test]
async fn a_session_of_another_name_than_was_approved_is_not_switched_to() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let liar = Liar::start(&site, Lie::OtherName);
    let proxy = proxy(&site, &signer).await;
    connected(&proxy).await;
    site.out(&proxy).await;
    signer.unlock().await;
    let (reason, detail) = super::refused(&proxy, &signer.papers(&signer.request())).await;
    assert_eq!(reason, "signer_unavailable", "{detail}");
    liar.tells(Lie::None);
    // It was armed, and is disarmed.
    over(&proxy).await;
    assert_eq!(ended_at(&signer, 1).await.len(), 1);
    assert_eq!(
        proxy.client(ALICE).await.sign_message(KID, b"hi").await.reason(),
        "upstream_unhealthy"
    );
}

#[tokio::test]
async fn i12_a_key_that_should_be_destroyed_is_told_of_by_metric_and_status() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let liar = Liar::start(&site, Lie::None);
    let proxy = proxy(&site, &signer).await;
    connected(&proxy).await;
    let overdue = "breakglass_key_destruction_overdue{signer_kid=\"emergency\"}";
    metric_is(&proxy, overdue, 0.0).await;
    // Only its clock is lied about: a signer waits a minute at least.
    liar.tells(Lie::Overdue);
    metric_is(&proxy, overdue, 1.0).await;
    let status = super::status(&proxy).await;
    assert_eq!(status["signer"]["keys"][0]["destruction_overdue"], true, "{status}");
}

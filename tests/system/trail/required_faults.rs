//! A trail that hangs, lies, or is somebody else's: nothing leaves.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use audit::walk::{Walk, WalkStep};
use serde_json::{Value, json};
use signing_core::required::VERSION;
use system_tests::postgres::Postgres;
use system_tests::{Client, Kind, World, eventually, journal};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

use super::required::{held, refused, requiring, socket_of, table};
use super::{KID, journal_of, proxy_in, trail_of};
use crate::ALICE;
use crate::breakglass::{Site, activated, end};

/// Stands where the trail should.
struct FakeTrail(UnixListener);

/// A proxy that is connected to it.
struct Connected {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl FakeTrail {
    fn at(world: &World) -> Self {
        Self(UnixListener::bind(socket_of(world)).unwrap())
    }

    /// The next connection of the proxy that was greeted, and the first head that it says is on disk. One that it gave
    /// up before is passed over.
    async fn greeted(&self) -> (Connected, Value) {
        loop {
            let (stream, _) = self.0.accept().await.unwrap();
            let mut connected = Connected::new(stream);
            if connected.next().await != Some(json!({"hello": {"version": VERSION}})) {
                continue;
            }
            connected.say(&json!({"hello": {"version": VERSION, "sink": "postgres"}})).await;
            if let Some(head) = connected.head().await {
                return (connected, head);
            }
        }
    }

    /// Says yes to all that comes of the proxy's own log, and knows no other, as long as the test goes on, or until it is
    /// to hang.
    fn commits_all(self) -> Arc<AtomicBool> {
        let hangs = Arc::new(AtomicBool::new(false));
        let is_told_to = Arc::clone(&hangs);
        tokio::spawn(async move {
            loop {
                let (connected, first) = self.greeted().await;
                connected.commits_on(first, &is_told_to).await;
            }
        });
        hangs
    }
}

impl Connected {
    fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer }
    }

    /// Answers, and says its newest answer again each second as a trail does, until the proxy hangs up.
    async fn commits_on(self, first: Value, hangs: &AtomicBool) {
        let Self { mut reader, mut writer } = self;
        let own = first["log"].clone();
        let (mut newest, mut again) = (first, tokio::time::interval(Duration::from_secs(1)));
        loop {
            let mut next = std::pin::pin!(head(&mut reader));
            let told = loop {
                tokio::select! {
                    head = &mut next => match head {
                        Some(head) => break head,
                        None => return,
                    },
                    _ = again.tick() => if !hangs.load(Ordering::SeqCst) {
                        commits(&mut writer, &newest).await;
                    },
                }
            };
            if told["log"] != own {
                does_not_know(&mut writer, told).await;
                continue;
            }
            if !hangs.load(Ordering::SeqCst) {
                commits(&mut writer, &told).await;
            }
            newest = told;
        }
    }

    /// What the proxy says; None: it closed the connection.
    async fn next(&mut self) -> Option<Value> {
        next(&mut self.reader).await
    }

    async fn say(&mut self, message: &Value) {
        let _ = self.writer.write_all(format!("{message}\n").as_bytes()).await;
    }

    async fn head(&mut self) -> Option<Value> {
        head(&mut self.reader).await
    }

    async fn commits(&mut self, head: &Value) {
        commits(&mut self.writer, head).await;
    }
}

async fn next(reader: &mut BufReader<OwnedReadHalf>) -> Option<Value> {
    let mut line = String::new();
    let read = reader.read_line(&mut line).await;
    matches!(read, Ok(1..)).then(|| serde_json::from_str(&line).unwrap())
}

/// The next head that a proxy says is on disk, as an answer names it. What is only written needs no answer.
async fn head(reader: &mut BufReader<OwnedReadHalf>) -> Option<Value> {
    let note = loop {
        let said = next(reader).await?;
        if said["written"].is_null() {
            break said["on_disk"]["note"].as_str().unwrap().to_owned();
        }
    };
    let mut lines = note.lines();
    let log = lines.next().unwrap().rsplit('/').next().unwrap().to_owned();
    let size: u64 = lines.next().unwrap().parse().unwrap();
    let root = signing_core::tree::TreeHash::parse_base64(lines.next().unwrap()).unwrap();
    Some(json!({"log": log, "size": size, "root": root.to_string()}))
}

async fn commits(writer: &mut OwnedWriteHalf, head: &Value) {
    let line = format!("{}\n", json!({"committed": head}));
    let _ = writer.write_all(line.as_bytes()).await;
}

async fn does_not_know(writer: &mut OwnedWriteHalf, mut head: Value) {
    head["detail"] = json!("it is forgotten");
    let line = format!("{}\n", json!({"unknown": head}));
    let _ = writer.write_all(line.as_bytes()).await;
}

async fn sign_with_key(alice: &Client) -> system_tests::Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", "k1")];
    let body = json!({"signer_kid": KID, "message": "aGVsbG8="}).to_string();
    alice.send(http::Method::POST, "/v1/sign", &headers, body).await.unwrap()
}

#[tokio::test]
async fn a_trail_that_hangs_lets_nothing_leave_and_nothing_is_kept() {
    let world = World::new();
    let trail = FakeTrail::at(&world);
    let proxy = requiring(&world, "commit_timeout_ms = 3000").await;
    let hangs = trail.commits_all();
    proxy.healthy().await;
    let alice = proxy.client(ALICE).await;
    hangs.store(true, Ordering::SeqCst);
    // The gate was open, the upstream signed, the record is on disk; and the trail says no more.
    let answer = sign_with_key(&alice).await;
    assert_eq!((answer.status, answer.reason()), (503, "audit_unavailable"), "{}", answer.text);
    assert!(answer.body["signature"].is_null());
    let directory = journal_of(&world);
    let withheld = eventually("a withheld signature", || async {
        journal::read(&directory, "withheld").pop()
    })
    .await;
    assert_eq!(withheld["record"]["data"]["reason"], "audit_unavailable", "{withheld}");
    let intents = journal::read(&directory, "intent").len();
    // From here on it is refused before anybody is asked.
    proxy.unhealthy_for("required_trail").await;
    refused(&alice).await;
    assert_eq!(journal::read(&directory, "intent").len(), intents);
    // The proxy gives up on it, and comes again. Asked again under the same key, the signature is a new one.
    hangs.store(false, Ordering::SeqCst);
    proxy.healthy().await;
    let answer = sign_with_key(&alice).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let signed = journal::read(&directory, "signed");
    assert_eq!(signed.last().unwrap()["record"]["data"]["replayed"], false, "{signed:?}");
    assert_eq!(signed.len(), 2);
}

#[tokio::test]
async fn a_trail_that_claims_what_nobody_told_it_is_not_believed() {
    let world = World::new();
    let trail = FakeTrail::at(&world);
    let proxy = requiring(&world, "commit_timeout_ms = 300").await;
    let alice = proxy.client(ALICE).await;
    // Its gate is open by now.
    proxy.unhealthy_for("required_trail").await;
    let lies: [fn(&mut Value); 4] = [
        // More than is on disk.
        |head| head["size"] = json!(head["size"].as_u64().unwrap() + 1_000),
        |head| head["size"] = json!(u64::MAX),
        // Other records.
        |head| head["root"] = json!("00".repeat(32)),
        // Another log.
        |head| head["log"] = json!("00".repeat(16)),
    ];
    for lie in lies {
        let (mut lies, mut claimed) = trail.greeted().await;
        lie(&mut claimed);
        lies.commits(&claimed).await;
        // The proxy hangs up.
        while lies.next().await.is_some() {}
        refused(&alice).await;
    }
    let (mut babbles, _) = trail.greeted().await;
    babbles.say(&json!({"committed": {"log": "x", "size": -1}})).await;
    while babbles.next().await.is_some() {}
    refused(&alice).await;
    assert!(journal::read(&journal_of(&world), "signed").is_empty());
    let _ = trail.commits_all();
    proxy.healthy().await;
    assert_eq!(alice.sign_message(KID, b"hello").await.status, 200);
}

#[tokio::test]
async fn what_the_trail_does_not_know_of_the_emergency_signers_log_keeps_only_sessions_back() {
    let site = Site::new();
    let _ = FakeTrail::at(&site.world).commits_all();
    let (signer, proxy) = site.both_with(&table(&site.world, "commit_timeout_ms = 3000")).await;
    let unknown = "the trail cannot say whether a record of the emergency signer is committed";
    proxy.process.says(unknown).await;
    proxy.healthy().await;
    let alice = proxy.client(ALICE).await;
    for _ in 0..5 {
        let answer = alice.sign_message(KID, b"hello").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    site.out(&proxy).await;
    activated(&signer, &proxy, &signer.request()).await;
    refused(&alice).await;
    // It is refused before the emergency key is asked.
    assert!(journal::read(&signer.builder.journal(), "emergency_signed").is_empty());
    assert_eq!(end(&proxy).await.status, 200);
    // All that went over one connection.
    let log = proxy.process.says(unknown).await;
    assert_eq!(log.matches("the trail of the required sink is connected").count(), 1, "{log}");
}

#[tokio::test]
async fn a_trail_that_does_not_know_the_proxys_own_log_lets_nothing_leave() {
    let world = World::new();
    let trail = FakeTrail::at(&world);
    let proxy = requiring(&world, "commit_timeout_ms = 300").await;
    let (mut forgets, mut own) = trail.greeted().await;
    own["detail"] = json!("it is forgotten");
    forgets.say(&json!({"unknown": own})).await;
    // The proxy hangs up.
    while forgets.next().await.is_some() {}
    proxy.unhealthy_for("required_trail").await;
    refused(&proxy.client(ALICE).await).await;
}

#[tokio::test]
async fn what_a_proxy_has_only_written_is_not_shipped_before_it_is_on_disk() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    proxy_in(&world).await.stop().await;
    // So nobody states of the newest write that it is on disk.
    let journal = journal_of(&world);
    fs::remove_file(journal.join("durable")).unwrap();
    let mut walk = Walk::open(&journal, 1).unwrap();
    let mut newest = None;
    loop {
        match walk.step().unwrap() {
            WalkStep::Sealed(seal) => newest = Some(seal.checkpoint),
            WalkStep::Record(_) => {}
            WalkStep::End | WalkStep::TornWrite(_) => break,
        }
    }
    let newest = newest.unwrap();
    let (note, size) = (newest.note(), newest.checkpoint().size);
    let mut trail = trail_of(&world, &postgres).required(&socket_of(&world));
    trail.start();
    trail.process().says("the database is reached; shipping").await;
    let mut proxy = Connected::new(UnixStream::connect(socket_of(&world)).await.unwrap());
    proxy.say(&json!({"hello": {"version": VERSION}})).await;
    proxy.say(&json!({"written": {"note": note}})).await;
    assert!(!proxy.next().await.unwrap()["hello"].is_null());
    // Each comes after a look for what may be shipped.
    for _ in 0..2 {
        assert_eq!(proxy.next().await.unwrap(), json!({"alive": {}}));
    }
    let held = || held(&postgres, "signing-proxy");
    assert!(held() < size, "{} of {size}", held());
    proxy.say(&json!({"on_disk": {"note": note}})).await;
    loop {
        let said = proxy.next().await.unwrap();
        if said["alive"].is_null() {
            assert_eq!(said["committed"]["size"], size, "{said}");
            break;
        }
    }
    assert_eq!(held(), size);
}

#[tokio::test]
async fn whoever_else_listens_in_the_trails_place_is_not_believed() {
    let world = World::new();
    let trail = FakeTrail::at(&world);
    let key = world.kms.key(Kind::P256);
    let other = nix::unistd::getuid().as_raw() + 4_711;
    let uid = format!("uid = {}\n", nix::unistd::getuid());
    let table = table(&world, "").replace(&uid, &format!("uid = {other}\n"));
    let builder = world.proxy().signer(KID, &key).caller(ALICE, &[KID]).tables(&table);
    let proxy = builder.start_shut().await;
    let (stream, _) = trail.0.accept().await.unwrap();
    let mut stream = Connected::new(stream);
    // It is not even greeted.
    assert_eq!(stream.next().await, None);
    proxy.unhealthy_for("required_trail").await;
    refused(&proxy.client(ALICE).await).await;
    let why = format!("and trail.uid is {other}");
    eventually("a status that says so", || async {
        proxy.signctl(&["status"]).1.contains(&why).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_work_is_said_by_check() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let check = |lines: &str| {
        let builder = world.proxy().signer(KID, &key).caller(ALICE, &[KID]).tables(lines);
        let output = builder.verb("check", &builder.write()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = check("[trail]\nrequired_socket = \"t.sock\"\ncommit_timeout_ms = 5000\n");
    assert_eq!(code, Some(1));
    assert!(said.contains("trail.uid") && said.contains("id -u signing-trail"), "{said}");
    assert!(said.contains("trail.commit_timeout_ms: is 5000"), "{said}");
    // What looks like a required sink, and is not one.
    let (code, said) = check("[trail]\nuid = 7\n");
    assert_eq!(code, Some(1));
    assert!(said.contains("trail.uid: is set and required_socket is not"), "{said}");
    let (code, said) = check("[trail]\nrequired_socket = \"\"\n");
    assert_eq!(code, Some(1));
    assert!(said.contains("trail.required_socket: is empty"), "{said}");
    let (code, said) = check("");
    assert_eq!(code, Some(0), "{said}");
}

//! Batch signers: one call of the KMS for many callers, every rule for each of them.

mod faults;
mod modes;
mod session;
mod tools;
mod verifiers;

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use development::DevelopmentKey;
use http::Method;
use serde_json::{Value, json};
use signing_core::batch::verifier_key;
use signing_core::{Hash, Input, Registry, Signer, ToBeSigned};
use system_tests::journal::read;
use system_tests::{
    Answer, Client, Fault, Key, Kind, Kms, Operation, Proxy, ProxyBuilder, World, eventually,
};

use crate::ALICE;

/// The batch signer.
const KID: &str = "bulk";
/// What the harness calls every deployment.
const DEPLOYMENT: &str = "test";

/// A proxy to be, with a batch signer that no canary disturbs, and time for a call that is held.
fn builder<'w>(world: &'w World, key: &Key) -> ProxyBuilder<'w> {
    holding(world, key, 60_000)
}

/// The same; a call holds the next batch for so long.
fn holding<'w>(world: &'w World, key: &Key, hold_ms: u64) -> ProxyBuilder<'w> {
    let builder = world.proxy().rare_canaries().batch_signer(KID, key).caller(ALICE, &[KID]);
    let builder = builder.of_signer(KID, &format!("batch_hold_ms = {hold_ms}"));
    builder.server("request_timeout_ms = 60000").kms("call_timeout_ms = 50000")
}

/// What the key itself signs, by the hand of whoever has it.
fn by_hand(world: &World, key: &Key, input: &ToBeSigned) -> Vec<u8> {
    let file = world.scratch.write("by-hand.pem", Kms::private_key_pem(key));
    DevelopmentKey::load(&file).unwrap().sign(input).unwrap()
}

/// The signer as this deployment's registry has it.
fn registered(entries: &[Value], kid: &str) -> Arc<Signer> {
    let registry = Registry::from_json(&json!({"signers": entries}).to_string()).unwrap();
    Arc::clone(registry.of_deployment(DEPLOYMENT).unwrap().get(kid).unwrap())
}

fn signer(key: &Key) -> Arc<Signer> {
    registered(&[system_tests::proxy::batch_entry(KID, key)], KID)
}

/// The text of an answer's proof.
#[track_caller]
fn proof(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["signature_format"], "tlog-proof", "{answer:?}");
    answer.body["signature"].as_str().unwrap()
}

/// Whether it is the proof of that input under that signer, and of no other input.
#[track_caller]
fn proves(signer: &Signer, input: &Input, proof: &str) {
    let verifies = |input: &Input| {
        let prepared = signer.prepare(input, signer.algorithm()).unwrap();
        signer.verify(&prepared, proof.as_bytes().to_vec()).is_ok()
    };
    assert!(verifies(input), "{proof}");
    assert!(!verifies(&Input::Message(b"something else".to_vec())));
}

fn message(at: usize) -> Vec<u8> {
    format!("order {at}").into_bytes()
}

/// Asks for the signatures of these messages at once; each answer with its message.
fn ask(client: &Client, messages: std::ops::Range<usize>) -> Vec<Asking> {
    messages.map(|at| ask_with(client, at, &[])).collect()
}

type Asking = tokio::task::JoinHandle<(usize, Result<Answer, String>)>;

fn ask_with(client: &Client, at: usize, headers: &[(&str, &str)]) -> Asking {
    let client = client.clone();
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let headers: Vec<(String, String)> = headers.collect();
    tokio::spawn(async move {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let body = json!({"signer_kid": KID, "message": STANDARD.encode(message(at))});
        (at, client.send(Method::POST, "/v1/sign", &all, body.to_string()).await)
    })
}

async fn answers(asking: Vec<Asking>) -> Vec<(usize, Answer)> {
    let mut all = Vec::new();
    for one in asking {
        let (at, answer) = one.await.unwrap();
        all.push((at, answer.unwrap()));
    }
    all
}

/// The data of the records of that type.
fn data(world: &World, kind: &str) -> Vec<Value> {
    let records = read(&world.scratch.path("proxy/journal"), kind);
    records.iter().map(|record| record["record"]["data"].clone()).collect()
}

/// Waits until so many intents are recorded.
async fn intents(world: &World, expected: usize) {
    let what = format!("{expected} intents");
    eventually(&what, || {
        let found = data(world, "intent").len();
        std::future::ready((found >= expected).then_some(()))
    })
    .await;
}

/// Has the first of these messages in a call that is held, and the others gather behind it. So many
/// calls were made before.
async fn gathered(world: &World, key: &Key, client: &Client, count: usize) -> (Vec<Asking>, u64) {
    let before = key.calls(Operation::Sign);
    key.break_with(Fault::Hold);
    let mut asking = ask(client, 0..1);
    eventually("the first call", || {
        std::future::ready((key.calls(Operation::Sign) > before).then_some(()))
    })
    .await;
    asking.extend(ask(client, 1..count));
    intents(world, count).await;
    (asking, before)
}

#[tokio::test]
async fn many_callers_share_a_call_and_each_has_a_proof_of_its_own() {
    for kind in [Kind::Ed25519, Kind::P256] {
        let world = World::new();
        let key = world.kms.key(kind);
        let proxy = builder(&world, &key).start().await;
        let client = proxy.http2_client(ALICE).await;
        let (asking, before) = gathered(&world, &key, &client, 40).await;
        key.mend();
        let signer = signer(&key);
        let mut origins = std::collections::BTreeMap::new();
        for (at, answer) in answers(asking).await {
            proves(&signer, &Input::Message(message(at)), proof(&answer));
            let origin = proof(&answer).split_once("\n\n").unwrap().1.split('\n').next().unwrap();
            *origins.entry(origin.to_owned()).or_insert(0) += 1;
        }
        let mut sizes: Vec<_> = origins.values().copied().collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 39], "{origins:?}");
        assert_eq!(key.calls(Operation::Sign) - before, 2);

        // Each has its own intent, which names the call, and its own record, which has no proof.
        let (intents, signed) = (data(&world, "intent"), data(&world, "signed"));
        assert_eq!((intents.len(), signed.len()), (40, 40));
        for record in &signed {
            let intent =
                intents.iter().find(|it| it["request_id"] == record["request_id"]).unwrap();
            let attempt = intent["attempt"].as_str().unwrap();
            assert_eq!(record["attempt"], format!("{attempt}-1"));
            let batch = &record["batch"];
            assert_eq!(batch["origin"], format!("{DEPLOYMENT}/batch/{KID}/{attempt}"));
            assert!(!record.to_string().contains("tlog-proof"), "{record}");
        }
        // Whoever audits checks each note.
        let registry = world.scratch.path("proxy/signers.json");
        let (code, said, errors) = signctl_verify(&proxy, &world, &registry);
        assert_eq!(code, 0, "{said}{errors}");
        let verdict: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(verdict["signatures_checked"], 40, "{verdict}");
    }
}

fn signctl_verify(proxy: &Proxy<'_>, world: &World, registry: &Path) -> (i32, String, String) {
    let journal = world.scratch.path("proxy/journal");
    let [journal, registry] = [journal.as_path(), registry].map(|path| path.to_str().unwrap());
    proxy.signctl(&["audit", "verify", "--json", "--journal", journal, "--signers", registry])
}

#[tokio::test]
async fn a_digest_is_an_input_too_and_a_long_message_is() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = builder(&world, &key).start().await;
    let (alice, signer) = (proxy.client(ALICE).await, signer(&key));
    let digest = Hash::Sha256.of(b"hi");
    let answer = alice.sign_digest(KID, digest.bytes()).await;
    proves(&signer, &Input::Digest(digest), proof(&answer));
    let long = vec![b'x'; 50_000];
    let answer = alice.sign_message(KID, &long).await;
    proves(&signer, &Input::Message(long), proof(&answer));
    // Without a signer too, and in the one format that there is.
    let named = json!({"message": "aGk=", "signature_format": "tlog-proof"});
    proves(&signer, &Input::Message(b"hi".to_vec()), proof(&alice.post("/v1/sign", &named).await));
    let wrong = json!({"digest": STANDARD.encode([1; 48]), "digest_algorithm": "sha384"});
    assert_eq!(alice.post("/v1/sign", &wrong).await.reason(), "invalid_digest");
}

#[tokio::test]
async fn a_full_batch_goes_while_another_call_is_in_progress() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let environment = builder(&world, &key).of_signer(KID, "batch_leaves_max = 4");
    let proxy = environment.start().await;
    let client = proxy.http2_client(ALICE).await;
    let (asking, before) = gathered(&world, &key, &client, 11).await;
    // One by itself, two full ones; the last two wait.
    eventually("three calls", || {
        std::future::ready((key.calls(Operation::Sign) - before == 3).then_some(()))
    })
    .await;
    key.mend();
    let signer = signer(&key);
    for (at, answer) in answers(asking).await {
        proves(&signer, &Input::Message(message(at)), proof(&answer));
    }
    assert_eq!(key.calls(Operation::Sign) - before, 4);
}

#[tokio::test]
async fn others_read_the_notes_of_our_batches() {
    let world = World::new();
    let key = world.kms.key(Kind::Ed25519);
    let proxy = builder(&world, &key).start().await;
    let client = proxy.http2_client(ALICE).await;
    let (asking, _) = gathered(&world, &key, &client, 9).await;
    key.mend();
    let signer = signer(&key);
    let name = signer.batch.key_name().unwrap();
    let line = verifier_key(name, &signer.public_key).unwrap();
    for (at, answer) in answers(asking).await {
        let (head, note) = proof(&answer).split_once("\n\n").unwrap();
        let note = signed_note::Note::from_bytes(note.as_bytes()).unwrap();
        let verifier = signed_note::StandardVerifier::new(&line).unwrap();
        let known = signed_note::VerifierList::new(vec![Box::new(verifier)]);
        note.verify(&known).unwrap();
        let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        let lines: Vec<_> = head.split('\n').collect();
        let bytes = |text: &str| <[u8; 32]>::try_from(STANDARD.decode(text).unwrap()).unwrap();
        let salt = signing_core::batch::Salt::new(bytes(lines[1].strip_prefix("extra ").unwrap()));
        let index = lines[2].strip_prefix("index ").unwrap().parse().unwrap();
        let path = lines[3..].iter().map(|line| tlog_tiles::Hash(bytes(line))).collect();
        let input = signer.prepare(&Input::Message(message(at)), signer.algorithm()).unwrap();
        let leaf = tlog_tiles::Hash(*signer.leaf(&input, &salt).unwrap().as_bytes());
        let (size, root) = (checkpoint.size(), *checkpoint.hash());
        tlog_tiles::check_record(&path, size, root, index, leaf).unwrap();
    }
}

//! An object is written as an object, on every surface and at every depth: serde would take a list of
//! its values for it, in which nobody sees what they say.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use breakglass_signer::store;
use http::Method;
use serde_json::{Value, json};
use signing_core::breakglass::{Request, wire};
use signing_core::journal::Outline;
use signing_core::worker::{Start, Started};
use signing_core::{Registry, json};
use system_tests::breakglass::{SignerBuilder, Wire};
use system_tests::programs::{ours, repository};
use system_tests::proxy::entry;
use system_tests::{Kind, Scratch, World};

use crate::ALICE;

const REFUSED: &str = "a list in the place of an object";

/// The document with one of its objects written as a list of its values, for each of them.
fn positional(document: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    match document {
        Value::Object(members) => {
            found.push(members.values().cloned().collect());
            for (key, value) in members {
                found.extend(positional(value).into_iter().map(|inner| {
                    let mut outer = document.clone();
                    outer[key] = inner;
                    outer
                }));
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                found.extend(positional(item).into_iter().map(|inner| {
                    let mut outer = document.clone();
                    outer[at] = inner;
                    outer
                }));
            }
        }
        _ => {}
    }
    found
}

#[tokio::test]
async fn a_list_in_the_place_of_a_request_signs_and_verifies_nothing() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let client = proxy.client(ALICE).await;
    for (path, body) in [
        ("/v1/sign", json!([null, null, "aGVsbG8=", null, null, null, null])),
        ("/v1/sign", json!([null, null, "aGVsbG8=", "ec", "ECDSA_SHA_256", "der", "why"])),
        ("/v1/sign", json!([{"message": "aGVsbG8="}])),
        ("/v1/verify", json!([null, null, "aGVsbG8=", null, null, null, "AAAA"])),
        ("/sign", json!(["00".repeat(32)])),
        ("/sign", json!(["aGVsbG8=", "ec"])),
        ("/signData", json!(["ec", "hello"])),
        ("/sign/hash", json!(["00".repeat(32)])),
        ("/sign/canonical", json!(["hello"])),
        ("/verify", json!(["aGVsbG8=", "AAAA", "ec"])),
    ] {
        let json = [("content-type", "application/json")];
        let answer = client.send(Method::POST, path, &json, body.to_string()).await.unwrap();
        assert_eq!((answer.status, answer.reason()), (400, "invalid_request"), "{path} {body}");
    }
    let records = Command::new(ours("signctl"))
        .args(["audit", "--dir"])
        .arg(world.proxy().journal())
        .args(["tail", "--type", "intent", "--json"])
        .output()
        .unwrap();
    assert!(records.stdout.is_empty(), "{records:?}");
}

#[tokio::test]
async fn a_list_in_the_place_of_a_command_changes_nothing() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    for (path, body) in [
        ("/v1/freeze", json!(["stop"])),
        ("/v1/fleet/freeze", json!(["01010101010101010101010101010101", "stop", "somebody"])),
        ("/v1/fleet/statement", json!(["e30=", "e30="])),
        ("/v1/unseal", json!(["ec", false, "why"])),
        ("/v1/unseal", json!([null, true, "why"])),
        ("/v1/drill", json!(["ec", 5, true])),
        ("/v1/breakglass/activate", json!(["e30=", []])),
        ("/v1/breakglass/end", json!(["why"])),
        ("/v1/breakglass/accept-signer", json!(["why"])),
        ("/v1/breakglass/destroy", json!(["kid", "why"])),
        ("/v1/incident/begin", json!(["INC-1", "why"])),
        ("/v1/incident/captured", json!(["INC-1", "00"])),
        ("/v1/incident/item", json!(["5.2", "why", true])),
        ("/v1/incident/end", json!(["why", true])),
    ] {
        let answer = proxy.admin("POST", path, body).await;
        assert_eq!(
            (answer.status, answer.reason()),
            (400, "invalid_request"),
            "{path}: {answer:?}"
        );
        assert!(answer.text.contains(REFUSED), "{path}: {answer:?}");
    }
    assert_eq!(proxy.admin("GET", "/v1/status", json!(null)).await.body["frozen"], false);
    assert_eq!(proxy.health().await.status, 200);
}

#[tokio::test]
async fn a_list_in_the_place_of_an_ask_is_not_heard_by_the_emergency_signer() {
    let scratch = Scratch::new();
    let signer = SignerBuilder::new(&scratch).start().await;
    for ask in [
        json!({"hello": [1, wire::VERSION, "test", "0".repeat(32)]}),
        json!({"status": [1]}),
        json!([{"hello": {"id": 1, "version": wire::VERSION, "deployment": "test",
            "log": "0".repeat(32)}}]),
    ] {
        let mut proxy = Wire::connect(&signer.socket()).await;
        proxy.send_bytes(ask.to_string().as_bytes()).await;
        assert_eq!(proxy.next().await, None, "{ask}");
    }
    for ask in [json!({"end": ["why"]}), json!({"status": []}), json!({"destroy": ["k", "why"]})] {
        let ask = ask.to_string();
        let length = u32::try_from(ask.len()).unwrap().to_le_bytes();
        let mut operator = UnixStream::connect(signer.operator_socket()).unwrap();
        operator.write_all(&[&[0; 4], &length[..], ask.as_bytes()].concat()).unwrap();
        let mut answer = Vec::new();
        operator.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains("\"unlocked\":false"), "{ask}: {answer}");
    }
}

fn head() -> Value {
    json!({"log": "00".repeat(16), "size": 1, "root": "00".repeat(32)})
}

/// Reads a document, and says why not.
type Read = Box<dyn Fn(&[u8]) -> Result<(), String>>;

fn reads<T>(read: impl Fn(&[u8]) -> Result<T, String> + 'static) -> Read {
    Box::new(move |bytes| read(bytes).map(drop))
}

/// Reads a frame of the emergency signer's wire.
fn frame<T: serde::de::DeserializeOwned + 'static>() -> Read {
    reads(|bytes| {
        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        wire::read::<T>(&[&length, bytes].concat()).map_err(|error| error.to_string())
    })
}

/// Each kind of document, with what reads it.
fn documents() -> Vec<(&'static str, Value, Read)> {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let request = repository().join("fuzz/corpus/breakglass_request/valid");
    vec![
        (
            "the registry",
            json!({"signers": [entry("ec", &key)]}),
            reads(|bytes| {
                Registry::from_json(std::str::from_utf8(bytes).unwrap())
                    .map_err(|all| all.join("; "))
            }),
        ),
        (
            "the proxy's state",
            json!({
                "freeze": {"reason": "r", "by": "b", "at": "2026-01-01T00:00:00Z"},
                "incident": null,
                "seals": {"ec": {"detail": "d", "at": "2026-01-01T00:00:00Z"}},
                "audit_seal": {"detail": "d", "at": "2026-01-01T00:00:00Z"},
                "fleet": {"has_read": true, "ended": [], "held": {"01010101010101010101010101010101":
                    {"reason": "r", "by": "b", "at": "2026-01-01T00:00:00Z"}}},
                "journal": head(),
            }),
            reads(monitor::Stored::parse),
        ),
        (
            "the emergency signer's state",
            json!({
                "witness": head(),
                "past": {"nonces": [], "destroyed": [], "proxies": [], "named": {}, "copies": {},
                    "due": {"e": {"at": "2026-01-01T00:00:00Z", "told": false}}},
                "seal": {"at": "2026-01-01T00:00:00Z", "detail": "d"},
            }),
            reads(|bytes| store::Stored::parse(bytes).map_err(|error| error.to_string())),
        ),
        (
            "a request",
            serde_json::from_slice(&std::fs::read(request).unwrap()).unwrap(),
            reads(|bytes| Request::parse(bytes).map_err(|error| error.to_string())),
        ),
        (
            "an ask to sign",
            json!({"sign": {
                "id": 1, "session": "s", "caller": "a.example", "request_id": "r", "signer_kid": "ec",
                "algorithm": "ED25519_SHA_512", "input": {"message": "aGk="}, "proxy_head": head(),
            }}),
            frame::<wire::Ask>(),
        ),
        (
            "an ask to activate",
            json!({"activate": {
                "id": 1, "request_b64": "e30=", "approvals_b64": [], "by": "b", "proxy_head": head(),
                "outages": [{"signer_kid": "ec", "since": "2026-01-01T00:00:00Z", "seconds": 7}],
            }}),
            frame::<wire::Ask>(),
        ),
        (
            "a show of a log",
            json!({"show": {"id": 1, "size": 1, "checkpoint": "c", "hashes": []}}),
            frame::<wire::Ask>(),
        ),
        ("an operator's ask", json!({"end": {"reason": "why"}}), frame::<wire::operator::Ask>()),
        (
            "an answer to a passphrase",
            json!({"unlocked": true, "detail": "d", "waits_s": 5}),
            frame::<wire::operator::Unlocked>(),
        ),
        (
            "a worker's start",
            json!({
                "module": "m", "token_label": "t", "key_label": "k", "key_id": null, "pin_file": "p",
                "threads": 1, "algorithm": "ECDSA_SHA_256",
            }),
            reads(|bytes| json::from_slice::<Start>(bytes).map_err(|error| error.to_string())),
        ),
        (
            "a worker's answer to it",
            json!({"ready": {"spki_hex": "00"}}),
            reads(|bytes| json::from_slice::<Started>(bytes).map_err(|error| error.to_string())),
        ),
        (
            "a record",
            json!({"at": "2026-01-01T00:00:00.000000Z", "data": {"reason": "SIGTERM"}, "type": "stop"}),
            reads(|bytes| Outline::parse(bytes).ok_or_else(|| REFUSED.to_owned())),
        ),
    ]
}

#[test]
fn a_list_in_the_place_of_any_object_of_any_document_is_refused() {
    for (name, document, read) in documents() {
        let good = read(document.to_string().as_bytes());
        assert_eq!(good, Ok(()), "{name}");
        let lists = positional(&document);
        assert!(!lists.is_empty(), "{name}");
        let said = lists.iter().map(|list| {
            let said = read(list.to_string().as_bytes()).err();
            said.unwrap_or_else(|| panic!("{name} is read: {list}"))
        });
        // A word with its content, or a map, is no struct, and is refused in other words.
        assert!(said.filter(|said| said.contains(REFUSED)).count() > 0, "{name}");
    }
}

/// Answers each of a few connections with that, as an admin socket would.
fn answering(socket: &std::path::Path, body: &'static str) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(head.as_bytes());
        }
    });
}

#[test]
fn an_answer_that_is_a_list_is_no_good_answer() {
    let scratch = Scratch::new();
    for (number, body) in
        ["[]", "[true]", "true", "null", "[{\"ok\":true}]"].into_iter().enumerate()
    {
        let socket = scratch.path(&format!("{number}.sock"));
        answering(&socket, body);
        for verb in [
            &["status"][..],
            &["unfreeze", "--reason", "over"],
            &["reload"],
            &["breakglass", "status"],
        ] {
            let mut signctl = Command::new(ours("signctl"));
            let output = signctl.args(verb).arg("--socket").arg(&socket).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{verb:?} of {body}: {said}");
            assert!(said.contains("is not a JSON object"), "{verb:?} of {body}: {said}");
        }
    }
}

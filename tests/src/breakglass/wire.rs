//! A client of `signer.sock` that knows only what the wire's page says.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::CALLER;

/// A client of `signer.sock`.
#[derive(Debug)]
pub struct Wire {
    stream: UnixStream,
    bytes: Vec<u8>,
    next_id: u64,
}

impl Wire {
    /// Connects, without a word.
    pub async fn connect(socket: &Path) -> Self {
        Self::try_connect(socket)
            .await
            .unwrap_or_else(|| panic!("nobody serves {}", socket.display()))
    }

    /// The same; none: nobody serves it.
    pub async fn try_connect(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).await.ok()?;
        Some(Self { stream, bytes: Vec::new(), next_id: 1 })
    }

    /// Sends an ask, `{"name": {...}}`, with an id of its own.
    pub async fn send(&mut self, mut ask: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        ask.as_object_mut().unwrap().values_mut().next().unwrap()["id"] = json!(id);
        self.send_bytes(ask.to_string().as_bytes()).await;
        id
    }

    /// Sends these bytes as a frame; a peer that is gone is found by reading.
    pub async fn send_bytes(&mut self, json: &[u8]) {
        let length = u32::try_from(json.len()).unwrap().to_le_bytes();
        let _ = self.stream.write_all(&[&length, json].concat()).await;
    }

    /// The next answer; None at the connection's end.
    pub async fn next(&mut self) -> Option<Value> {
        let read = tokio::time::timeout(Duration::from_secs(30), self.read()).await;
        read.unwrap_or_else(|_| panic!("no answer in time"))
    }

    async fn read(&mut self) -> Option<Value> {
        loop {
            if let Some((length, rest)) = self.bytes.split_first_chunk::<4>() {
                let length = u32::from_le_bytes(*length) as usize;
                if let Some(json) = rest.get(..length) {
                    let answer = serde_json::from_slice(json).unwrap();
                    self.bytes.drain(..4 + length);
                    return Some(answer);
                }
            }
            match self.stream.read_buf(&mut self.bytes).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Asks, and returns the answer to it; what comes unasked meanwhile is passed over.
    pub async fn ask(&mut self, ask: Value) -> Value {
        let answer = self.try_ask(ask).await;
        answer.unwrap_or_else(|| panic!("the connection ended before the answer"))
    }

    /// The same; none: the connection ended before the answer.
    pub async fn try_ask(&mut self, ask: Value) -> Option<Value> {
        let id = self.send(ask).await;
        loop {
            let answer = self.next().await?;
            if answer.as_object().unwrap().values().next().unwrap()["id"] == json!(id) {
                return Some(answer);
            }
        }
    }

    /// Asks for a signature of `message` in place of `kid`, under Ed25519.
    pub async fn sign(&mut self, session: &str, kid: &str, message: &[u8]) -> Value {
        self.ask(sign(session, kid, message)).await
    }
}

/// The ask for a signature of `message`, under Ed25519.
#[must_use]
pub fn sign(session: &str, kid: &str, message: &[u8]) -> Value {
    json!({"sign": {
        "session": session, "caller": CALLER, "request_id": format!("r-{}", nonce()), "signer_kid": kid,
        "algorithm": "ED25519_SHA_512", "input": {"message": STANDARD.encode(message)},
        "proxy_head": proxy_head(),
    }})
}

/// The ask that activates these bytes with these approvals; the proxy claims an outage of
/// an hour of every signer.
#[must_use]
pub fn activation(bytes: &[u8], approvals: &[Vec<u8>], request: &Value) -> Value {
    let replaces = request["replaces"].as_array().cloned().unwrap_or_default();
    let outages: Vec<_> = replaces
        .iter()
        .map(|kid| json!({"signer_kid": kid, "since": "2026-01-01T00:00:00Z", "seconds": 3600}))
        .collect();
    let approvals: Vec<_> = approvals.iter().map(|armored| STANDARD.encode(armored)).collect();
    json!({"activate": {
        "request_b64": STANDARD.encode(bytes), "approvals_b64": approvals, "outages": outages,
        "proxy_head": proxy_head(), "by": "uid 0 (root)",
    }})
}

/// The head of the journal of the proxy that this client is.
#[must_use]
pub fn proxy_head() -> Value {
    json!({"log": "0".repeat(32), "size": 7, "root": "a".repeat(64)})
}

/// The checkpoint of that head, signed by the audit key in `file`.
#[must_use]
pub fn checkpoint(file: &Path) -> String {
    let pem = std::fs::read_to_string(file).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(der).unwrap();
    let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).unwrap();
    let head = proxy_head();
    let origin = format!("signing-journal/{}", head["log"].as_str().unwrap());
    let root = STANDARD.encode(hex::decode(head["root"].as_str().unwrap()).unwrap());
    let text = format!("{origin}\n{}\n{root}\n", head["size"]);
    // c2sp.org/signed-note: the key's id is made of its name, its kind and its bytes.
    let id = [origin.as_bytes(), b"\n\x01", key.public_key().as_ref()].concat();
    let signed = [&digest(&SHA256, &id).as_ref()[..4], key.sign(text.as_bytes()).as_ref()].concat();
    format!("{text}\n\u{2014} {origin} {}\n", STANDARD.encode(signed))
}

/// Base64 of 16 random bytes.
#[must_use]
pub fn nonce() -> String {
    let mut nonce = [0; 16];
    aws_lc_rs::rand::fill(&mut nonce).unwrap();
    STANDARD.encode(nonce)
}

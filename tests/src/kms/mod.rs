//! A KMS for tests: AWS JSON 1.1 (`TrentService.*`) with real keys, and every
//! fault switchable while it runs. It has a thread and a runtime of its own, so
//! that it is fast and nothing in a test can starve it.

mod answers;
mod clients;
mod cloudtrail;
mod cut;
mod pair;
mod received;
mod region;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use answers::{answer, error, with_id};
use clients::{Clients, access_key};
use pair::{Given, Pair};
use received::Log;

pub use pair::Kind;
pub use received::{Logged, Operation, Received};

/// What goes wrong with an operation of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error of that code, such as `ThrottlingException`, and HTTP status.
    Error(&'static str, u16),
    /// An answer, but only after this long.
    Latency(Duration),
    /// Never an answer.
    Hang,
    /// An answer, but only once the fault is mended.
    Hold,
    /// The connection is closed without an answer.
    Reset,
    /// The connection is closed in the middle of the answer.
    ResetMidAnswer,
    /// A good signature by another key of the same kind.
    WrongKey,
    /// One bit of the signature is flipped.
    CorruptSignature,
    /// The signature lacks its last byte.
    ShortSignature,
    /// A zero byte before the first number of an ECDSA signature, which DER forbids.
    PaddedSignature,
    /// No signature in the answer.
    NoSignature,
    /// The answer names another key.
    OtherKeyId,
    /// The answer names another algorithm.
    OtherAlgorithm,
    /// The answer is not JSON.
    NotJson,
    /// A bare 503 without an error code, as a load balancer gives.
    Bare503,
}

/// A running KMS.
#[derive(Clone, Debug)]
pub struct Kms {
    /// Its endpoint: `http://127.0.0.1:PORT`.
    pub endpoint: String,
    /// Its region.
    pub region: &'static str,
    keys: Arc<Mutex<BTreeMap<String, Arc<Held>>>>,
    clients: Clients,
    /// The `Date` of its answers, if it is not the time.
    date: Arc<Mutex<Option<HeaderValue>>>,
    /// Whether it can be reached.
    reachable: watch::Sender<bool>,
    /// Whether it has done what it was told.
    settled: watch::Receiver<bool>,
}

/// A key in it.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// PEM `PUBLIC KEY`.
    pub public_key_pem: String,
    /// None for a key of a KMS that is not ours.
    held: Option<Arc<Held>>,
}

#[derive(Debug)]
struct Held {
    arn: String,
    kind: Kind,
    pair: Arc<Pair>,
    /// Signs in place of `pair` under [`Fault::WrongKey`].
    other: Pair,
    faults: Mutex<BTreeMap<Operation, Fault>>,
    calls: Mutex<BTreeMap<Operation, u64>>,
    log: Log,
    mended: Notify,
    /// The one algorithm that is not denied.
    only: Mutex<Option<&'static str>>,
    /// Its state, and when it will be deleted, in seconds since 1970.
    state: Mutex<(&'static str, Option<u64>)>,
}

impl Kms {
    /// Makes a key.
    #[must_use]
    pub fn key(&self, kind: Kind) -> Key {
        self.hold(kind, Arc::new(Pair::generate(kind)))
    }

    /// Makes a replica of a key of another region: the same key pair, with faults of its own.
    #[must_use]
    pub fn replica(&self, key: &Key) -> Key {
        self.hold(key.kind, Arc::clone(&key.held().pair))
    }

    fn hold(&self, kind: Kind, pair: Arc<Pair>) -> Key {
        let mut keys = self.keys.lock().unwrap();
        let id = format!("00000000-0000-4000-8000-{:012}", keys.len());
        let arn = format!("arn:aws:kms:{}:000000000000:key/{id}", self.region);
        let held = Arc::new(Held {
            arn: arn.clone(),
            kind,
            pair,
            other: Pair::generate(kind),
            faults: Mutex::default(),
            calls: Mutex::default(),
            log: Log::default(),
            mended: Notify::new(),
            only: Mutex::default(),
            state: Mutex::new(("Enabled", None)),
        });
        let pem = pem("PUBLIC KEY", &held.pair.public_key_der());
        keys.insert(id.clone(), Arc::clone(&held));
        keys.insert(arn, Arc::clone(&held));
        Key { id, kind, public_key_pem: pem, held: Some(held) }
    }

    /// Points the alias `name` at `key`, wherever it pointed before; returns the
    /// key under that name.
    #[must_use]
    pub fn alias(&self, name: &str, key: &Key) -> Key {
        self.keys.lock().unwrap().insert(name.to_owned(), Arc::clone(key.held()));
        Key { id: name.to_owned(), ..key.clone() }
    }

    /// Lets in who signs with one of those access keys, and answers all others `else_code`.
    pub fn let_in(&self, keys: &[&str], else_code: &'static str) {
        self.clients.let_in(keys, else_code);
    }

    /// Has every answer carry that `Date`, of RFC 9110; none: the time.
    pub fn show_date(&self, date: Option<&str>) {
        *self.date.lock().unwrap() = date.map(|date| HeaderValue::from_str(date).unwrap());
    }

    /// How often somebody was not let in.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.clients.refused()
    }

    /// The private key of `key`, PKCS#8 in PEM, for a token that is to hold it too.
    #[must_use]
    pub fn private_key_pem(key: &Key) -> String {
        pem(concat!("PRIVATE", " KEY"), &key.held().pair.private_key_der())
    }

    async fn answered(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let mut response = self.respond(request).await?;
        if let Some(date) = self.date.lock().unwrap().clone() {
            response.headers_mut().insert("date", date);
        }
        Ok(response)
    }

    async fn respond(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let refused = self.clients.refuse(request.headers());
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let input: Value = serde_json::from_slice(&body).unwrap_or_default();
        let held =
            self.keys.lock().unwrap().get(input["KeyId"].as_str().unwrap_or_default()).cloned();
        let Some(held) = held else { return Ok(error("NotFoundException", 400)) };
        let Some(operation) = Operation::of(&head.headers) else {
            return Ok(error("UnknownOperationException", 400));
        };
        let who = access_key(&head.headers).unwrap_or_default();
        let (number, id) = held.log.take(operation, &head.headers, who);
        match refused {
            Some(code) => {
                held.log.end(number, Logged::Refused(code));
                Ok(with_id(error(code, 400), &id))
            }
            None => Ok(with_id(held.respond(operation, &input, number).await?, &id)),
        }
    }
}

impl Held {
    async fn respond(
        &self,
        operation: Operation,
        input: &Value,
        number: u64,
    ) -> io::Result<Response<Full<Bytes>>> {
        *self.calls.lock().unwrap().entry(operation).or_default() += 1;
        let fault = self.faults.lock().unwrap().get(&operation).cloned();
        let answered = match operation {
            Operation::Sign => sign(self, input, fault.as_ref()),
            Operation::GetPublicKey => Ok(public_key(self)),
            Operation::DescribeKey => Ok(description(self)),
        };
        // Before the answer is late or lost.
        let logged = match (&fault, &answered) {
            (Some(Fault::Reset | Fault::NotJson | Fault::Bare503), _) => Logged::Nothing,
            (Some(Fault::Error(code, _)), _) | (_, Err(code)) => Logged::Refused(code),
            (_, Ok(_)) => Logged::Done,
        };
        self.log.end(number, logged);
        match &fault {
            Some(Fault::Error(code, status)) => return Ok(error(code, *status)),
            // A pause: this KMS is slow on purpose.
            Some(Fault::Latency(latency)) => tokio::time::sleep(*latency).await,
            Some(Fault::Hold) => self.mended(operation).await,
            Some(Fault::Hang) => std::future::pending::<Infallible>().await.into_never(),
            Some(Fault::Reset) => return Err(io::Error::other("reset")),
            Some(Fault::NotJson) => return Ok(answer(200, Bytes::from_static(b"<html>"))),
            Some(Fault::Bare503) => return Ok(answer(503, Bytes::new())),
            _ => {}
        }
        let body = match answered {
            Ok(body) => body,
            Err(code) => return Ok(error(code, 400)),
        };
        let mut response = answer(200, Bytes::from(body.to_string()));
        if fault == Some(Fault::ResetMidAnswer) {
            response.headers_mut().insert("x-cut-here", HeaderValue::from_static("1"));
        }
        Ok(response)
    }
}

impl Key {
    /// A key in a KMS that is not ours: no faults, no counts.
    #[must_use]
    pub fn foreign(id: &str, kind: Kind, spki_der: &[u8]) -> Self {
        let public_key_pem = pem("PUBLIC KEY", spki_der);
        Self { id: id.to_owned(), kind, public_key_pem, held: None }
    }

    /// The same key under another name, as another place has it.
    #[must_use]
    pub fn named(&self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self.clone() }
    }

    fn held(&self) -> &Arc<Held> {
        self.held.as_ref().unwrap_or_else(|| panic!("{} is in a KMS that is not ours", self.id))
    }

    /// Makes `operation` fail from now on.
    pub fn set(&self, operation: Operation, fault: Fault) {
        self.held().faults.lock().unwrap().insert(operation, fault);
    }

    /// Makes `Sign` fail from now on.
    pub fn break_with(&self, fault: Fault) {
        self.set(Operation::Sign, fault);
    }

    /// Denies every algorithm but one from now on, as a condition on
    /// `kms:SigningAlgorithm` does.
    pub fn deny_all_but(&self, algorithm: &'static str) {
        *self.held().only.lock().unwrap() = Some(algorithm);
    }

    /// Puts it in that state, with a date of its deletion in seconds since 1970. What signs
    /// is not changed by it.
    pub fn set_state(&self, state: &'static str, deletion: Option<u64>) {
        *self.held().state.lock().unwrap() = (state, deletion);
    }

    /// Ends all faults.
    pub fn mend(&self) {
        self.held().faults.lock().unwrap().clear();
        self.held().mended.notify_waiters();
    }

    /// The calls that it received, answered or not, oldest first.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.held().log.all()
    }

    /// Has every answer say that it is that one.
    pub fn name_answers(&self, id: &'static str) {
        *self.held().log.named.lock().unwrap() = Some(id);
    }

    /// How often `operation` was called.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        self.held().calls.lock().unwrap().get(&operation).copied().unwrap_or_default()
    }
}

impl Held {
    /// Waits until `operation` is held no more.
    async fn mended(&self, operation: Operation) {
        loop {
            let mended = self.mended.notified();
            if self.faults.lock().unwrap().get(&operation) != Some(&Fault::Hold) {
                return;
            }
            mended.await;
        }
    }
}

fn sign(held: &Held, input: &Value, fault: Option<&Fault>) -> Result<Value, &'static str> {
    let algorithm = input["SigningAlgorithm"].as_str().unwrap_or_default();
    if !held.kind.algorithms().contains(&algorithm) {
        return Err("InvalidKeyUsageException");
    }
    if held.only.lock().unwrap().is_some_and(|only| only != algorithm) {
        return Err("AccessDeniedException");
    }
    let message = STANDARD
        .decode(input["Message"].as_str().unwrap_or_default())
        .map_err(|_| "SerializationException")?;
    let pair = if fault == Some(&Fault::WrongKey) { &held.other } else { &held.pair };
    let given = match input["MessageType"].as_str() {
        Some("DIGEST") => Given::Digest,
        Some("EXTERNAL_MU") => Given::ExternalMu,
        Some("RAW") | None => Given::Raw,
        Some(_) => return Err("ValidationException"),
    };
    let mut signature = pair.sign(algorithm, &message, given)?;
    match fault {
        Some(Fault::CorruptSignature) => {
            let middle = signature.len() / 2;
            signature[middle] ^= 1;
        }
        Some(Fault::PaddedSignature) => {
            // SEQUENCE, its length, INTEGER, its length, and then the number.
            signature[1] += 1;
            signature[3] += 1;
            signature.insert(4, 0);
        }
        Some(Fault::ShortSignature) => {
            signature.pop();
        }
        _ => {}
    }
    let arn = if fault == Some(&Fault::OtherKeyId) {
        "arn:aws:kms:eu-test-1:000000000000:key/another"
    } else {
        &held.arn
    };
    let algorithm = if fault == Some(&Fault::OtherAlgorithm) { "SM2DSA" } else { algorithm };
    let mut body = json!({"KeyId": arn, "SigningAlgorithm": algorithm});
    if fault != Some(&Fault::NoSignature) {
        body["Signature"] = json!(STANDARD.encode(signature));
    }
    Ok(body)
}

fn public_key(held: &Held) -> Value {
    let kind = held.kind;
    json!({
        "KeyId": held.arn,
        "KeySpec": kind.key_spec(),
        "CustomerMasterKeySpec": kind.key_spec(),
        "KeyUsage": "SIGN_VERIFY",
        "PublicKey": STANDARD.encode(held.pair.public_key_der()),
        "SigningAlgorithms": kind.algorithms(),
    })
}

fn description(held: &Held) -> Value {
    let (state, deletion) = *held.state.lock().unwrap();
    let mut metadata = json!({"KeyId": held.arn, "Arn": held.arn, "KeyState": state});
    if let Some(at) = deletion {
        metadata["DeletionDate"] = json!(at);
    }
    json!({"KeyMetadata": metadata})
}

/// A PEM block with lines of 64.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<_> =
        body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// `Infallible` as any type.
trait IntoNever {
    fn into_never<T>(self) -> T;
}

impl IntoNever for Infallible {
    fn into_never<T>(self) -> T {
        match self {}
    }
}

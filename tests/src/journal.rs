//! A journal from outside: what clients got of it, what the independent checker says
//! of it, and where its records lie.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::client::Client;
use crate::programs::repository;
use crate::trace::Place;

/// What came of one request: an answer, or none because the connection ended.
#[derive(Clone, Debug)]
pub enum Exchange {
    /// A signature, as the checker wants it.
    Signed(Value),
    /// A refusal: its status and reason.
    Refused(u16, String),
    /// No answer.
    Cut,
}

/// Whether the journal's process was killed and none has started since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// No: it has to be whole.
    Whole,
    /// Yes: its last record may be torn.
    MayBeTorn,
}

impl Exchange {
    /// The number of the record that came with a signature.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Signed(got) => Some(got["receipt"]["seq"].as_u64().unwrap()),
            Self::Refused(..) | Self::Cut => None,
        }
    }
}

/// Asks for signatures of messages that `name` makes unique, one after the other, with
/// each of `kids` in turn; ends early when the connection does.
pub async fn load(client: &Client, kids: &[&str], name: &str, requests: usize) -> Vec<Exchange> {
    let mut exchanges = Vec::new();
    for (number, kid) in (0..requests).zip(kids.iter().cycle()) {
        exchanges.push(ask(client, kid, &format!("{name} {number}")).await);
        if matches!(exchanges.last(), Some(Exchange::Cut)) {
            break;
        }
    }
    exchanges
}

/// Asks for one signature.
pub async fn ask(client: &Client, kid: &str, message: &str) -> Exchange {
    let message = STANDARD.encode(message);
    let headers = [("content-type", "application/json")];
    let body = json!({"signer_kid": kid, "message": message}).to_string();
    let Ok(answer) = client.send(Method::POST, "/v1/sign", &headers, body).await else {
        return Exchange::Cut;
    };
    if answer.status != 200 {
        return Exchange::Refused(answer.status, answer.reason().to_owned());
    }
    let got = |key: &str| answer.body[key].clone();
    Exchange::Signed(json!({
        "request_id": got("request_id"), "signer_kid": kid, "algorithm": got("algorithm"),
        "message_b64": message, "signature_b64": got("signature"), "receipt": got("audit"),
    }))
}

/// What `tests/journal/check.py` says of a journal and of what clients received.
///
/// # Errors
/// The first defect.
pub fn check(
    directory: &Path,
    registry: &Path,
    exchanges: &[Exchange],
    tail: Tail,
) -> Result<Value, String> {
    let received = registry.with_file_name("received.jsonl");
    let signed = exchanges.iter().filter_map(|exchange| match exchange {
        Exchange::Signed(got) => Some(format!("{got}\n")),
        Exchange::Refused(..) | Exchange::Cut => None,
    });
    fs::write(&received, signed.collect::<String>()).unwrap();
    let mut command = python("tests/journal/check.py");
    command.arg(directory).arg("--registry").arg(registry).arg("--received").arg(&received);
    if tail == Tail::MayBeTorn {
        command.arg("--allow-torn-tail");
    }
    let output = command.output().unwrap();
    let (said, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(format!("{said}{errors}"));
    }
    Ok(serde_json::from_str(&said).unwrap())
}

/// The records of that type in a journal, as `signctl audit tail --json` prints them.
#[must_use]
pub fn read(directory: &Path, kind: &str) -> Vec<Value> {
    let mut command = Command::new(crate::programs::ours("signctl"));
    command.args(["audit", "tail", "--json", "-n", "1000000", "--type", kind, "--journal"]);
    let output = command.arg(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A script of ours under the Python that has its packages.
#[must_use]
pub fn python(script: &str) -> Command {
    let python = repository().join("target/tools/ministack/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run ./tests/run.sh, which installs it",
        python.display()
    );
    let mut command = Command::new(python);
    command.arg("-B").arg(repository().join(script));
    command
}

/// The segments of a journal in the order of their records.
#[must_use]
pub fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "journal")).collect();
    found.sort();
    found
}

/// Where every record of a segment lies, up to the end of the checkpoint that covers it, with its
/// number (docs/reference/journal.md).
#[must_use]
pub fn records(segment: &Path) -> Vec<(u64, Place)> {
    let file = segment.file_name().unwrap().to_str().unwrap();
    let (mut found, mut covered): (Vec<(u64, Place)>, usize) = (Vec::new(), 0);
    for frame in frames(segment) {
        let to = frame.to;
        if frame.is_checkpoint {
            found.iter_mut().skip(covered).for_each(|(_, place)| place.to = to);
            covered = found.len();
        } else {
            found.push((frame.number, Place { file: file.to_owned(), from: frame.from, to }));
        }
    }
    found
}

/// A record or a checkpoint, as it lies in a segment.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// A record's number; how many records a checkpoint covers.
    pub number: u64,
    /// Which of the two it is.
    pub is_checkpoint: bool,
    /// Where it begins.
    pub from: u64,
    /// Where the next one begins.
    pub to: u64,
}

/// Every frame of a segment, by the lengths in the file alone (docs/reference/journal.md).
#[must_use]
pub fn frames(segment: &Path) -> Vec<Frame> {
    let bytes = fs::read(segment).unwrap();
    let mut found = Vec::new();
    let mut from = 4096;
    while let Some(head) = bytes.get(from..from + 16) {
        let length = u32::from_le_bytes(head[..4].try_into().unwrap());
        if length == 0 {
            break;
        }
        let is_checkpoint = length >> 31 == 1;
        let before = if is_checkpoint { 24 } else { 16 };
        let inner = (length & !(1 << 31)) as usize;
        let to = from + (before + inner).next_multiple_of(8);
        let number = u64::from_le_bytes(head[8..].try_into().unwrap());
        found.push(Frame { number, is_checkpoint, from: from as u64, to: to as u64 });
        from = to;
    }
    found
}

//! Objects of an archive held against each other and against the registry: numbers, lines, leaves, roots, signatures
//! of checkpoints, and rows of their own. Pure: objects come one by one, those of a log in the order of their records.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use signing_core::Registry;
use signing_core::journal::{AuditKeys, Head, Leaf, Outline};
use signing_core::key::Purpose;
use signing_core::tree::{Frontier, LogId, SignedCheckpoint, TreeHash};

use super::name::Part;
use crate::canonical::canonical;
use crate::lines;
use crate::row::{hash, parse_hash};
use crate::verify::is_record;

/// Defects that are named; more are counted.
const NAMED: usize = 20;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Objects with records.
    pub objects: u64,
    /// Records in them.
    pub records: u64,
    /// Rows with an object of their own.
    pub events: u64,
    /// Objects whose root could not be compared, since records before them are not here.
    pub rootless: u64,
    /// Objects whose lock has ended.
    pub unlocked_by_age: u64,
    /// Defects.
    pub defects: u64,
    /// The first of them.
    pub named: Vec<String>,
    /// What is no defect, and worth a look.
    pub notes: Vec<String>,
    /// Of each log, how far it goes without a gap from its first record here.
    pub logs: BTreeMap<LogId, Reach>,
}

/// How far a log goes in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The first record.
    pub first: u64,
    /// The newest.
    pub last: u64,
}

/// Takes objects one by one.
pub struct Verifier<'r> {
    registry: &'r Registry,
    keys: AuditKeys,
    /// Whether what is before the first record of a log is asked for.
    is_whole: bool,
    trees: BTreeMap<LogId, Frontier>,
    found: Found,
}

/// An object with records, and its checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Records<'b> {
    /// Where it is.
    pub key: &'b str,
    /// What its name says.
    pub part: Part,
    /// Its lines.
    pub body: &'b [u8],
    /// The checkpoint; none: there is no such object.
    pub note: Option<&'b [u8]>,
    /// Whether no other object of this log follows.
    pub is_newest: bool,
}

impl Found {
    /// One defect.
    pub fn defect(&mut self, what: String) {
        self.defects += 1;
        if self.named.len() < NAMED {
            self.named.push(what);
        }
    }

    /// What is no defect.
    pub fn note(&mut self, what: String) {
        if self.notes.len() < NAMED {
            self.notes.push(what);
        }
    }
}

impl<'r> Verifier<'r> {
    /// Of a whole archive, or of a part of one.
    #[must_use]
    pub fn new(registry: &'r Registry, is_whole: bool) -> Self {
        let keys = AuditKeys::of_registry(registry);
        Self { registry, keys, is_whole, trees: BTreeMap::new(), found: Found::default() }
    }

    /// What was found so far.
    pub fn found(&mut self) -> &mut Found {
        &mut self.found
    }

    /// The end.
    #[must_use]
    pub fn finish(self) -> Found {
        self.found
    }

    /// Takes the next object of a log. `hear` hears each record of it that is as it was written.
    pub fn records(&mut self, of: &Records<'_>, hear: &mut dyn FnMut(LogId, Leaf)) {
        let Part { log, first, last } = of.part;
        let next = self.found.logs.get(&log).map_or(1, |reach| reach.last + 1);
        let begins = !self.found.logs.contains_key(&log);
        if first < next {
            let what = format!(
                "records {first} to {} of {log} are in another object, too",
                last.min(next - 1)
            );
            return self.found.defect(format!("{}: {what}", of.key));
        }
        if of.note.is_none() && of.is_newest {
            let what = format!(
                "{}: its checkpoint is not there yet: the trail was interrupted, or is about to write it",
                of.key
            );
            return self.found.note(what);
        }
        if first > next && (self.is_whole || !begins) {
            let gone = first - 1;
            self.found.defect(format!("records {next} to {gone} of {log} are in no object"));
        }
        // Without all records before it, no root can be made.
        let mut tree = match self.trees.remove(&log) {
            _ if first != next => None,
            None => (first == 1).then(Frontier::default),
            tree => tree,
        };
        let reach =
            Reach { first: self.found.logs.get(&log).map_or(first, |reach| reach.first), last };
        self.found.logs.insert(log, reach);
        self.found.objects += 1;
        match leaves(&of.part, of.body) {
            Err(what) => {
                self.found.defect(format!("{}: {what}", of.key));
                tree = None;
            }
            Ok(leaves) => {
                for leaf in leaves {
                    self.found.records += 1;
                    if let Some(tree) = &mut tree {
                        tree.push(leaf.hash);
                    }
                    hear(log, leaf);
                }
            }
        }
        self.checkpoint(of, &mut tree);
        if let Some(tree) = tree {
            self.trees.insert(log, tree);
        }
    }

    fn checkpoint(&mut self, of: &Records<'_>, tree: &mut Option<Frontier>) {
        let key = of.key.replace(".jsonl", ".checkpoint");
        let Some(note) = of.note else {
            return self.found.defect(format!("{key}: it is not there"));
        };
        let head = match self.head(&of.part, note) {
            Ok(head) => head,
            Err(what) => return self.found.defect(format!("{key}: {what}")),
        };
        match tree {
            None => self.found.rootless += 1,
            Some(made) if made.root() == head.root => {}
            Some(made) => {
                let root = made.root();
                self.found.defect(format!(
                    "{}: its records give the root {root}, and its checkpoint says {}: records were changed, added or removed",
                    of.key, head.root
                ));
                // What follows cannot be compared either.
                *tree = None;
            }
        }
    }

    fn head(&self, part: &Part, note: &[u8]) -> Result<Head, String> {
        let checkpoint = std::str::from_utf8(note)
            .ok()
            .and_then(|note| SignedCheckpoint::parse(note).ok())
            .ok_or("it is no checkpoint")?;
        let said = checkpoint.checkpoint();
        if said.log != part.log || said.size != part.last {
            return Err("its checkpoint is of another log or size".to_owned());
        }
        self.keys.verify(&checkpoint).map_err(|error| error.to_string())?;
        Ok(Head::of(said))
    }

    /// Takes a row that has an object of its own: its payload, if it is sound.
    pub fn event(&mut self, key: &str, id: &str, body: &[u8]) -> Option<Map<String, Value>> {
        self.found.events += 1;
        match self.row(id, body) {
            Ok(payload) => Some(payload),
            Err(what) => {
                self.found.defect(format!("{key}: {what}"));
                None
            }
        }
    }

    fn row(&self, id: &str, body: &[u8]) -> Result<Map<String, Value>, String> {
        let read: Value =
            signing_core::json::from_slice(body).map_err(|error| error.to_string())?;
        if canonical(&read).as_bytes() != body {
            return Err("it is not the canonical form of what it says".to_owned());
        }
        let text = |name: &str| read.get(name).and_then(Value::as_str).unwrap_or_default();
        let Some(Value::Object(payload)) = read.get("payload") else {
            return Err("it has no payload".to_owned());
        };
        let prev =
            match read.get("prevHash").and_then(Value::as_str).filter(|hash| !hash.is_empty()) {
                None => None,
                Some(text) => Some(parse_hash(text).ok_or("its prevHash is no hash")?),
            };
        let computed = hash(&canonical(&Value::Object(payload.clone())), prev.as_ref());
        if parse_hash(text("hash")) != Some(computed) {
            return Err("its hash is not that of its payload and prevHash".to_owned());
        }
        self.is_signed(text("signerId"), &computed, text("signature"))?;
        for (name, member) in [("id", "id"), ("event_type", "eventType"), ("created_at", "ts")] {
            if payload.get(name).and_then(Value::as_str) != Some(text(member)) {
                return Err(format!("its {member} is not what its payload says"));
            }
        }
        if text("id") != id {
            return Err("it is of another row than its name says".to_owned());
        }
        let seq =
            payload.get("seq").and_then(Value::as_u64).ok_or("its payload names no record")?;
        is_record(&self.keys, payload, seq)?;
        Ok(payload.clone())
    }

    fn is_signed(&self, kid: &str, hash: &[u8; 32], signature: &str) -> Result<(), String> {
        let signer = self.registry.get(kid).filter(|signer| signer.purpose == Purpose::Audit);
        let key = signer.and_then(|signer| signer.public_key.ed25519_bytes());
        let key =
            key.ok_or_else(|| format!("its signer {kid:?} is no audit key of the registry"))?;
        let signature = STANDARD.decode(signature).unwrap_or_default();
        UnparsedPublicKey::new(&ED25519, key)
            .verify(hash, &signature)
            .map_err(|_| format!("its signature is not that of {kid} over its hash"))
    }
}

/// The records in an object, each exactly as the trail writes it.
fn leaves(part: &Part, body: &[u8]) -> Result<Vec<Leaf>, String> {
    let text = std::str::from_utf8(body).map_err(|_| "it is no UTF-8")?;
    let text = text.strip_suffix('\n').ok_or("its last line has no end")?;
    let (origin, mut seq) = (part.log.origin(), part.first);
    let mut leaves = Vec::new();
    for line in text.split('\n') {
        if seq > part.last {
            return Err(format!(
                "it has more records than its name says: {} to {}",
                part.first, part.last
            ));
        }
        leaves.push(leaf(&origin, seq, line).map_err(|what| format!("record {seq}: {what}"))?);
        seq += 1;
    }
    if seq != part.last + 1 {
        return Err(format!("it ends with record {}, and its name says {}", seq - 1, part.last));
    }
    Ok(leaves)
}

fn leaf(origin: &str, seq: u64, line: &str) -> Result<Leaf, String> {
    let value: Value = signing_core::json::from_slice(line.as_bytes())
        .map_err(|error| format!("its line: {error}"))?;
    let body = canonical(value.get("record").unwrap_or(&Value::Null));
    let (outline, _) =
        Outline::parse(body.as_bytes()).ok_or("its line has no record that this version knows")?;
    let leaf = Leaf { seq, hash: TreeHash::leaf(body.as_bytes()) };
    if lines::of_record(origin, &leaf, &outline) == line {
        Ok(leaf)
    } else {
        Err("its line is not as the trail writes it: number, log, leaf or record was changed"
            .to_owned())
    }
}

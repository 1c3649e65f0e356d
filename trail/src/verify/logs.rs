//! What rows say of journals: every record of a log is covered once, by a checkpoint that an audit key
//! signed, and what is told of a record is what its bytes say.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use signing_core::journal::{AuditKeys, Head, Outline};
use signing_core::tree::{Inclusion, SignedCheckpoint, TreeHash};

use crate::canonical::shippable;
use crate::event::{CHECKPOINT, GAP};
use crate::plan::Position;

/// What was seen of one log.
#[derive(Debug, Default)]
struct Log {
    /// Records up to here are covered, or named as gone.
    covered: u64,
    /// The newest record that had a row of its own.
    newest: u64,
    is_seen: bool,
    /// The newest checkpoint that rows show, of a checkpoint row or of a record's proof.
    head: Option<Head>,
}

/// What was seen of every log.
pub(super) struct Logs {
    keys: AuditKeys,
    is_whole: bool,
    logs: BTreeMap<String, Log>,
}

impl Logs {
    pub(super) fn new(keys: AuditKeys, is_whole: bool) -> Self {
        Self { keys, is_whole, logs: BTreeMap::new() }
    }

    /// Takes the payload of the next row of the trail.
    pub(super) fn take(&mut self, payload: &Map<String, Value>) -> Result<(), String> {
        let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| {
            let number = payload.get(name).and_then(Value::as_u64);
            number.ok_or_else(|| format!("its payload has no number {name}"))
        };
        let origin = text("log").to_owned();
        match text("event_type") {
            CHECKPOINT => {
                let (first, last) = (number("first")?, number("last")?);
                let checkpoint = SignedCheckpoint::parse(text("checkpoint"))
                    .map_err(|_| "its checkpoint cannot be read".to_owned())?;
                let said = checkpoint.checkpoint();
                if said.size != last || said.log.origin() != origin {
                    return Err("its checkpoint is of another log or size".to_owned());
                }
                self.keys
                    .verify(&checkpoint)
                    .map_err(|error| format!("its checkpoint: {error}"))?;
                let head = Head::of(checkpoint.checkpoint());
                self.cover(&origin, first, last)?;
                self.knows(origin, head);
                Ok(())
            }
            GAP => self.cover(&origin, number("first")?, number("last")?),
            _ => {
                let seq = number("seq")?;
                let head = is_record(&self.keys, payload, seq)?;
                let log = self.logs.entry(origin.clone()).or_default();
                if log.newest >= seq {
                    return Err(format!("record {seq} has a row twice, or out of order"));
                }
                log.newest = seq;
                self.knows(origin, head);
                Ok(())
            }
        }
    }

    /// What the positions say and no row shows, or what no position says that is the trail's.
    pub(super) fn finish(&self, positions: &[(String, Position)]) -> Option<String> {
        positions.iter().find_map(|(origin, position)| {
            let log = self.logs.get(origin);
            let seen = log.filter(|log| log.is_seen);
            let says = log.and_then(|log| log.against(origin, position));
            // The newest rows alone may hold nothing of a log that is idle.
            let covered = match seen {
                None if !self.is_whole => return says,
                seen => seen.map_or(0, |log| log.covered),
            };
            let is_short = (covered != position.covered).then(|| {
                format!(
                    "the trail covered record {} of {origin}, and the rows cover {covered}: rows are missing at the end",
                    position.covered
                )
            });
            is_short.or(says)
        })
    }

    fn knows(&mut self, origin: String, head: Head) {
        let newest = &mut self.logs.entry(origin).or_default().head;
        if newest.is_none_or(|newest| newest.size < head.size) {
            *newest = Some(head);
        }
    }

    fn cover(&mut self, origin: &str, first: u64, last: u64) -> Result<(), String> {
        let is_whole = self.is_whole;
        let log = self.logs.entry(origin.to_owned()).or_default();
        let expected = log.covered + 1;
        if (first != expected && (log.is_seen || is_whole)) || last < first {
            return Err(format!(
                "it covers records {first} to {last} of {origin}, and record {expected} is the next"
            ));
        }
        log.is_seen = true;
        log.covered = last;
        Ok(())
    }
}

impl Log {
    /// What a position says that the rows contradict. Nobody signs positions: whoever writes to the database may write them.
    fn against(&self, origin: &str, position: &Position) -> Option<String> {
        let head = self.head?;
        if head.size == position.shipped && head.root != position.root {
            return Some(format!(
                "the position of {origin} has the root {} at record {}, and the signed checkpoint there {}: the position was changed",
                position.root, head.size, head.root
            ));
        }
        let newest = self.newest.max(self.covered);
        (position.shipped < newest).then(|| {
            format!(
                "the position of {origin} is record {}, and the rows hold record {newest}: the position was changed, and the trail would ship again",
                position.shipped
            )
        })
    }
}

/// The bytes, the leaf, the proof and what the payload says are of one record; the checkpoint of the proof.
pub(crate) fn is_record(
    keys: &AuditKeys,
    payload: &Map<String, Value>,
    seq: u64,
) -> Result<Head, String> {
    let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default();
    let body = STANDARD.decode(text("record")).map_err(|_| "its record is no base64".to_owned())?;
    let leaf = TreeHash::leaf(&body);
    if leaf.to_string() != text("leaf") {
        return Err("its leaf is not that of its record".to_owned());
    }
    let proof = Inclusion::parse(text("proof")).map_err(|error| format!("its proof: {error}"))?;
    let said = proof.checkpoint.checkpoint();
    if proof.index + 1 != seq || said.log.origin() != text("log") {
        return Err("its proof is of another record".to_owned());
    }
    proof.proves(&leaf).map_err(|error| format!("its proof: {error}"))?;
    keys.verify(&proof.checkpoint).map_err(|error| format!("its proof: {error}"))?;
    let (outline, _) =
        Outline::parse(&body).ok_or("its record has a type that this version does not know")?;
    let is_told = payload.get("data") == Some(&shippable(&outline.data))
        && outline.at == text("recorded_at")
        && outline.r#type == text("record_type");
    if is_told {
        Ok(Head::of(said))
    } else {
        Err("its payload says other than its record".to_owned())
    }
}

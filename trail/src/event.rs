//! From a record to an event: who did what, and the payload without its place in a table's chain.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use signing_core::journal::{Kind, Leaf, Outline};
use signing_core::tree::{Inclusion, LogId, SignedCheckpoint};

use crate::canonical::{into_shippable, shippable};
use crate::uuid;

/// Whose journal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// `signing-proxy`.
    Proxy,
    /// `breakglass-signer`.
    Signer,
}

impl Owner {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Proxy, Self::Signer];

    /// The label of metrics, and the word in payloads.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Proxy => "signing-proxy",
            Self::Signer => "breakglass-signer",
        }
    }

    /// The actor of its rows.
    #[must_use]
    pub const fn actor(self) -> &'static str {
        match self {
            Self::Proxy => "service:signing-proxy",
            Self::Signer => "service:signing-breakglass",
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Proxy => "signing.proxy",
            Self::Signer => "signing.breakglass",
        }
    }
}

/// The type of rows that cover records.
pub const CHECKPOINT: &str = "signing.checkpoint";
/// The type of rows that name records which were gone before they were shipped.
pub const GAP: &str = "signing.trail.gap";

/// A row that is not linked yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The row's UUID.
    pub id: String,
    /// The value of the column `actor_id`.
    pub actor: &'static str,
    /// The value of the column `event_type`.
    pub event_type: String,
    /// What it says, without what the columns repeat.
    pub payload: Map<String, Value>,
}

/// A record that has a row of its own.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number, and its hash as a leaf of the tree.
    pub leaf: Leaf,
    /// Its kind.
    pub kind: Kind,
    /// What it says.
    pub outline: Outline,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// Whether a record of that kind has a row of its own. What happens for each request to a
/// healthy upstream has none: a checkpoint row covers it.
#[must_use]
pub const fn has_row(kind: Kind) -> bool {
    match kind {
        Kind::Segment
        | Kind::Intent
        | Kind::Signed
        | Kind::Failed
        | Kind::Withheld
        | Kind::Probes
        | Kind::Refusals => false,
        Kind::Init
        | Kind::Start
        | Kind::Stop
        | Kind::Gate
        | Kind::Freeze
        | Kind::Unfreeze
        | Kind::Unseal
        | Kind::Reload
        | Kind::Drill
        | Kind::SessionActivated
        | Kind::SessionRefused
        | Kind::EmergencySigned
        | Kind::EmergencyRefusals
        | Kind::SessionEnded
        | Kind::DestructionOverdue
        | Kind::KeyDestroyed
        | Kind::Rehearsal
        | Kind::CopyDestroyed
        | Kind::Unlock
        | Kind::Activation
        | Kind::BreakglassEnded
        | Kind::IncidentBegun
        | Kind::IncidentCaptured
        | Kind::IncidentItem
        | Kind::IncidentEnded
        | Kind::SignerLog
        | Kind::ProxyLog
        | Kind::FleetFreeze
        | Kind::FleetUnfreeze
        | Kind::FleetLink => true,
    }
}

/// Whether a row becomes an object of its own, where the archive keeps such: those of the emergency signer's records.
#[must_use]
pub fn has_object(actor: &str, event_type: &str) -> bool {
    actor == Owner::Signer.actor() && ![CHECKPOINT, GAP].contains(&event_type)
}

/// The event type of a record's row.
#[must_use]
pub fn event_type(owner: Owner, kind: Kind) -> String {
    let word = match kind {
        Kind::SessionActivated => "activated",
        Kind::EmergencySigned => "signed",
        Kind::SessionEnded => "ended",
        other => other.word(),
    };
    format!("{}.{word}", owner.prefix())
}

/// The event of a record, with the proof that it is in its journal.
#[must_use]
pub fn of_record(owner: Owner, log: LogId, entry: Entry, proof: &Inclusion) -> Event {
    let Entry { leaf, kind, outline, body } = entry;
    let mut payload = about(owner, log);
    // What an auditor looks for stands at the top, under the contract's names.
    if kind == Kind::EmergencySigned {
        for (name, of) in [
            ("session", "session"),
            ("incident", "incident"),
            ("justification", "session_justification"),
            ("caller", "caller"),
            ("request_id", "request_id"),
            ("input_digest", "input_digest"),
            ("algorithm", "algorithm"),
            ("emergency_kid", "signer_kid"),
            ("signature", "signature"),
        ] {
            put(&mut payload, name, shippable(outline.data.get(of).unwrap_or(&Value::Null)));
        }
    } else {
        for name in ["session", "incident", "justification"] {
            if let Some(value) = outline.data.get(name) {
                put(&mut payload, name, shippable(value));
            }
        }
    }
    put(&mut payload, "seq", json!(leaf.seq));
    put(&mut payload, "leaf", json!(leaf.hash.to_string()));
    put(&mut payload, "recorded_at", json!(outline.at));
    put(&mut payload, "record_type", json!(outline.r#type));
    put(&mut payload, "data", into_shippable(outline.data));
    put(&mut payload, "record", json!(STANDARD.encode(body)));
    put(&mut payload, "proof", json!(proof.to_text()));
    Event {
        id: uuid::v5(log, &leaf.seq.to_string()),
        actor: owner.actor(),
        event_type: event_type(owner, kind),
        payload,
    }
}

/// The event that covers the records from `first` to the checkpoint's size.
#[must_use]
pub fn of_checkpoint(owner: Owner, first: u64, checkpoint: &SignedCheckpoint) -> Event {
    let said = checkpoint.checkpoint();
    let mut payload = about(owner, said.log);
    put(&mut payload, "first", json!(first));
    put(&mut payload, "last", json!(said.size));
    put(&mut payload, "checkpoint", json!(checkpoint.note()));
    Event {
        id: uuid::v5(said.log, &format!("checkpoint {}", said.size)),
        actor: owner.actor(),
        event_type: CHECKPOINT.to_owned(),
        payload,
    }
}

/// The event that names records which were gone before they were shipped.
#[must_use]
pub fn of_gap(owner: Owner, log: LogId, first: u64, last: u64) -> Event {
    let mut payload = about(owner, log);
    put(&mut payload, "first", json!(first));
    put(&mut payload, "last", json!(last));
    let why = "the segments with these records were removed before they were shipped";
    put(&mut payload, "detail", json!(why));
    Event {
        id: uuid::v5(log, &format!("gap {first}-{last}")),
        actor: owner.actor(),
        event_type: GAP.to_owned(),
        payload,
    }
}

fn about(owner: Owner, log: LogId) -> Map<String, Value> {
    let mut payload = Map::new();
    put(&mut payload, "journal", json!(owner.word()));
    put(&mut payload, "log", json!(log.origin()));
    payload
}

fn put(payload: &mut Map<String, Value>, name: &str, value: Value) {
    payload.insert(name.to_owned(), value);
}

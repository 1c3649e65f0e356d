//! Rows held against each other and against the registry: links, hashes, signatures, order, columns
//! against the payload, checkpoints and records. Pure: rows come one by one, in the order of their
//! times.
//!
//! Others may write to the same table. What is wrong with a row that is the trail's is a defect. A
//! fork that a foreign writer made, by linking to a head that was no longer the newest, is reported
//! apart.

mod logs;

use std::collections::VecDeque;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use signing_core::Registry;
use signing_core::journal::{AuditKeys, instant};
use signing_core::key::Purpose;
use time::OffsetDateTime;

use crate::canonical::canonical;
use crate::plan::Position;
use crate::postgres::Stored;
use crate::row::{hash, parse_hash};

use logs::Logs;
pub(crate) use logs::is_record;

/// Rows whose hashes are remembered, to tell a fork from a row that is gone.
const REMEMBERED: usize = 1024;
/// Forks that are named; more are counted.
const FORKS_NAMED: usize = 8;

/// What is wrong, with the row that it is about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row}: {what}")]
pub struct Defect {
    /// Its id, or its number in the order of time where it has none.
    pub row: String,
    /// To end the sentence.
    pub what: String,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Rows.
    pub rows: u64,
    /// Of them the trail's.
    pub ours: u64,
    /// Of them others' whose signer the registry does not have: their signatures were not checked.
    pub unknown: u64,
    /// Forks by others.
    pub forks: u64,
    /// The first of them.
    pub named: Vec<String>,
    /// The first defect.
    pub defect: Option<Defect>,
}

/// A row that was passed.
struct Passed {
    hash: [u8; 32],
    is_ours: bool,
}

/// Takes rows one by one.
pub struct Verifier<'r> {
    registry: &'r Registry,
    logs: Logs,
    /// Whether the first row is the first of the table.
    is_whole: bool,
    has_our_id: bool,
    passed: VecDeque<Passed>,
    newest: Option<OffsetDateTime>,
    found: Found,
}

impl<'r> Verifier<'r> {
    /// Of a table from its first row on, or of its newest rows only.
    #[must_use]
    pub fn new(registry: &'r Registry, is_whole: bool, has_our_id: bool) -> Self {
        Self {
            registry,
            logs: Logs::new(AuditKeys::of_registry(registry), is_whole),
            is_whole,
            has_our_id,
            passed: VecDeque::new(),
            newest: None,
            found: Found::default(),
        }
    }

    /// Takes the next row; whether to go on.
    pub fn take(&mut self, row: &Stored) -> bool {
        self.found.rows += 1;
        let name =
            row.id.clone().unwrap_or_else(|| format!("{} in the order of time", self.found.rows));
        if let Err(what) = self.check(row, &name) {
            self.found.defect = Some(Defect { row: name, what });
        }
        self.found.defect.is_none()
    }

    /// The end of the rows. `positions` says, by log, how far the trail brought each: rows that were cut
    /// off the end are missed by it.
    #[must_use]
    pub fn finish(mut self, positions: &[(String, Position)]) -> Found {
        if self.found.defect.is_none()
            && let Some(what) = self.logs.finish(positions)
        {
            self.found.defect = Some(Defect { row: "after the last".to_owned(), what });
        }
        self.found
    }

    fn check(&mut self, row: &Stored, name: &str) -> Result<(), String> {
        let payload = row.payload.as_ref().ok_or("its payload is no JSON")?;
        let members = payload.as_object();
        let ours = members.filter(|members| self.is_ours(members, row));
        let prev = match row.prev_hash.as_deref().filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => {
                Some(parse_hash(text).ok_or_else(|| format!("its prev_hash is {text:?}"))?)
            }
        };
        let computed = hash(&canonical(payload), prev.as_ref());
        if let Some(text) = row.hash.as_deref().filter(|text| !text.is_empty())
            && parse_hash(text) != Some(computed)
        {
            return Err(format!(
                "its hash is {text}, and its payload and prev_hash give {}: one of them was changed",
                hex::encode(computed)
            ));
        }
        if ours.is_some() && row.hash.as_deref() == Some("") {
            return Err("its hash is empty".to_owned());
        }
        self.is_signed(row, ours.is_some(), &computed)?;
        self.is_linked(prev, ours.is_some(), name)?;
        self.is_in_order(row, ours.is_some())?;
        if let Some(members) = ours {
            self.found.ours += 1;
            self.columns_fit(row, members)?;
            self.logs.take(members)?;
        }
        self.passed.push_back(Passed { hash: computed, is_ours: ours.is_some() });
        if self.passed.len() > REMEMBERED {
            self.passed.pop_front();
        }
        Ok(())
    }

    /// A row is the trail's by its payload, which is hashed, or by who signed it.
    fn is_ours(&self, payload: &Map<String, Value>, row: &Stored) -> bool {
        let log = payload.get("log").and_then(Value::as_str).unwrap_or_default();
        let is_audit = |kid: &String| {
            self.registry.get(kid).is_some_and(|signer| signer.purpose == Purpose::Audit)
        };
        log.starts_with("signing-journal/") || row.signers.iter().flatten().any(is_audit)
    }

    fn is_signed(&mut self, row: &Stored, is_ours: bool, hash: &[u8; 32]) -> Result<(), String> {
        let mut signers = row.signers.iter();
        let first = signers.next().cloned().flatten();
        if is_ours && signers.any(|other| *other != first) {
            return Err("its columns signer_kid and signer_id differ".to_owned());
        }
        let kid = row.signers.iter().flatten().next().cloned().unwrap_or_default();
        let Some(signer) = self.registry.get(&kid) else {
            if is_ours {
                return Err(format!("its signer {kid:?} is not in the registry"));
            }
            self.found.unknown += 1;
            return Ok(());
        };
        if is_ours && signer.purpose != Purpose::Audit {
            return Err(format!("its signer {kid:?} has not the purpose audit"));
        }
        let text = row.signature.as_deref().unwrap_or_default();
        let signature = STANDARD.decode(text).or_else(|_| hex::decode(text)).unwrap_or_default();
        let Some(key) = signer.public_key.ed25519_bytes() else {
            // Others sign with other algorithms, each over the hash in its own way.
            self.found.unknown += 1;
            return Ok(());
        };
        UnparsedPublicKey::new(&ED25519, key)
            .verify(hash, &signature)
            .map_err(|_| format!("its signature is not that of {kid} over its hash"))
    }

    /// The row before it is the one that it names, or a foreign writer forked the chain.
    fn is_linked(
        &mut self,
        prev: Option<[u8; 32]>,
        is_ours: bool,
        name: &str,
    ) -> Result<(), String> {
        let Some(last) = self.passed.back() else {
            return match prev {
                Some(_) if self.is_whole => {
                    Err("it is the first, and names a row before it: that is gone".to_owned())
                }
                _ => Ok(()),
            };
        };
        if prev == Some(last.hash) {
            return Ok(());
        }
        // Where in what was passed it links to, and who came between.
        let at = self.passed.iter().rposition(|passed| prev == Some(passed.hash));
        let is_foreign_between =
            at.is_some_and(|at| self.passed.iter().skip(at + 1).all(|passed| !passed.is_ours));
        let is_fork = if is_ours {
            at.is_some() && is_foreign_between
        } else {
            at.is_some() || prev.is_none()
        };
        if is_fork {
            self.found.forks += 1;
            if self.found.named.len() < FORKS_NAMED {
                self.found.named.push(name.to_owned());
            }
            return Ok(());
        }
        Err("its prev_hash is not the hash of the row before it: a row was deleted, added, moved or changed there".to_owned())
    }

    fn is_in_order(&mut self, row: &Stored, is_ours: bool) -> Result<(), String> {
        let at = row.at.ok_or("its time is NULL")?;
        if is_ours && self.newest.is_some_and(|newest| at <= newest) {
            return Err("its time is not after that of the row before it".to_owned());
        }
        self.newest = Some(at);
        Ok(())
    }

    /// Only the payload is hashed: what the columns say is what the payload says.
    fn columns_fit(&self, row: &Stored, payload: &Map<String, Value>) -> Result<(), String> {
        let at = row.at.map(instant);
        let other_at = row.other_at.map(instant);
        let id = row.id.clone().filter(|_| self.has_our_id);
        for (column, found, name) in [
            ("id", &id, "id"),
            ("actor_id", &row.actor_id, "actor_id"),
            ("event_type", &row.event_type, "event_type"),
            ("created_at", &at, "created_at"),
            ("ts", &other_at, "created_at"),
        ] {
            let said = payload.get(name).and_then(Value::as_str);
            if let Some(found) = found.as_deref().filter(|found| said != Some(found)) {
                return Err(format!(
                    "its column {column} is {found:?}, and its payload says {:?}",
                    said.unwrap_or_default()
                ));
            }
        }
        Ok(())
    }
}

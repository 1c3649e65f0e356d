//! What can be said of one row without the others: that its hash is of its payload, that an audit key signed
//! this hash, and that its columns say what its payload says.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::identifier::quoted;
use serde_json::{Map, Value};
use signing_core::Registry;
use signing_core::journal::instant;
use signing_core::key::Purpose;

use crate::canonical::canonical;
use crate::postgres::Stored;
use crate::row::{hash, parse_hash};
use crate::shape::{Field, Shape};

/// Looks at rows one by one.
#[derive(Clone, Debug)]
pub struct RowCheck<'r> {
    registry: &'r Registry,
    shape: Shape,
}

/// What a row says whose hash and signature are right.
pub(super) struct Seen<'s> {
    /// Its payload, if the row is the trail's.
    pub(super) ours: Option<&'s Map<String, Value>>,
    /// The hash of the row before it.
    pub(super) prev: Option<[u8; 32]>,
    /// Its own.
    pub(super) hash: [u8; 32],
    /// Whether its signature was checked. Never false of a row of the trail.
    pub(super) is_signer_known: bool,
}

impl<'r> RowCheck<'r> {
    /// With the audit keys of this registry, of rows of a table of that shape.
    #[must_use]
    pub const fn new(registry: &'r Registry, shape: Shape) -> Self {
        Self { registry, shape }
    }

    /// Whether a row of the trail is as the trail wrote it, the links to other rows aside.
    ///
    /// # Errors
    /// What is wrong with it, to end a sentence about the row.
    pub fn is_as_written(&self, row: &Stored) -> Result<(), String> {
        let ours = self.sealed(row)?.ours.ok_or("it is not a row of the trail")?;
        self.columns_fit(row, ours)
    }

    /// That its hash and its signature are right.
    pub(super) fn sealed<'s>(&self, row: &'s Stored) -> Result<Seen<'s>, String> {
        let payload = row.payload.as_ref().ok_or("its payload is no JSON")?;
        let members = payload.as_object();
        let ours = members.filter(|members| self.is_ours(members, row));
        let prev = match row.prev_hash.as_deref().filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => {
                Some(parse_hash(text).ok_or_else(|| format!("its prev_hash is {}", quoted(text)))?)
            }
        };
        let computed = hash(&canonical(payload), prev.as_ref());
        if let Some(text) = row.hash.as_deref().filter(|text| !text.is_empty())
            && parse_hash(text) != Some(computed)
        {
            return Err(format!(
                "its hash is {}, and its payload and prev_hash give {}: one of them was changed",
                quoted(text),
                hex::encode(computed)
            ));
        }
        if ours.is_some() && self.shape.has_hash && row.hash.as_deref().is_none_or(str::is_empty) {
            return Err("its hash is empty".to_owned());
        }
        let is_signer_known = self.is_signed(row, ours.is_some(), &computed)?;
        Ok(Seen { ours, prev, hash: computed, is_signer_known })
    }

    /// A row is the trail's by its payload, which is hashed, or by who signed it.
    fn is_ours(&self, payload: &Map<String, Value>, row: &Stored) -> bool {
        let log = payload.get("log").and_then(Value::as_str).unwrap_or_default();
        let is_audit = |kid: &String| {
            self.registry.get(kid).is_some_and(|signer| signer.purpose == Purpose::Audit)
        };
        log.starts_with("signing-journal/") || row.signers.iter().flatten().any(is_audit)
    }

    /// Whether its signature could be checked, and then it is right.
    fn is_signed(&self, row: &Stored, is_ours: bool, hash: &[u8; 32]) -> Result<bool, String> {
        let mut signers = row.signers.iter();
        let first = signers.next().cloned().flatten();
        if is_ours && signers.any(|other| *other != first) {
            return Err("its columns signer_kid and signer_id differ".to_owned());
        }
        let kid = row.signers.iter().flatten().next().cloned().unwrap_or_default();
        let Some(signer) = self.registry.get(&kid) else {
            if is_ours {
                return Err(format!("its signer {} is not in the registry", quoted(&kid)));
            }
            return Ok(false);
        };
        if is_ours && signer.purpose != Purpose::Audit {
            return Err(format!("its signer {} has not the purpose audit", quoted(&kid)));
        }
        let text = row.signature.as_deref().unwrap_or_default();
        let signature = STANDARD.decode(text).or_else(|_| hex::decode(text)).unwrap_or_default();
        let Some(key) = signer.public_key.ed25519_bytes() else {
            if is_ours {
                return Err(format!("its signer {} has no Ed25519 key", quoted(&kid)));
            }
            // Others sign with other algorithms, each over the hash in its own way.
            return Ok(false);
        };
        let verified = UnparsedPublicKey::new(&ED25519, key).verify(hash, &signature);
        verified.map_err(|_| format!("its signature is not that of {kid} over its hash"))?;
        Ok(true)
    }

    /// Only the payload is hashed: what the columns say is what the payload says.
    pub(super) fn columns_fit(
        &self,
        row: &Stored,
        payload: &Map<String, Value>,
    ) -> Result<(), String> {
        for written in &self.shape.written {
            let (found, name) = match written.field {
                Field::Id => (row.id.clone(), "id"),
                Field::Actor => (row.actor_id.clone(), "actor_id"),
                Field::EventType => (row.event_type.clone(), "event_type"),
                Field::CreatedAt => {
                    let at = if written.name == self.shape.time { row.at } else { row.other_at };
                    (at.map(instant), "created_at")
                }
                Field::Payload
                | Field::PrevHash
                | Field::Hash
                | Field::Signature
                | Field::Signer => continue,
            };
            let said = payload.get(name).and_then(Value::as_str);
            if found.as_deref() != said || said.is_none() {
                let found = found.map_or_else(|| "NULL".to_owned(), |found| quoted(&found));
                return Err(format!(
                    "its column {} is {found}, and its payload says {}",
                    written.name,
                    quoted(said.unwrap_or_default())
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::shape::Written;

    #[test]
    fn what_is_wrong_with_a_row_is_short_whatever_its_columns_hold() {
        let long = Some("x".repeat(1 << 20));
        let row = Stored {
            id: long.clone(),
            actor_id: None,
            event_type: None,
            payload: Some(json!({"log": "signing-journal/1", "id": "1"})),
            prev_hash: None,
            hash: None,
            signature: None,
            signers: vec![long.clone()],
            at: None,
            other_at: None,
        };
        let registry = Registry::default();
        let id = Written { name: "id".to_owned(), kind: "uuid".to_owned(), field: Field::Id };
        let shape = Shape {
            written: vec![id],
            time: "created_at".to_owned(),
            signer: "signer_kid".to_owned(),
            has_hash: false,
            has_our_id: true,
            has_id: true,
            first_is_empty: false,
        };
        let check = RowCheck::new(&registry, shape);
        let payload = row.payload.as_ref().and_then(Value::as_object).unwrap();
        let wrong = [
            check.columns_fit(&row, payload).err(),
            check.is_as_written(&row).err(),
            check.is_as_written(&Stored { hash: long.clone(), ..row.clone() }).err(),
            check.is_as_written(&Stored { prev_hash: long, ..row.clone() }).err(),
        ];
        let words = ["its column id is", "its signer ", "its hash is", "its prev_hash is"];
        for (wrong, words) in wrong.iter().flatten().zip(words) {
            assert!(wrong.starts_with(words) && wrong.len() < 500, "{}", wrong.len());
        }
        assert!(wrong.iter().all(Option::is_some));
    }
}

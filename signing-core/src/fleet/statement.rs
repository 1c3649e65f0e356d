//! The document that ends freezes: which, why, and until when it counts. A person signs its exact bytes.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::document::Reader;
use crate::freeze_id::FreezeId;
use crate::json;

/// What the document says it is.
pub const TYPE: &str = "signing-proxy/fleet-unfreeze/v1";
/// The SSHSIG namespace of its signature: `ssh-keygen -Y sign -n` takes it.
pub const NAMESPACE: &str = "fleet@signing-proxy";
/// Longest document: with its signature it fits into one record of the journal.
pub const STATEMENT_MAX_BYTES: usize = 6 * 1024;

/// Longest name of a fleet.
pub const FLEET_MAX_BYTES: usize = 128;
const REASON_MAX_BYTES: usize = 512;

/// A statement that is well formed. Whether it counts is for [`super::judge()`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    fleet: String,
    ends: BTreeSet<FreezeId>,
    reason: String,
    issued_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    sha256: String,
}

/// The document as it is written. Every key has to be there, once, and no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// [`TYPE`].
    pub r#type: String,
    /// The fleet's name, as `fleet.name` of every member has it.
    pub fleet: String,
    /// The ids of the freezes that it ends. No other freeze ends.
    pub ends: Vec<String>,
    /// Why signing is safe again, one line.
    pub reason: String,
    /// RFC 3339: when it was written.
    pub issued_at: String,
    /// RFC 3339: it counts until then.
    pub expires_at: String,
}

/// Everything that is wrong with a document, one sentence each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .mistakes.join("; "))]
pub struct StatementError {
    /// The key, the value, the fix.
    pub mistakes: Vec<String>,
}

impl Statement {
    /// Reads a document from its exact bytes.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        let only = |mistake: String| StatementError { mistakes: vec![mistake] };
        let length = bytes.len();
        if length > STATEMENT_MAX_BYTES {
            return Err(only(format!(
                "it has {length} bytes, and a statement has at most {STATEMENT_MAX_BYTES}"
            )));
        }
        let draft: Draft = json::from_slice(bytes).map_err(|why| {
            only(format!("it is no statement of a fleet: {why}; make one: signctl fleet unfreeze"))
        })?;
        let mut mistakes = Vec::new();
        let statement = Self::read(draft, bytes, &mut Reader(&mut mistakes));
        match statement {
            Some(statement) if mistakes.is_empty() => Ok(statement),
            _ => Err(StatementError { mistakes }),
        }
    }

    fn read(draft: Draft, bytes: &[u8], reader: &mut Reader<'_>) -> Option<Self> {
        reader.is_type(&draft.r#type, TYPE);
        reader.line("fleet", &draft.fleet, FLEET_MAX_BYTES);
        reader.line("reason", &draft.reason, REASON_MAX_BYTES);
        let ends = reader.list("ends", &draft.ends, |reader, text| {
            let read = FreezeId::parse(text);
            read.map_err(|error| reader.mistake("ends", text, &error.to_string())).ok()
        });
        let issued_at = reader.instant("issued_at", &draft.issued_at);
        let expires_at = reader.instant("expires_at", &draft.expires_at);
        reader.in_order("issued_at", issued_at, "expires_at", expires_at);
        Some(Self {
            fleet: draft.fleet,
            ends: ends?,
            reason: draft.reason,
            issued_at: issued_at?,
            expires_at: expires_at?,
            sha256: hex::encode(digest::digest(&digest::SHA256, bytes)),
        })
    }

    /// The fleet.
    #[must_use]
    pub fn fleet(&self) -> &str {
        &self.fleet
    }

    /// The freezes that it ends.
    #[must_use]
    pub fn ends(&self) -> &BTreeSet<FreezeId> {
        &self.ends
    }

    /// Why signing is safe again.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// When it was written.
    #[must_use]
    pub fn issued_at(&self) -> OffsetDateTime {
        self.issued_at
    }

    /// It counts until then.
    #[must_use]
    pub fn expires_at(&self) -> OffsetDateTime {
        self.expires_at
    }

    /// SHA-256 of its bytes, in lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

impl Draft {
    /// The bytes of a document, to be signed as they are.
    ///
    /// # Errors
    /// [`StatementError`], if nobody could read it back.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StatementError> {
        let unwritable =
            |error| StatementError { mistakes: vec![format!("it cannot be written: {error}")] };
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error: serde_json::Error| unwritable(error))?;
        bytes.push(b'\n');
        Statement::parse(&bytes)?;
        Ok(bytes)
    }
}

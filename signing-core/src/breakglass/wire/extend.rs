//! How the proxy sees that the signer's log only grew: it names the size it knows, and the signer shows
//! that its log goes on from there. So a signer that was put back to an older state is found, however far
//! it went since.

use serde::{Deserialize, Serialize};

use crate::tree::{EXTENSION_MAX, LogId, SignedCheckpoint, TreeHash};

/// Show that your log goes on from that size. Answered by `extends`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    /// Repeated by the answer.
    pub id: u64,
    /// The log that the proxy knows: 32 hex digits.
    pub log: String,
    /// How many records of it; 0: none.
    pub size: u64,
}

/// To `extend`: the newest checkpoint, of which all is on disk, and the proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extends {
    /// The ask's.
    pub id: u64,
    /// A signed note (c2sp.org/tlog-checkpoint).
    pub checkpoint: String,
    /// The consistency proof (RFC 6962, section 2.1.2), each hash in base64. None: the signer's log is
    /// another one, has fewer records, or its nodes from then are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<Vec<String>>,
}

/// What such an answer shows; whether it is so is for [`crate::journal::SignerLogs::judge`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The newest checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// The proof.
    pub path: Option<Vec<TreeHash>>,
}

impl Extend {
    /// The ask about that log as far as it is known.
    #[must_use]
    pub fn new(id: u64, log: LogId, size: u64) -> Self {
        Self { id, log: log.to_string(), size }
    }
}

impl Extends {
    /// The answer with that checkpoint and proof.
    #[must_use]
    pub fn new(id: u64, checkpoint: &SignedCheckpoint, path: Option<&[TreeHash]>) -> Self {
        let hashes = path.map(|path| path.iter().map(TreeHash::to_base64).collect());
        Self { id, checkpoint: checkpoint.note().to_owned(), hashes }
    }

    /// Reads it. None if it is no such answer.
    #[must_use]
    pub fn parse(&self) -> Option<Shown> {
        let checkpoint = SignedCheckpoint::parse(&self.checkpoint).ok()?;
        let path = match &self.hashes {
            Some(hashes) if hashes.len() > EXTENSION_MAX => return None,
            Some(hashes) => Some(
                hashes.iter().map(|hash| TreeHash::parse_base64(hash)).collect::<Option<_>>()?,
            ),
            None => None,
        };
        Some(Shown { checkpoint, path })
    }
}

//! How each side sees that the other's log only grew: it names the size it knows, and the other shows that its
//! log goes on from there. So a process that was put back to an older state is found, however far it went
//! since. The proxy asks the signer (`extend`, answered by `extends`); the signer names what it knows in its
//! `welcome` and its `status`, and the proxy shows its log (`show`, answered by `believed` or `refused`).

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
    /// The consistency proof (RFC 6962, section 2.1.2), each hash in base64. None: the log is another one than
    /// the one that is known, has fewer records, or its nodes from then are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<Vec<String>>,
}

/// My log goes on from what you know of it. Answered by `believed`, or `refused`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// Repeated by the answer.
    pub id: u64,
    /// How many records the signer said that it knows, from which on the proof is; 0: none.
    pub size: u64,
    /// The newest checkpoint of which all is on disk: a signed note.
    pub checkpoint: String,
    /// The proof, as in [`Extends`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<Vec<String>>,
}

/// What either shows; whether it is so is for [`crate::journal::PeerLogs::judge`] to say.
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
        Self { id, checkpoint: checkpoint.note().to_owned(), hashes: path.map(written) }
    }

    /// Reads it. None if it is no such answer.
    #[must_use]
    pub fn parse(&self) -> Option<Shown> {
        Shown::parse(&self.checkpoint, self.hashes.as_deref())
    }
}

impl Show {
    /// That checkpoint, and the proof from `size` on. Its number is set when it is sent.
    #[must_use]
    pub fn new(
        id: u64,
        size: u64,
        checkpoint: &SignedCheckpoint,
        path: Option<&[TreeHash]>,
    ) -> Self {
        Self { id, size, checkpoint: checkpoint.note().to_owned(), hashes: path.map(written) }
    }

    /// Reads it. None if it is no such message.
    #[must_use]
    pub fn parse(&self) -> Option<Shown> {
        Shown::parse(&self.checkpoint, self.hashes.as_deref())
    }
}

impl Shown {
    fn parse(checkpoint: &str, hashes: Option<&[String]>) -> Option<Self> {
        let checkpoint = SignedCheckpoint::parse(checkpoint).ok()?;
        let path = match hashes {
            Some(hashes) if hashes.len() > EXTENSION_MAX => return None,
            Some(hashes) => Some(
                hashes.iter().map(|hash| TreeHash::parse_base64(hash)).collect::<Option<_>>()?,
            ),
            None => None,
        };
        Some(Self { checkpoint, path })
    }
}

fn written(path: &[TreeHash]) -> Vec<String> {
    path.iter().map(TreeHash::to_base64).collect()
}

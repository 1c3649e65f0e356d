//! What the proxy asks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{Extend, JournalHead, Show};
use crate::FreezeId;
use crate::batch::{self, Given};
use crate::breakglass::claim::OutageClaim;
use crate::key::{Algorithm, Digest, Hash, ToBeSigned};
use crate::refusal::{Reason as RefusalReason, Refusal};
use crate::request;

/// Longest reason of an end or a destruction.
pub const REASON_MAX_BYTES: usize = 1024;
/// Longest justification of one request; a longer one is the proxy's to refuse.
pub const JUSTIFICATION_MAX_BYTES: usize = 2048;

/// One message of the proxy: `{"hello": {...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant's name is its struct's, which says what it is")]
pub enum Ask {
    Hello(Hello),
    Extend(Extend),
    Show(Show),
    Activate(Activate),
    Sign(Sign),
    End(End),
    Destroy(Destroy),
    Status(Status),
}

/// Who is there? Answered by `welcome`. The first ask of a connection, and only that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Repeated by the answer.
    pub id: u64,
    /// [`super::VERSION`].
    pub version: u32,
    /// The proxy's deployment, which has to be the signer's.
    pub deployment: String,
    /// The log that the proxy writes: 32 hex digits. An older version named none.
    #[serde(default)]
    pub log: String,
}

/// Begin a session. Answered by `activated`, or `refused` with one clause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activate {
    /// Repeated by the answer.
    pub id: u64,
    /// The request document, byte by byte.
    pub request_b64: String,
    /// Armored SSHSIG signatures over exactly those bytes.
    pub approvals_b64: Vec<String>,
    /// What the proxy's outage clock says now: one for each signer that it sees out.
    /// Necessary, and recorded as a claim.
    pub outages: Vec<OutageClaim>,
    /// The freeze that is in force in the proxy. Only a request that names it begins a session then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<FreezeId>,
    /// The proxy's newest record on disk.
    pub proxy_head: JournalHead,
    /// Who asked the proxy: `uid 1000 (alice)`.
    pub by: String,
}

/// Sign one input. Answered by `signed` once the record is on disk, or `refused`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// Repeated by the answer.
    pub id: u64,
    /// The session that the proxy believes to be in force.
    pub session: String,
    /// The caller, by its verified certificate.
    pub caller: String,
    /// The request.
    pub request_id: String,
    /// The signer that the emergency key stands in for.
    pub signer_kid: String,
    /// AWS KMS's name; the emergency key's own.
    pub algorithm: String,
    /// What to sign, prepared for that algorithm.
    pub input: Input,
    /// Why, in the caller's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification: Option<String>,
    /// The proxy's newest record on disk.
    pub proxy_head: JournalHead,
    /// Whether the answer is to have the record and the proof that it is in the signer's log.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proves: bool,
}

/// What exactly is put before the key: as [`ToBeSigned`] has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Base64 of the message, for Ed25519.
    Message(String),
    /// Base64 of the digest, for all others.
    Digest(String),
    /// What a leaf has of the input, for a batch key.
    Leaf(LeafInput),
}

/// The input of one leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafInput {
    /// In which form the caller gave the input.
    pub given: Given,
    /// Base64 of the message's SHA-256, or of the digest that was given.
    pub sha256: String,
}

/// End the session. Answered by `ended`, after `session_ended` to whoever activated it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Repeated by the answer.
    pub id: u64,
    /// Why, one line.
    pub reason: String,
    /// Who asked the proxy.
    pub by: String,
    /// Nobody did: the proxy ends it by itself, for this. Without it an operator asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<crate::breakglass::End>,
}

/// Destroy an emergency key that is due since a session used it, and that none uses now: its file is
/// overwritten and removed, and the kid is refused for ever. It stays due until somebody attests that
/// each of its copies is destroyed: asked for again, only that is noted. Answered by `destroyed`. A key that is
/// not due is `refused`: [`super::operator::Ask::Destroy`]. Revoking it in the registry is the
/// operator's other half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destroy {
    /// Repeated by the answer.
    pub id: u64,
    /// Which key.
    pub emergency_kid: String,
    /// Why, one line.
    pub reason: String,
    /// Copies of it of which somebody attests that they are destroyed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attested: Vec<Attested>,
    /// Who asked the proxy.
    pub by: String,
}

/// Somebody attests that a copy of an emergency key, which nobody reaches from here, is destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attested {
    /// Which copy, as the signer's configuration names it.
    pub copy: String,
    /// Who attests it, and how it was destroyed: one line.
    pub by: String,
}

/// How are you? Answered by `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Repeated by the answer.
    pub id: u64,
}

impl Ask {
    /// What its answer repeats.
    #[must_use]
    pub const fn id(&self) -> u64 {
        match self {
            Self::Hello(Hello { id, .. })
            | Self::Extend(Extend { id, .. })
            | Self::Show(Show { id, .. })
            | Self::Activate(Activate { id, .. })
            | Self::Sign(Sign { id, .. })
            | Self::End(End { id, .. })
            | Self::Destroy(Destroy { id, .. })
            | Self::Status(Status { id }) => *id,
        }
    }
}

impl Input {
    /// What was prepared, for the wire.
    #[must_use]
    pub fn of(prepared: &ToBeSigned) -> Self {
        match (prepared.leaf(), prepared.digest()) {
            (Some(leaf), _) => Self::Leaf(LeafInput {
                given: leaf.given(),
                sha256: STANDARD.encode(leaf.digest().bytes()),
            }),
            (None, Some(digest)) => Self::Digest(STANDARD.encode(digest)),
            (None, None) => Self::Message(STANDARD.encode(prepared.bytes())),
        }
    }

    /// Prepares it again, on the signer's side, where nothing is believed.
    ///
    /// # Errors
    /// As [`ToBeSigned::prepare`]: a wrong length, a canary. `invalid_request` if it is not base64.
    /// Whether it fits the key is for [`crate::Signer::takes`] to say.
    pub fn prepare(&self, algorithm: Algorithm) -> Result<ToBeSigned, Refusal> {
        let decode = |text: &str| {
            STANDARD.decode(text).map_err(|error| {
                Refusal::new(
                    RefusalReason::InvalidRequest,
                    format!("the input is not base64: {error}"),
                )
            })
        };
        let input = match self {
            Self::Message(text) => request::Input::Message(decode(text)?),
            Self::Digest(text) => {
                request::Input::Digest(Digest::new(algorithm.digest_hash(), &decode(text)?)?)
            }
            Self::Leaf(LeafInput { given, sha256 }) => {
                let digest = Digest::new(Hash::Sha256, &decode(sha256)?)?;
                let leaf = batch::LeafInput::stated(*given, &digest)?;
                return Ok(ToBeSigned::from_leaf(leaf, algorithm));
            }
        };
        ToBeSigned::prepare(&input, algorithm)
    }
}

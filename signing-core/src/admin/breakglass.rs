//! Break-glass at the admin socket.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::FreezeInForce;
use crate::FreezeId;
use crate::breakglass::{ProxyReason, wire};

/// `POST /v1/breakglass/activate`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activate {
    /// The request document, byte by byte.
    pub request_b64: String,
    /// Armored SSHSIG signatures over exactly those bytes.
    pub approvals_b64: Vec<String>,
}

/// `POST /v1/breakglass/end`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Why, one line.
    pub reason: String,
}

/// `POST /v1/breakglass/accept-signer`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptSigner {
    /// Why, one line.
    pub reason: String,
}

/// `POST /v1/breakglass/destroy`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destroy {
    /// The emergency key to destroy.
    pub emergency_kid: String,
    /// Why, one line.
    pub reason: String,
    /// Copies of it of which somebody attests that they are destroyed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attested: Vec<wire::Attested>,
}

/// A session is in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Activated {
    /// True.
    pub activated: bool,
    /// As the emergency signer says it.
    pub session: wire::SessionState,
}

/// A session is over.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ended {
    /// True.
    pub ended: bool,
    /// The id of the session that ended.
    pub session: String,
    /// RFC 3339: when its key has to be destroyed, if the signer said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destruction_due: Option<String>,
    /// The signer's record, `log:seq:leaf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer_record: Option<String>,
    /// What is not as it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Connections that were reset, since their clients had not read what was signed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_cut: Option<usize>,
}

/// The emergency signer's own seal is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignerUnsealed {
    /// True.
    pub unsealed: bool,
    /// What was doubted.
    pub sealed_for: String,
    /// The signer's record, `log:seq:leaf`.
    pub signer_record: String,
}

/// The emergency signer that was refused for its log is accepted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// True.
    pub accepted: bool,
    /// Which one: the SHA-256 of its audit key, in hex.
    pub instance: String,
    /// What it showed of its log, `log:size:root`: this goes on from now on.
    pub head: String,
    /// What was known before, `log:size:root`, if anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// Why it was refused.
    pub why: String,
}

/// The proxy that its emergency signer refused for its log is accepted there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProxyAccepted {
    /// True.
    pub accepted: bool,
    /// Which one: the SHA-256 of its audit key, in hex.
    pub instance: String,
    /// What it showed of its log, `log:size:root`: this goes on from now on.
    pub head: String,
    /// What was known before, `log:size:root`, if anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// Why it was refused.
    pub why: String,
    /// The signer's record of it, `log:seq:leaf`.
    pub signer_record: String,
}

/// The emergency signer that is refused for its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedSigner {
    /// Which one: the SHA-256 of its audit key, in hex.
    pub instance: String,
    /// What it shows of its log, `log:size:root`.
    pub head: String,
    /// What is known, `log:size:root`, of this log or of what comes nearest to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// Why it is refused.
    pub why: String,
}

/// An emergency key is destroyed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Destroyed {
    /// True.
    pub destroyed: bool,
    /// The emergency key that was destroyed.
    pub emergency_kid: String,
    /// Whether its file was overwritten; else it was gone, or could only be removed.
    pub overwritten: bool,
    /// Its copies of which nobody has attested that they are destroyed: it stays due until somebody has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies_left: Vec<String>,
    /// The signer's record, `log:seq:leaf`.
    pub signer_record: String,
}

/// A command was not carried out, and what it would have done is false.
#[derive(Clone, Debug, Serialize)]
pub struct NotDone {
    /// Which command.
    #[serde(flatten)]
    pub what: UndoneCommand,
    /// The word of the refusal, as in `docs/operating/breakglass.md`.
    pub reason: ProxyReason,
    /// Why and what to do, for a person.
    pub detail: String,
}

/// Which command was not carried out: `{"ended": false}`.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant's name is its command's")]
pub enum UndoneCommand {
    Activated(bool),
    Ended(bool),
    Accepted(bool),
    Destroyed(bool),
    Drilled(bool),
}

/// `GET /v1/breakglass`. The emergency signer itself, asked at its operator socket, says a part of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Breakglass {
    /// Whether the proxy names an emergency signer.
    pub configured: bool,
    /// The deployment.
    pub deployment: String,
    /// RFC 3339: what the proxy's clock shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
    /// Who calls.
    #[serde(default)]
    pub callers: Vec<String>,
    /// The proxy's signers.
    #[serde(default)]
    pub signers: Vec<String>,
    /// The emergency keys that a session of this proxy could use, and the SHA-256 of each in hex: what a
    /// request binds.
    #[serde(default)]
    pub emergency_keys_registered: BTreeMap<String, String>,
    /// How long an outage has to last for the proxy.
    #[serde(default)]
    pub min_outage_s: u64,
    /// Outages that have lasted any time.
    #[serde(default)]
    pub outages: Vec<Outage>,
    /// The freeze in force, which a request may name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<FreezeInForce>,
    /// The session in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// The emergency signer that is refused for its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_signer: Option<RefusedSigner>,
    /// The emergency signer, while it is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<wire::State>,
}

/// The outage of one signer, as the proxy's clock has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outage {
    /// The signer.
    pub signer_kid: String,
    /// RFC 3339: since when.
    pub since: String,
    /// How long the outage has lasted, in seconds.
    pub seconds: u64,
    /// Whether that is long enough for break-glass.
    pub qualifies: bool,
    /// Whether the clock runs.
    pub running: bool,
}

/// A session, as the proxy has it or as the emergency signer does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Its name.
    pub session: String,
    /// The incident.
    pub incident: String,
    /// The justification in the approved request.
    pub justification: String,
    /// The key that signs.
    pub emergency_kid: String,
    /// AWS KMS's name of its algorithm.
    pub algorithm: String,
    /// The signers that it stands in for.
    pub replaces: Vec<String>,
    /// The callers that it signs for.
    pub callers: Vec<String>,
    /// RFC 3339: over from then on, at the latest.
    pub expires_at: String,
    /// Seconds that are left by the proxy's boot-time clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
    /// Signatures that are left, as far as the emergency signer has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u64>,
    /// Signatures of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_signatures: Option<u64>,
    /// The freeze under which it signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_freeze: Option<FreezeId>,
    /// Who approved, as far as the emergency signer has said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<String>,
}

impl From<wire::SessionState> for Session {
    fn from(held: wire::SessionState) -> Self {
        Self {
            session: held.session,
            incident: held.incident,
            justification: held.justification,
            emergency_kid: held.emergency_kid,
            algorithm: held.algorithm,
            replaces: held.replaces,
            callers: held.callers,
            expires_at: held.expires_at,
            expires_in_s: None,
            remaining: Some(held.remaining),
            max_signatures: Some(held.max_signatures),
            under_freeze: held.under_freeze,
            approved_by: held.approved_by,
        }
    }
}

//! What the signer answers.

use serde::{Deserialize, Serialize};

use super::super::end::End;
use super::{Extends, JournalHead, JournalRecord, Reason, RecordProof};
use crate::FreezeId;

/// One message of the signer: `{"signed": {...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant's name is its struct's, which says what it is")]
pub enum Answer {
    Welcome(Welcome),
    Extends(Extends),
    Believed(Believed),
    Activated(Activated),
    Signed(Signed),
    Ended(Ended),
    Destroyed(Destroyed),
    Unsealed(Unsealed),
    AcceptedProxy(AcceptedProxy),
    Clock(Clock),
    Opened(Opened),
    Status(Stated),
    Refused(Refused),
    SessionEnded(SessionEnded),
}

/// To `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// The ask's.
    pub id: u64,
    /// [`super::VERSION`].
    pub version: u32,
    /// All there is to know.
    pub state: State,
    /// How far the signer knows the proxy's log to go; none: it does not know it. The proxy has to show
    /// that its log goes on from there (`show`), before it is given a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<JournalHead>,
}

/// To `show`: the proxy's log goes on from what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Believed {
    /// The ask's.
    pub id: u64,
}

/// To [`super::operator::Ask::AcceptProxy`]: a proxy's log is accepted, and that is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedProxy {
    /// The ask's.
    pub id: u64,
    /// What was refused until then.
    pub proxy: RefusedProxy,
    /// Its record.
    pub record: JournalRecord,
}

/// A proxy that is refused for its log: it does not go on from the one that the signer knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusedProxy {
    /// Whose log it is: SHA-256 of the DER of the proxy's audit public key, in hex.
    pub instance: String,
    /// What it showed, signed by that key: `log:size:root`.
    pub head: String,
    /// What was known: `log:size:root`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// Why it is refused.
    pub why: String,
}

/// To `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stated {
    /// The ask's.
    pub id: u64,
    /// All there is to know.
    pub state: State,
    /// How far the signer knows the log of the proxy that asks to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<JournalHead>,
}

/// The signer at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// SHA-256 of the audit public key's DER, in hex: what requests name in `instances`.
    pub instance: String,
    /// The deployment.
    pub deployment: String,
    /// The program's version.
    pub signer_version: String,
    /// Base64 of the audit public key's DER SubjectPublicKeyInfo: it signs the journal.
    pub audit_public_key: String,
    /// Its kid in the registry.
    pub audit_kid: String,
    /// The journal's newest record on disk.
    pub head: JournalHead,
    /// The session in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionState>,
    /// The emergency keys that the configuration names, and any other that is due.
    pub keys: Vec<EmergencyKey>,
    /// Whether a passphrase waits to be used.
    pub unlocked: bool,
    /// An approved outage has to be this long.
    pub min_outage_s: u64,
    /// Longest session.
    pub session_max_s: u64,
    /// Most signatures of a session.
    pub signatures_max: u64,
    /// Most signatures in a second.
    pub signatures_per_second_max: u32,
    /// Roles that have to approve, each by a person of its own.
    pub required_roles: Vec<String>,
    /// SHA-256 of the approvers file as it was at the start.
    pub approvers_sha256: String,
    /// Whether approvals have to be by hardware keys.
    pub hardware_required: bool,
    /// Whether the signer runs under its development switch.
    pub development: bool,
    /// Why the signer is sealed: no session begins until an operator has ended that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// The proxy that is refused for its log, until another one is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_proxy: Option<RefusedProxy>,
    /// Why no session could begin here, whatever is approved: one sentence each. Empty: one could.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cannot_arm: Vec<String>,
}

/// One emergency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmergencyKey {
    /// Its kid.
    pub kid: String,
    /// AWS KMS's name of its algorithm.
    pub algorithm: String,
    /// Base64 of its DER SubjectPublicKeyInfo.
    pub public_key: String,
    /// SHA-256 of that DER, in hex: what requests bind.
    pub sha256: String,
    /// Whether it can be used.
    pub state: KeyState,
    /// RFC 3339: when it has to be destroyed, since a session used it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destruction_due: Option<String>,
    /// Whether that time is over.
    pub destruction_overdue: bool,
    /// Its copies of which nobody has attested that they are destroyed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies_left: Vec<String>,
}

/// Whether an emergency key can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Sealed in its file: a session may use it.
    Sealed,
    /// Open: a session uses it.
    Open,
    /// The registry has revoked it, its `notAfter` is over, or its destruction began and is not
    /// done: no session may use it.
    Revoked,
    /// Destroyed, for ever: its file is gone, and that is recorded.
    Destroyed,
    /// Its file is not there or cannot be read, or no entry names it.
    Missing,
}

impl KeyState {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Open => "open",
            Self::Revoked => "revoked",
            Self::Destroyed => "destroyed",
            Self::Missing => "missing",
        }
    }
}

/// A session that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionState {
    /// Its name: the request's `id`, and the beginning of the SHA-256 of its bytes.
    pub session: String,
    /// The incident.
    pub incident: String,
    /// The justification in the approved request.
    pub justification: String,
    /// The key that signs.
    pub emergency_kid: String,
    /// AWS KMS's name of its algorithm.
    pub algorithm: String,
    /// Base64 of its DER SubjectPublicKeyInfo.
    pub public_key: String,
    /// The signers that it stands in for.
    pub replaces: Vec<String>,
    /// The callers that it signs for.
    pub callers: Vec<String>,
    /// RFC 3339: when it began.
    pub activated_at: String,
    /// RFC 3339: over from then on, at the latest.
    pub expires_at: String,
    /// Milliseconds that are left by the signer's boot-time clock; hold it as a lease.
    pub expires_in_ms: u64,
    /// Signatures that are left.
    pub remaining: u64,
    /// Signatures of all.
    pub max_signatures: u64,
    /// The freeze under which it signs, as its approvers named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_freeze: Option<FreezeId>,
    /// Who approved: `alice@example.org (Security)`.
    pub approved_by: Vec<String>,
    /// Its `session_activated` record.
    pub record: JournalRecord,
}

/// To `activate`: the session is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activated {
    /// The ask's.
    pub id: u64,
    /// What is in force.
    pub session: SessionState,
}

/// To `sign`: the record is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The ask's.
    pub id: u64,
    /// Base64, in the algorithm's own form (Ed25519: 64 bytes; ECDSA: DER).
    pub signature: String,
    /// Its `emergency_signed` record.
    pub record: JournalRecord,
    /// Signatures that are left.
    pub remaining: u64,
    /// That the record is in the signer's log, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<RecordProof>,
}

/// To `end`: the session is over and the key wiped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// The ask's.
    pub id: u64,
    /// The id of the session.
    pub session: String,
    /// Its `session_ended` record.
    pub record: JournalRecord,
    /// RFC 3339: when the key has to be destroyed.
    pub destruction_due: String,
}

/// To `destroy`: the key is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destroyed {
    /// The ask's.
    pub id: u64,
    /// The emergency key.
    pub emergency_kid: String,
    /// Whether its file was overwritten; else it was gone, or could only be removed.
    pub overwritten: bool,
    /// Its copies of which nobody has attested that they are destroyed: it stays due until somebody has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies_left: Vec<String>,
    /// Its `key_destroyed` record, or the newest `copy_destroyed`.
    pub record: JournalRecord,
}

/// To an operator's `unseal`: the seal is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsealed {
    /// The ask's.
    pub id: u64,
    /// What was doubted.
    pub sealed_for: String,
    /// Its `unseal` record.
    pub record: JournalRecord,
}

/// To an operator's `clock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// The ask's.
    pub id: u64,
    /// RFC 3339: what the signer's clock shows.
    pub now: String,
}

/// To an operator's `open`: the passphrase opens the key, which is the registered one. It is wiped again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// The ask's.
    pub id: u64,
    /// The emergency key.
    pub emergency_kid: String,
}

/// To any ask: no, and nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The ask's.
    pub id: u64,
    /// Why, for a program.
    pub reason: Reason,
    /// Why and what to do, for a person.
    pub detail: String,
    /// Its record, if it has one of its own that is on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<JournalRecord>,
}

/// Unasked, to whoever activated it: the session is over, whatever was asked since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionEnded {
    /// The id of the session.
    pub session: String,
    /// What ended the session.
    pub reason: End,
    /// What happened, for a person.
    pub detail: String,
    /// Signatures it made.
    pub signatures: u64,
    /// RFC 3339: when the key has to be destroyed.
    pub destruction_due: String,
    /// Its `session_ended` record, if that is on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<JournalRecord>,
}

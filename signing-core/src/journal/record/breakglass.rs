//! Records of break-glass: those of the emergency signer, whose actor is [`ACTOR`], and the
//! three with which the proxy's journal tells its side. Fields stand in the order of their names.

use serde::Serialize;

use crate::FreezeId;

use super::{BatchLeaf, Refused};

/// Who acts in the emergency signer's records.
pub const ACTOR: &str = "service:signing-breakglass";

/// A session begins once this is on disk. It uses up the request's nonce, and holds all
/// that is needed to judge the approvals again.
#[derive(Clone, Debug, Serialize)]
pub struct SessionActivated<'r> {
    /// [`ACTOR`].
    pub actor: &'r str,
    /// The approvals as they came: armored SSHSIG.
    pub approvals: Vec<&'r str>,
    /// Who made them.
    pub approved: Vec<Approved<'r>>,
    /// SHA-256 of the approvers file, in hex.
    pub approvers_sha256: &'r str,
    /// Who asked the proxy, as the proxy says.
    pub by: &'r str,
    /// The callers in scope.
    pub callers: Vec<&'r str>,
    /// The outages that the proxy claims to see.
    pub claimed: Vec<Claimed<'r>>,
    /// Where copies of the key are, by the configuration: each is asked for until somebody attests that it is
    /// destroyed, also if the configuration names it no more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<&'r str>,
    /// SHA-256 of the emergency key's DER SubjectPublicKeyInfo, in hex.
    pub emergency_key_sha256: &'r str,
    /// The key that will sign.
    pub emergency_kid: &'r str,
    /// RFC 3339: over from then on.
    pub expires_at: &'r str,
    /// The incident.
    pub incident: &'r str,
    /// The justification in the approved request.
    pub justification: &'r str,
    /// The quota.
    pub max_signatures: u64,
    /// The request's nonce, in hex: no other activation has it.
    pub nonce: &'r str,
    /// RFC 3339: the beginning of the outage that the approvers attest.
    pub outage_since: &'r str,
    /// The freeze that the proxy says is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_freeze: Option<FreezeId>,
    /// The proxy's journal as far as it is on disk: `log:size:root`.
    pub proxy_head: &'r str,
    /// The signers in scope.
    pub replaces: Vec<&'r str>,
    /// The request, byte by byte, in base64.
    pub request_b64: &'r str,
    /// SHA-256 of its bytes, in hex.
    pub request_sha256: &'r str,
    /// The session's name.
    pub session: &'r str,
    /// The freeze under which it signs, as the request names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub under_freeze: Option<FreezeId>,
}

/// One approval.
#[derive(Clone, Debug, Serialize)]
pub struct Approved<'r> {
    /// OpenSSH's name of the key's algorithm.
    pub algorithm: &'r str,
    /// How many signatures the hardware key had made; none: it is a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counter: Option<u32>,
    /// `SHA256:...`
    pub fingerprint: &'r str,
    /// The approver's principal in the approvers file.
    pub principal: &'r str,
    /// In which roles.
    pub roles: Vec<&'r str>,
    /// Whether the hardware key was touched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub touched: Option<bool>,
    /// Whether it asked for a PIN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
}

/// An outage that the proxy claims to see.
#[derive(Clone, Debug, Serialize)]
pub struct Claimed<'r> {
    /// How long the outage had lasted, in seconds.
    pub seconds: u64,
    /// The signer that had the outage.
    pub signer_kid: &'r str,
    /// RFC 3339.
    pub since: &'r str,
}

/// A session was asked for and does not begin; nothing is used up.
#[derive(Clone, Debug, Serialize)]
pub struct SessionRefused<'r> {
    /// [`ACTOR`].
    pub actor: &'r str,
    /// Whose approvals verified.
    pub approved: Vec<Approved<'r>>,
    /// Who asked the proxy, as the proxy says.
    pub by: &'r str,
    /// The clause that does not hold, by its word.
    pub clause: &'r str,
    /// The sentence that was answered.
    pub detail: &'r str,
    /// The key; absent, as all that is the request's, if that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emergency_kid: Option<&'r str>,
    /// The incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<&'r str>,
    /// The justification in the approved request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub justification: Option<&'r str>,
    /// The proxy's journal as far as it is on disk: `log:size:root`.
    pub proxy_head: &'r str,
    /// SHA-256 of what was given as the request, in hex.
    pub request_sha256: &'r str,
    /// The name that the session would have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<&'r str>,
}

/// An emergency key signed; the signature leaves once this is on disk.
#[derive(Clone, Debug, Serialize)]
pub struct EmergencySigned<'r> {
    /// [`ACTOR`].
    pub actor: &'r str,
    /// AWS KMS's name.
    pub algorithm: &'r str,
    /// Of a batch key: the only leaf of its batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchLeaf>,
    /// Who asked, as the proxy says.
    pub caller: &'r str,
    /// The session's incident.
    pub incident: &'r str,
    /// `sha256:hex` of what was signed.
    pub input_digest: &'r str,
    /// Why, in the caller's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub justification: Option<&'r str>,
    /// `breakglass`.
    pub mode: &'r str,
    /// The proxy's journal as far as it is on disk: `log:size:root`.
    pub proxy_head: &'r str,
    /// Signatures that are left.
    pub remaining: u64,
    /// The signer that the key stands in for.
    pub replaces: &'r str,
    /// The request.
    pub request_id: &'r str,
    /// The session.
    pub session: &'r str,
    /// Why there is the session.
    pub session_justification: &'r str,
    /// Base64 of the signature, in its algorithm's own form; of a batch key, of the signature over the
    /// batch's note.
    pub signature: &'r str,
    /// With which key: the emergency key's kid.
    pub signer_kid: &'r str,
}

/// Emergency signatures that were refused, counted: refusals are no way to fill the disk.
#[derive(Clone, Debug, Serialize)]
pub struct EmergencyRefusals<'r> {
    /// [`ACTOR`].
    pub actor: &'r str,
    /// The incident of the session that was in force when they were refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<&'r str>,
    /// Why there is the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub justification: Option<&'r str>,
    /// Over how many seconds.
    pub over_s: u64,
    /// By reason.
    pub refused: Vec<Refused<'r>>,
    /// The session that was in force when they were refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<&'r str>,
}

/// A session ended; its key was wiped before this was written.
#[derive(Clone, Debug, Serialize)]
pub struct SessionEnded<'r> {
    /// [`ACTOR`].
    pub actor: &'r str,
    /// Who ended it: an operator, as the proxy says, or this process.
    pub by: &'r str,
    /// RFC 3339: when the key has to be destroyed.
    pub destruction_due: &'r str,
    /// What happened, for a person; an operator's own words.
    pub detail: &'r str,
    /// The key.
    pub emergency_kid: &'r str,
    /// The incident.
    pub incident: &'r str,
    /// Why there was the session.
    pub justification: &'r str,
    /// Why it ended, in a word.
    pub reason: &'r str,
    /// The id of the session that ended.
    pub session: &'r str,
    /// Signatures it made.
    pub signatures: u64,
}

/// A key should have been destroyed by now.
#[derive(Clone, Debug, Serialize)]
pub struct DestructionOverdue<'r> {
    /// [`ACTOR`].
    pub actor: &'r str,
    /// RFC 3339.
    pub destruction_due: &'r str,
    /// The emergency key that this record is about.
    pub emergency_kid: &'r str,
}

/// A key was destroyed: it is refused for ever.
#[derive(Clone, Debug, Serialize)]
pub struct KeyDestroyed<'r> {
    /// [`ACTOR`].
    pub actor: &'r str,
    /// Who asked the proxy, as the proxy says.
    pub by: &'r str,
    /// Where copies of it are, by the configuration: somebody has to attest that each is destroyed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<&'r str>,
    /// SHA-256 of its DER SubjectPublicKeyInfo, in hex.
    pub emergency_key_sha256: &'r str,
    /// The emergency key that this record is about.
    pub emergency_kid: &'r str,
    /// Whether its file was overwritten before it was removed.
    pub overwritten: bool,
    /// The reason that the operator gave.
    pub reason: &'r str,
}

/// Somebody attests that a copy of a destroyed key, which this process cannot reach, is destroyed.
#[derive(Clone, Debug, Serialize)]
pub struct CopyDestroyed<'r> {
    /// [`ACTOR`].
    pub actor: &'r str,
    /// Who attests it, and how the copy was destroyed.
    pub attested_by: &'r str,
    /// Who asked the proxy, as the proxy says.
    pub by: &'r str,
    /// Which copy: one of those that the key's `key_destroyed` lists.
    pub copy: &'r str,
    /// The key.
    pub emergency_kid: &'r str,
    /// The reason that the operator gave.
    pub reason: &'r str,
}

/// A passphrase was brought, used, or let go. It is never written itself.
#[derive(Clone, Debug, Serialize)]
pub struct Unlock<'r> {
    /// [`ACTOR`].
    pub actor: &'r str,
    /// Whose: the peer of the operator socket.
    pub by: &'r str,
    /// `brought`, `used`, `failed` or `expired`; of a check that armed nothing `opened` or `not_opened`.
    pub outcome: &'r str,
}

/// The proxy's journal: what came of asking its emergency signer for a session. It is on
/// disk before the proxy switches.
#[derive(Clone, Debug, Serialize)]
pub struct Activation<'r> {
    /// Whether the session is in force.
    pub activated: bool,
    /// Who asked.
    pub by: &'r str,
    /// What was answered, for a person.
    pub detail: &'r str,
    /// The key, if the request could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emergency_kid: Option<&'r str>,
    /// The incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<&'r str>,
    /// The signer's word, or the proxy's own.
    pub reason: &'r str,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<&'r str>,
    /// How far the signer's journal went, as far as is known: `log:size:root`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer_head: Option<&'r str>,
    /// Which signer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer_instance: Option<&'r str>,
    /// The signer's own `session_activated` record: `log:seq:leaf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer_record: Option<&'r str>,
    /// The freeze under which it signs, as the request names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub under_freeze: Option<FreezeId>,
}

/// The proxy's journal: it signs with the emergency key no more.
#[derive(Clone, Debug, Serialize)]
pub struct BreakglassEnded<'r> {
    /// Who ended it.
    pub by: &'r str,
    /// What happened, for a person.
    pub detail: &'r str,
    /// The key.
    pub emergency_kid: &'r str,
    /// The incident.
    pub incident: &'r str,
    /// Why, in a word.
    pub reason: &'r str,
    /// Which session.
    pub session: &'r str,
    /// How far the signer's journal went, as far as is known: `log:size:root`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer_head: Option<&'r str>,
    /// The signer's own `session_ended` record, if it told: `log:seq:leaf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer_record: Option<&'r str>,
}

/// The proxy's journal: how far the emergency signer's log goes. From then on the signer's log has to go
/// on from there.
#[derive(Clone, Debug, Serialize)]
pub struct SignerLogRecord<'r> {
    /// Who: an operator who accepted it, or this proxy.
    pub by: &'r str,
    /// Why it is believed: `first`, `extends` or `accepted`.
    pub how: &'r str,
    /// What was known before, of this log or of what it takes the place of: `log:size:root`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<&'r str>,
    /// Why an operator accepted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'r str>,
    /// How far it goes, by a checkpoint of its audit key: `log:size:root`.
    pub signer_head: &'r str,
    /// Whose: SHA-256 of the DER of the signer's audit public key, in hex.
    pub signer_instance: &'r str,
}

/// The emergency signer's journal: how far a proxy's log goes. From then on that log has to go on from
/// there.
#[derive(Clone, Debug, Serialize)]
pub struct ProxyLogRecord<'r> {
    /// Who: an operator who accepted it, or this signer.
    pub by: &'r str,
    /// Why it is believed: `first`, `extends` or `accepted`.
    pub how: &'r str,
    /// What was known before, of this log or of what it takes the place of: `log:size:root`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<&'r str>,
    /// How far it goes, by a checkpoint of its audit key: `log:size:root`.
    pub proxy_head: &'r str,
    /// Whose: SHA-256 of the DER of the proxy's audit public key, in hex.
    pub proxy_instance: &'r str,
    /// Why an operator accepted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'r str>,
}

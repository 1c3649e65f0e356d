//! Records of any journal, and of the proxy's. Fields stand in the order of their names.

use serde::Serialize;

use super::{BatchLeaf, SignersChanged};
use crate::FreezeId;
use crate::journal::{FleetFrozen, Frozen, KeyModesSnapshot, KnownLog, OpenIncident, Seal};

/// A log began.
#[derive(Clone, Debug, Serialize)]
pub struct Init<'r> {
    /// The audit key: base64 of its DER SubjectPublicKeyInfo.
    pub audit_key: &'r str,
    /// Its kid.
    pub audit_kid: &'r str,
    /// Who asked for it.
    pub by: &'r str,
    /// The deployment's name.
    pub deployment: &'r str,
    /// The replica, if it was made by itself: a sink had never heard of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_replica: Option<&'r str>,
    /// The newest record, as far as is known, of the log that was here before:
    /// `log:size:root`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<&'r str>,
}

/// A process began to write.
#[derive(Clone, Debug, Serialize)]
pub struct Start<'r> {
    /// The audit key: base64 of its DER SubjectPublicKeyInfo.
    pub audit_key: &'r str,
    /// Its kid.
    pub audit_kid: &'r str,
    /// Bytes of a record that was not whole, and was cut off.
    pub cut_bytes: u64,
    /// Their SHA-256 in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_sha256: Option<&'r str>,
    /// The deployment's name.
    pub deployment: &'r str,
    /// The first record that is still in the journal's directory.
    pub first_seq: u64,
    /// The freezes of the fleet in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fleet: Vec<FleetFrozen>,
    /// The freeze in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Frozen>,
    /// The incident that is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<OpenIncident>,
    /// In which mode the keys were registered that could sign batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_modes: Option<KeyModesSnapshot>,
    /// Intents without outcome; each is concluded by a `failed` record that follows.
    pub open_intents: u64,
    /// The user of the trail without whose word no signature leaves: `uid 998`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_trail: Option<&'r str>,
    /// The seals in force.
    pub seals: Vec<Seal<'r>>,
    /// The logs of emergency signers that are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signer_logs: Vec<KnownLog>,
    /// The program's version.
    pub version: &'r str,
}

/// A process ended in order.
#[derive(Clone, Debug, Serialize)]
pub struct Stop<'r> {
    /// What stopped the process: a signal, or that it cannot go on.
    pub reason: &'r str,
}

/// A segment began.
#[derive(Clone, Debug, Serialize)]
pub struct Segment<'r> {
    /// The freezes of the fleet in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fleet: Vec<FleetFrozen>,
    /// The freeze in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Frozen>,
    /// The incident that is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<OpenIncident>,
    /// In which mode the keys were registered that could sign batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_modes: Option<KeyModesSnapshot>,
    /// The oldest intent that had no outcome then: recovery reads from its segment on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_open: Option<u64>,
    /// The seals in force.
    pub seals: Vec<Seal<'r>>,
    /// The logs of emergency signers that are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signer_logs: Vec<KnownLog>,
}

/// An upstream is about to be asked.
#[derive(Clone, Debug, Serialize)]
pub struct Intent<'r> {
    /// AWS KMS's name.
    pub algorithm: &'r str,
    /// What the ids of all calls for it begin with; none: a signature that is kept is given out
    /// again, and nobody is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<&'r str>,
    /// Who asked.
    pub caller: &'r str,
    /// Through which door: `mtls` or `local`.
    pub door: &'r str,
    /// `sha256:hex` of what is to be signed.
    pub input_digest: &'r str,
    /// Why, in the caller's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub justification: Option<&'r str>,
    /// `normal` or `breakglass`.
    pub mode: &'r str,
    /// The region of the upstream that is asked first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<&'r str>,
    /// The request.
    pub request_id: &'r str,
    /// With which key.
    pub signer_kid: &'r str,
    /// The caller's trace (W3C Trace Context).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<&'r str>,
    /// The upstream that is asked first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'r str>,
}

/// A call that was made for an order and certainly signed nothing, before another one was made.
#[derive(Clone, Debug, Serialize)]
pub struct EarlierAttempt<'r> {
    /// The call's id.
    pub attempt: &'r str,
    /// What is known of its failure: a fault's word.
    pub reason: &'r str,
    /// The upstream's region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<&'r str>,
    /// Which upstream was asked.
    pub upstream: &'r str,
    /// What the upstream calls it, if it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_request_id: Option<&'r str>,
}

/// Where a request spent its time until its outcome, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TimingUs {
    /// From the whole request to the upstream call.
    pub queue: u64,
    /// The upstream call.
    pub upstream: u64,
    /// Verification.
    pub verify: u64,
}

/// The signature verified, and leaves once this is on disk and if the gate is still open.
#[derive(Clone, Debug, Serialize)]
pub struct Signed<'r> {
    /// AWS KMS's name.
    pub algorithm: &'r str,
    /// The id of the call that the answer is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<&'r str>,
    /// Of a batch signer: which leaf of which batch it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchLeaf>,
    /// Who asked.
    pub caller: &'r str,
    /// Through which door: `mtls` or `local`.
    pub door: &'r str,
    /// The calls before that one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier_attempts: Vec<EarlierAttempt<'r>>,
    /// In a break-glass session: its incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<&'r str>,
    /// `sha256:hex` of what was signed.
    pub input_digest: &'r str,
    /// The intent's number.
    pub intent: u64,
    /// `normal` or `breakglass`.
    pub mode: &'r str,
    /// The region of the upstream that was asked last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<&'r str>,
    /// Whether an earlier signature was given out again, for the same idempotency key.
    pub replayed: bool,
    /// The request.
    pub request_id: &'r str,
    /// In a break-glass session: its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<&'r str>,
    /// Base64 of the signature, in its algorithm's own form; of a batch signer, of the signature over
    /// the batch's note.
    pub signature: &'r str,
    /// With which key.
    pub signer_kid: &'r str,
    /// In a break-glass session: the emergency signer's own record of it, `log:seq:leaf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer_record: Option<&'r str>,
    /// Where its time went.
    pub timing_us: TimingUs,
    /// The upstream that was asked last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'r str>,
    /// What that upstream calls the call, if it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_request_id: Option<&'r str>,
}

/// No signature came of an intent, or none is known.
#[derive(Clone, Debug, Serialize)]
pub struct Failed<'r> {
    /// AWS KMS's name.
    pub algorithm: &'r str,
    /// The id of the call that was made last; of an intent that a start concludes: the intent's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<&'r str>,
    /// Who asked.
    pub caller: &'r str,
    /// What was seen.
    pub detail: &'r str,
    /// Through which door: `mtls` or `local`.
    pub door: &'r str,
    /// The calls before that one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier_attempts: Vec<EarlierAttempt<'r>>,
    /// `sha256:hex` of what was to be signed.
    pub input_digest: &'r str,
    /// The intent's number.
    pub intent: u64,
    /// `normal` or `breakglass`.
    pub mode: &'r str,
    /// The refusal's word: `indeterminate` says that the upstream may have signed.
    pub reason: &'r str,
    /// The region of the upstream that was asked last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<&'r str>,
    /// The request.
    pub request_id: &'r str,
    /// With which key.
    pub signer_kid: &'r str,
    /// The upstream that was asked last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'r str>,
    /// What that upstream calls the call, if it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_request_id: Option<&'r str>,
}

/// A signature that was made does not leave.
#[derive(Clone, Debug, Serialize)]
pub struct Withheld<'r> {
    /// Why, for a person.
    pub detail: &'r str,
    /// The refusal's word.
    pub reason: &'r str,
    /// The request.
    pub request_id: &'r str,
    /// The number of the `signed` record.
    pub signed: u64,
    /// With which key.
    pub signer_kid: &'r str,
}

/// A gate, or one of its upstreams, went from one state to another.
#[derive(Clone, Debug, Serialize)]
pub struct Gate<'r> {
    /// One sentence for a person.
    pub detail: &'r str,
    /// From which state.
    pub from: &'r str,
    /// Whose gate.
    pub signer_kid: &'r str,
    /// To which state.
    pub to: &'r str,
    /// Of a signer with several upstreams: it is this one's state, not the gate's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'r str>,
}

/// An operator stopped all signing.
#[derive(Clone, Debug, Serialize)]
pub struct Freeze<'r> {
    /// The user at the admin socket, or what acted by itself.
    pub by: &'r str,
    /// Its name, which a break-glass request may name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<FreezeId>,
    /// The reason that the operator gave.
    pub reason: &'r str,
}

/// An operator asked to end the freeze; it ends once this is on disk.
#[derive(Clone, Debug, Serialize)]
pub struct Unfreeze<'r> {
    /// The user at the admin socket, or what acted by itself.
    pub by: &'r str,
    /// Who had frozen.
    pub frozen_by: &'r str,
    /// The reason of the freeze that ends.
    pub frozen_for: &'r str,
    /// The name of the freeze that ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_id: Option<FreezeId>,
    /// Why signing is safe again.
    pub reason: &'r str,
}

/// An operator asked to end a seal; it ends once this is on disk.
#[derive(Clone, Debug, Serialize)]
pub struct Unseal<'r> {
    /// The user at the admin socket, or what acted by itself.
    pub by: &'r str,
    /// What was found and done.
    pub reason: &'r str,
    /// What was doubted.
    pub sealed_for: &'r str,
    /// Whose seal; none: the journal's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer_kid: Option<&'r str>,
}

/// Another configuration is put in force once this is on disk.
#[derive(Clone, Debug, Serialize)]
pub struct Reload<'r> {
    /// The user at the admin socket, or what acted by itself.
    pub by: &'r str,
    /// How many configurations will have been in force since the start.
    pub generation: u64,
    /// In which mode the keys of the registry are that could sign batches, and those known before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_modes: Option<KeyModesSnapshot>,
    /// SHA-256 of the registry that verifiers are given from then on, in hex.
    pub registry_sha256: &'r str,
    /// What becomes of `[[signers]]`.
    #[serde(flatten)]
    pub signers: SignersChanged<'r>,
}

/// A drill began, or ended.
#[derive(Clone, Debug, Serialize)]
pub struct Drill<'r> {
    /// Who asked for it.
    pub by: &'r str,
    /// `begin` or `end`.
    pub phase: &'r str,
    /// Whose upstreams fail.
    pub signer_kid: &'r str,
    /// At its end: signatures that left and calls that passed while nothing should have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slipped: Option<u64>,
    /// At its end: from the end of the fault until the gate was open, if it came to that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_recover_ms: Option<u64>,
    /// At its end: from the fault until the gate refused, if it came to that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_refuse_ms: Option<u64>,
}

/// A break-glass ceremony was rehearsed, with a key and a signer of its own. Nothing of this proxy took part.
#[derive(Clone, Debug, Serialize)]
pub struct Rehearsal<'r> {
    /// At its end: who approved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<&'r str>,
    /// Who asked for it.
    pub by: &'r str,
    /// What it is, or what it came to.
    pub detail: &'r str,
    /// At its end: whether every step was as it has to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// `begin` or `end`.
    pub phase: &'r str,
}

/// Requests that were refused before an intent, counted: refusals are no way to fill
/// the disk.
#[derive(Clone, Debug, Serialize)]
pub struct Refusals<'r> {
    /// Over how many seconds.
    pub over_s: u64,
    /// By reason and signer.
    pub refused: Vec<Refused<'r>>,
}

/// How often one reason refused, and one request as a sample.
#[derive(Clone, Debug, Serialize)]
pub struct Refused<'r> {
    /// Who asked, in the sample.
    pub caller: &'r str,
    /// How many requests.
    pub count: u64,
    /// What it was told.
    pub detail: &'r str,
    /// The refusal's word.
    pub reason: &'r str,
    /// The sample.
    pub request_id: &'r str,
    /// With which key, if one was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer_kid: Option<&'r str>,
}

/// Calls to upstreams that no caller asked for, such as those of canaries and of the doctor.
#[derive(Clone, Debug, Serialize)]
pub struct Probes<'r> {
    /// The calls.
    pub calls: Vec<ProbeCall<'r>>,
    /// How many more there were than are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
    /// Over how many seconds.
    pub over_s: u64,
}

/// One of these calls.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeCall<'r> {
    /// Its id.
    pub attempt: &'r str,
    /// What was asked for, in KMS's words.
    pub operation: &'r str,
    /// What came of it: `answered`, `signed`, `doubt`, or a fault's word.
    pub outcome: &'r str,
    /// `canary`, `doctor` or `warmth`.
    pub purpose: &'r str,
    /// The upstream's region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<&'r str>,
    /// With which key.
    pub signer_kid: &'r str,
    /// Which upstream was asked.
    pub upstream: &'r str,
    /// What the upstream calls it, if it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_request_id: Option<&'r str>,
}

//! What records say, and their canonical bytes.
//!
//! A body is JSON in the one form that JavaScript's `JSON.stringify` gives it once
//! keys are sorted: no white space, no floats. So every struct here has its fields in
//! the order of their names.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

/// Declares [`Kind`] as a table: variant, word, whether its record may use the
/// reserved space, what it records.
macro_rules! kinds {
    ($($variant:ident $word:literal $ends:literal $what:literal)*) => {
        /// What a record is about. Its word is the body's `type`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $(#[doc = $what] $variant,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The body's `type`, and the metric's label.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// Whether it ends or stops something: such a record may use the space that
            /// is reserved for them.
            #[must_use]
            pub const fn ends_something(self) -> bool {
                match self { $(Self::$variant => $ends,)* }
            }

            /// What it records, for a person.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }
        }
    };
}

kinds! {
    Init "init" false "A chain began."
    Start "start" true "A process began to write."
    Stop "stop" true "It ended in order."
    Segment "segment" true "A segment began."
    Intent "intent" false "An upstream is about to be asked to sign."
    Signed "signed" true "The signature verified, and is about to leave."
    Failed "failed" true "No signature came of an intent, or none is known."
    Withheld "withheld" true "A signature that was made does not leave."
    Gate "gate" true "A gate went from one state to another."
    Freeze "freeze" true "An operator stopped all signing."
    Unfreeze "unfreeze" false "An operator asked to end the freeze."
    Unseal "unseal" false "An operator asked to end a seal."
    Reload "reload" false "Another configuration is about to be put in force."
    Drill "drill" false "A drill began or ended."
    Refusals "refusals" false "Requests that were refused, counted, with a sample of each."
}

impl Kind {
    /// Reads a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.word() == word)
    }
}

/// A record before it has a place in a chain.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each variant's name is its struct's, which says what it is")]
pub enum Record<'r> {
    Init(Init<'r>),
    Start(Start<'r>),
    Stop(Stop<'r>),
    Segment(Segment),
    Intent(Intent<'r>),
    Signed(Signed<'r>),
    Failed(Failed<'r>),
    Withheld(Withheld<'r>),
    Gate(Gate<'r>),
    Freeze(Freeze<'r>),
    Unfreeze(Unfreeze<'r>),
    Unseal(Unseal<'r>),
    Reload(Reload<'r>),
    Drill(Drill<'r>),
    Refusals(Refusals<'r>),
}

/// A chain began.
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
    /// The newest record, as far as is known, of the chain that was here before:
    /// `chain:seq:hash`.
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
    /// The reason of the freeze in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<&'r str>,
    /// Intents without outcome; each is concluded by a `failed` record that follows.
    pub open_intents: u64,
    /// Signers that are sealed.
    pub sealed: Vec<&'r str>,
    /// The program's version.
    pub version: &'r str,
}

/// A process ended in order.
#[derive(Clone, Debug, Serialize)]
pub struct Stop<'r> {
    /// Why.
    pub reason: &'r str,
}

/// A segment began.
#[derive(Clone, Debug, Serialize)]
pub struct Segment {
    /// The oldest intent that had no outcome then: recovery reads from its segment on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_open: Option<u64>,
}

/// An upstream is about to be asked.
#[derive(Clone, Debug, Serialize)]
pub struct Intent<'r> {
    /// AWS KMS's name.
    pub algorithm: &'r str,
    /// Who asked.
    pub caller: &'r str,
    /// `sha256:hex` of what is to be signed.
    pub input_digest: &'r str,
    /// Why, in the caller's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub justification: Option<&'r str>,
    /// `normal`.
    pub mode: &'r str,
    /// The request.
    pub request_id: &'r str,
    /// With which key.
    pub signer_kid: &'r str,
    /// The caller's trace (W3C Trace Context).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<&'r str>,
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
    /// Who asked.
    pub caller: &'r str,
    /// `sha256:hex` of what was signed.
    pub input_digest: &'r str,
    /// The intent's number.
    pub intent: u64,
    /// `normal`.
    pub mode: &'r str,
    /// Whether an earlier signature was given out again, for the same idempotency key.
    pub replayed: bool,
    /// The request.
    pub request_id: &'r str,
    /// Base64 of the signature, in its algorithm's own form.
    pub signature: &'r str,
    /// With which key.
    pub signer_kid: &'r str,
    /// Where its time went.
    pub timing_us: TimingUs,
}

/// No signature came of an intent, or none is known.
#[derive(Clone, Debug, Serialize)]
pub struct Failed<'r> {
    /// AWS KMS's name.
    pub algorithm: &'r str,
    /// Who asked.
    pub caller: &'r str,
    /// What was seen.
    pub detail: &'r str,
    /// `sha256:hex` of what was to be signed.
    pub input_digest: &'r str,
    /// The intent's number.
    pub intent: u64,
    /// `normal`.
    pub mode: &'r str,
    /// The refusal's word: `indeterminate` says that the upstream may have signed.
    pub reason: &'r str,
    /// The request.
    pub request_id: &'r str,
    /// With which key.
    pub signer_kid: &'r str,
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
    /// Why.
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
    /// Who.
    pub by: &'r str,
    /// Why.
    pub reason: &'r str,
}

/// An operator asked to end the freeze; it ends once this is on disk.
#[derive(Clone, Debug, Serialize)]
pub struct Unfreeze<'r> {
    /// Who.
    pub by: &'r str,
    /// Who had frozen.
    pub frozen_by: &'r str,
    /// The reason of the freeze that ends.
    pub reason: &'r str,
}

/// An operator asked to end a seal; it ends once this is on disk.
#[derive(Clone, Debug, Serialize)]
pub struct Unseal<'r> {
    /// Who.
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
    /// Who.
    pub by: &'r str,
    /// How many configurations will have been in force since the start.
    pub generation: u64,
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

/// The body: when, what, and of which kind.
#[derive(Serialize)]
struct Body<'r> {
    at: &'r str,
    data: &'r Record<'r>,
    r#type: &'static str,
}

impl Record<'_> {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Init(_) => Kind::Init,
            Self::Start(_) => Kind::Start,
            Self::Stop(_) => Kind::Stop,
            Self::Segment(_) => Kind::Segment,
            Self::Intent(_) => Kind::Intent,
            Self::Signed(_) => Kind::Signed,
            Self::Failed(_) => Kind::Failed,
            Self::Withheld(_) => Kind::Withheld,
            Self::Gate(_) => Kind::Gate,
            Self::Freeze(_) => Kind::Freeze,
            Self::Unfreeze(_) => Kind::Unfreeze,
            Self::Unseal(_) => Kind::Unseal,
            Self::Reload(_) => Kind::Reload,
            Self::Drill(_) => Kind::Drill,
            Self::Refusals(_) => Kind::Refusals,
        }
    }

    /// Its body at that time, in canonical JSON. None if it has no such form, which
    /// no record of these types lacks.
    #[must_use]
    pub fn encode(&self, at: OffsetDateTime) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(512);
        let body = Body { at: &instant(at), data: self, r#type: self.kind().word() };
        serde_json::to_writer(&mut bytes, &body).ok()?;
        Some(bytes)
    }
}

/// What every reader needs of a body.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outline {
    /// When, by the calendar of who wrote it.
    pub at: String,
    /// What, by kind.
    pub data: Value,
    /// The kind's word.
    pub r#type: String,
}

impl Outline {
    /// Reads a body. None unless it is the canonical JSON of an outline with a kind
    /// that is known.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<(Self, Kind)> {
        let sorted: Value = serde_json::from_slice(body).ok()?;
        let is_canonical = serde_json::to_vec(&sorted).ok()? == body && !has_float(&sorted);
        let outline: Self = serde_json::from_value(sorted).ok()?;
        let kind = Kind::parse(&outline.r#type)?;
        let is_record = outline.data.is_object() && is_instant(&outline.at);
        (is_canonical && is_record).then_some((outline, kind))
    }

    /// A number of its data.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.data.get(name)?.as_u64()
    }

    /// A text of its data.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.data.get(name)?.as_str()
    }
}

/// Programs differ in how they write floats, so a canonical form has none.
fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_float),
        Value::Object(members) => members.values().any(has_float),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// Whether it looks like what [`instant`] writes.
fn is_instant(text: &str) -> bool {
    let form = b"0000-00-00T00:00:00.000000Z";
    let fits = |(byte, form): (u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        sign => byte == *sign,
    };
    text.len() == form.len() && text.bytes().zip(form).all(fits)
}

/// `2026-11-24T02:22:12.123456Z`: RFC 3339 in UTC with six digits, always as long.
#[must_use]
pub fn instant(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.microsecond()
    )
}

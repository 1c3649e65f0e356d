//! The break-glass request: one JSON document, whose exact bytes are approved.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::caller::Caller;
use crate::document::Reader;
use crate::freeze_id::FreezeId;
use crate::json;
use crate::key::Kid;

/// What the document says it is.
pub const TYPE: &str = "signing-proxy/breakglass-request/v1";
/// The SSHSIG namespace of an approval: `ssh-keygen -Y sign -n` takes it.
pub const NAMESPACE: &str = "breakglass@signing-proxy";
/// Longest document: with its approvals it fits into one record of the journal.
pub const REQUEST_MAX_BYTES: usize = 6 * 1024;
/// Longest approval, armored; one of an RSA-4096 key has about 1600 bytes.
pub const APPROVAL_MAX_BYTES: usize = 2 * 1024;
/// Approvals of one request.
pub const APPROVALS_MAX: usize = 4;

const ID_MAX_BYTES: usize = 64;
const AUDIENCE_MAX_BYTES: usize = 256;
const INCIDENT_MAX_BYTES: usize = 128;
const JUSTIFICATION_MAX_BYTES: usize = 1024;
const NONCE_BYTES: usize = 16;
/// What a number of JSON holds exactly everywhere, so that every reader sees the same quota.
const SIGNATURES_MAX: u64 = 1 << 53;

/// A request that is well formed. Whether it is granted is for
/// [`super::activation::decide`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    id: String,
    audience: String,
    instances: BTreeSet<String>,
    incident: String,
    justification: String,
    emergency_kid: Kid,
    emergency_key_sha256: String,
    replaces: BTreeSet<Kid>,
    callers: BTreeSet<Caller>,
    outage_since: OffsetDateTime,
    not_before: OffsetDateTime,
    expires_at: OffsetDateTime,
    max_signatures: u64,
    under_freeze: Option<FreezeId>,
    nonce: [u8; NONCE_BYTES],
    sha256: String,
}

/// The document as it is written. Every key has to be there, once, and no other; `under_freeze` only where
/// the session is to sign under a freeze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// [`TYPE`].
    pub r#type: String,
    /// A name for it: 1 to 64 characters out of A-Z a-z 0-9 . _ -
    pub id: String,
    /// The deployment's name.
    pub audience: String,
    /// The signer instances it arms: SHA-256 of each one's audit public key (DER
    /// SubjectPublicKeyInfo), in lower-case hex.
    pub instances: Vec<String>,
    /// The incident's name, one line.
    pub incident: String,
    /// Why, one line.
    pub justification: String,
    /// The key that is to sign.
    pub emergency_kid: String,
    /// SHA-256 of its DER SubjectPublicKeyInfo, in lower-case hex.
    pub emergency_key_sha256: String,
    /// The signers that it stands in for.
    pub replaces: Vec<String>,
    /// The callers that may have it sign.
    pub callers: Vec<String>,
    /// RFC 3339: when the outage began, which the approvers attest.
    pub outage_since: String,
    /// RFC 3339: not active before.
    pub not_before: String,
    /// RFC 3339: over from then on.
    pub expires_at: String,
    /// How many signatures each instance may make.
    pub max_signatures: u64,
    /// The freeze under which the session signs for the signers that it stands in for, while
    /// everything else stays frozen: 32 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_freeze: Option<String>,
    /// Base64 of 16 random bytes.
    pub nonce: String,
}

/// Everything that is wrong with a document, one sentence each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .mistakes.join("; "))]
pub struct RequestError {
    /// The key, the value, the fix.
    pub mistakes: Vec<String>,
}

impl Request {
    /// Reads a document from its exact bytes.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        let only = |mistake: String| RequestError { mistakes: vec![mistake] };
        if bytes.len() > REQUEST_MAX_BYTES {
            let length = bytes.len();
            return Err(only(format!(
                "it has {length} bytes, and a request has at most {REQUEST_MAX_BYTES}"
            )));
        }
        let no = |why: String| {
            only(format!(
                "it is not a break-glass request: {why}; make one: signctl breakglass request"
            ))
        };
        let draft: Draft = json::from_slice(bytes).map_err(|error| no(error.to_string()))?;
        let mut mistakes = Vec::new();
        let request = Reader(&mut mistakes).read(draft, bytes);
        match request {
            Some(request) if mistakes.is_empty() => Ok(request),
            _ => Err(RequestError { mistakes }),
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name of the session that it would begin: its own, and the beginning of the
    /// SHA-256 of its bytes, which no other document has.
    #[must_use]
    pub fn session(&self) -> String {
        format!("{}-{}", self.id, self.sha256.get(..8).unwrap_or_default())
    }

    /// The deployment.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The instances, in lower-case hex.
    #[must_use]
    pub fn instances(&self) -> &BTreeSet<String> {
        &self.instances
    }

    /// The incident.
    #[must_use]
    pub fn incident(&self) -> &str {
        &self.incident
    }

    /// The justification that the approvers read and signed.
    #[must_use]
    pub fn justification(&self) -> &str {
        &self.justification
    }

    /// The key that is to sign.
    #[must_use]
    pub fn emergency_kid(&self) -> &Kid {
        &self.emergency_kid
    }

    /// SHA-256 of its SubjectPublicKeyInfo, in lower-case hex.
    #[must_use]
    pub fn emergency_key_sha256(&self) -> &str {
        &self.emergency_key_sha256
    }

    /// The signers that it stands in for.
    #[must_use]
    pub fn replaces(&self) -> &BTreeSet<Kid> {
        &self.replaces
    }

    /// The callers.
    #[must_use]
    pub fn callers(&self) -> &BTreeSet<Caller> {
        &self.callers
    }

    /// When the outage began.
    #[must_use]
    pub fn outage_since(&self) -> OffsetDateTime {
        self.outage_since
    }

    /// Not active before.
    #[must_use]
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// Over from then on.
    #[must_use]
    pub fn expires_at(&self) -> OffsetDateTime {
        self.expires_at
    }

    /// How many signatures each instance may make.
    #[must_use]
    pub fn max_signatures(&self) -> u64 {
        self.max_signatures
    }

    /// The freeze under which its session signs all the same.
    #[must_use]
    pub fn under_freeze(&self) -> Option<FreezeId> {
        self.under_freeze
    }

    /// What makes it spendable once: lower-case hex.
    #[must_use]
    pub fn nonce(&self) -> String {
        hex::encode(self.nonce)
    }

    /// SHA-256 of its bytes, in lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

impl Draft {
    /// The bytes of a document, to be approved as they are.
    ///
    /// # Errors
    /// [`RequestError`], if nobody could read it back.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RequestError> {
        let unwritable =
            |error| RequestError { mistakes: vec![format!("it cannot be written: {error}")] };
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error: serde_json::Error| unwritable(error))?;
        bytes.push(b'\n');
        Request::parse(&bytes)?;
        Ok(bytes)
    }
}

/// The fields that only this document has.
impl Reader<'_> {
    fn read(&mut self, draft: Draft, bytes: &[u8]) -> Option<Request> {
        self.is_type(&draft.r#type, TYPE);
        self.name("id", &draft.id);
        self.line("audience", &draft.audience, AUDIENCE_MAX_BYTES);
        self.line("incident", &draft.incident, INCIDENT_MAX_BYTES);
        self.line("justification", &draft.justification, JUSTIFICATION_MAX_BYTES);
        self.sha256("emergency_key_sha256", &draft.emergency_key_sha256);
        for instance in &draft.instances {
            self.sha256("instances", instance);
        }
        let emergency_kid = self.kid("emergency_kid", &draft.emergency_kid);
        let replaces =
            self.list("replaces", &draft.replaces, |reader, kid| reader.kid("replaces", kid));
        let callers = self.list("callers", &draft.callers, |reader, name| {
            let caller = Caller::parse(name);
            caller.map_err(|error| reader.0.push(format!("callers: {error}"))).ok()
        });
        let instances =
            self.list("instances", &draft.instances, |_, instance| Some(instance.clone()));
        let outage_since = self.instant("outage_since", &draft.outage_since);
        let not_before = self.instant("not_before", &draft.not_before);
        let expires_at = self.instant("expires_at", &draft.expires_at);
        self.in_order("outage_since", outage_since, "not_before", not_before);
        self.in_order("not_before", not_before, "expires_at", expires_at);
        if !(1..=SIGNATURES_MAX).contains(&draft.max_signatures) {
            let number = draft.max_signatures.to_string();
            self.mistake("max_signatures", &number, &format!("expected 1 to {SIGNATURES_MAX}"));
        }
        let under_freeze = draft.under_freeze.as_ref().and_then(|id| {
            let read = FreezeId::parse(id);
            read.map_err(|error| self.mistake("under_freeze", id, &error.to_string())).ok()
        });
        let nonce = self.nonce(&draft.nonce);
        Some(Request {
            id: draft.id,
            audience: draft.audience,
            instances: instances?,
            incident: draft.incident,
            justification: draft.justification,
            emergency_kid: emergency_kid?,
            emergency_key_sha256: draft.emergency_key_sha256,
            replaces: replaces?,
            callers: callers?,
            outage_since: outage_since?,
            not_before: not_before?,
            expires_at: expires_at?,
            max_signatures: draft.max_signatures,
            under_freeze,
            nonce: nonce?,
            sha256: hex::encode(digest::digest(&digest::SHA256, bytes)),
        })
    }

    fn name(&mut self, key: &str, text: &str) {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !(1..=ID_MAX_BYTES).contains(&text.len()) || !text.bytes().all(fits) {
            let fix = format!("expected 1 to {ID_MAX_BYTES} characters out of A-Z a-z 0-9 . _ -");
            self.mistake(key, text, &fix);
        }
    }

    fn sha256(&mut self, key: &str, text: &str) {
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 64 || !text.bytes().all(is_hex) {
            self.mistake(key, text, "expected a SHA-256: 64 hex digits in lower case");
        }
    }

    fn kid(&mut self, key: &str, text: &str) -> Option<Kid> {
        Kid::parse(text).map_err(|error| self.mistake(key, text, &error.to_string())).ok()
    }

    fn nonce(&mut self, text: &str) -> Option<[u8; NONCE_BYTES]> {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        if bytes.is_none() {
            self.mistake("nonce", text, "expected the base64 of 16 random bytes");
        }
        bytes
    }
}

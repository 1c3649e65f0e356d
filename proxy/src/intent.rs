//! What an admitted order is about, noted before the upstream is asked.

use serde::Serialize;
use signing_core::ToBeSigned;
use signing_core::gate::Permit;

use crate::request_context::RequestContext;
use crate::time::{rfc3339, wall_now};

/// What an order is about, kept for its outcome line.
#[derive(Debug, Serialize)]
pub struct Intent {
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    caller: String,
    signer_kid: String,
    algorithm: &'static str,
    input_digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    justification: Option<String>,
}

/// A log line: an intent, and what became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'i> {
    timestamp: String,
    target: &'static str,
    outcome: &'i str,
    mode: &'static str,
    #[serde(flatten)]
    intent: &'i Intent,
    #[serde(flatten)]
    more: More<'i>,
}

/// What a line says beside its intent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum More<'i> {
    /// The signature was made.
    SignatureSha256(String),
    /// It was not, or does not leave: why.
    Detail(&'i str),
}

impl Intent {
    /// Notes what `permit` is about to be used for.
    #[must_use]
    pub fn note(
        permit: &Permit,
        input: &ToBeSigned,
        justification: Option<String>,
        context: &RequestContext,
    ) -> Self {
        let grant = permit.grant();
        Self {
            request_id: context.request_id.clone(),
            traceparent: context.traceparent.clone(),
            caller: grant.caller().to_string(),
            signer_kid: grant.signer().kid.to_string(),
            algorithm: grant.algorithm().name(),
            input_digest: input.fingerprint().to_string(),
            justification,
        }
    }

    /// Its log line, with what became of it.
    pub(crate) fn line<'i>(&'i self, outcome: &'i str, more: More<'i>) -> Line<'i> {
        let timestamp = rfc3339(wall_now());
        Line { timestamp, target: "outcome", outcome, mode: "normal", intent: self, more }
    }
}

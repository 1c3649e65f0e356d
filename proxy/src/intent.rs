//! What an admitted order is about, noted before the upstream is asked.

use serde_json::{Value, json};
use signing_core::ToBeSigned;
use signing_core::gate::Permit;

use crate::json::put;
use crate::request_context::RequestContext;
use crate::time::{rfc3339, wall_now};

/// What an order is about, kept for its outcome line.
#[derive(Debug)]
pub struct Intent {
    request_id: String,
    traceparent: Option<String>,
    caller: String,
    signer_kid: String,
    algorithm: &'static str,
    input_digest: String,
    justification: Option<String>,
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
    pub(crate) fn line(&self, outcome: &str, more: &[(&str, Value)]) -> Value {
        let mut line = json!({
            "timestamp": rfc3339(wall_now()),
            "target": "outcome",
            "outcome": outcome,
            "request_id": self.request_id,
            "caller": self.caller,
            "signer_kid": self.signer_kid,
            "algorithm": self.algorithm,
            "input_digest": self.input_digest,
            "mode": "normal",
        });
        let optional = [("traceparent", &self.traceparent), ("justification", &self.justification)];
        for (key, value) in optional {
            if let Some(value) = value {
                put(&mut line, key, value);
            }
        }
        for (key, value) in more {
            put(&mut line, key, value);
        }
        line
    }
}

//! The audit step of the pipeline as it stands: one structured log line per
//! outcome, written before the signature leaves. It is a log, not a journal:
//! nothing here is durable, and the types say so by their names.

use signing_core::gate::{Evidence, Permit, Snapshot};
use signing_core::{Moment, Refusal, ToBeSigned};

use crate::order::{Failed, Proven, Release};
use crate::request_context::RequestContext;

/// What an order is about, kept for its outcome line.
#[derive(Debug)]
pub struct Intent {
    request_id: String,
    traceparent: Option<String>,
    caller: String,
    signer_kid: String,
    algorithm: &'static str,
    input_sha256: String,
    justification: Option<String>,
}

/// Proof that the outcome line of a proven signature was written to the log.
#[derive(Debug)]
pub struct LoggedOutcome {
    proven: Proven,
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
            input_sha256: hex::encode(input.fingerprint()),
            justification,
        }
    }
}

/// Writes the outcome line of an order that was proven or failed.
///
/// # Errors
/// The refusal of a failed order, once its line is written.
pub fn log_outcome(verdict: Result<Proven, Failed>) -> Result<LoggedOutcome, Refusal> {
    match verdict {
        Ok(proven) => {
            line(proven.intent(), "signed", None, Some(proven.signature().bytes()));
            Ok(LoggedOutcome { proven })
        }
        Err(Failed { intent, evidence, refusal }) => {
            let detail = match evidence {
                Evidence::Signed => None,
                Evidence::Failed { detail, .. } | Evidence::Doubt { detail } => Some(detail),
            };
            line(&intent, refusal.reason.word(), detail.as_deref(), None);
            Err(refusal)
        }
    }
}

impl LoggedOutcome {
    /// Lets the signature go if the gate is still open; else writes that it
    /// was withheld.
    ///
    /// # Errors
    /// `gate_closed_in_flight`.
    pub fn release(self, gates: &Snapshot, now: Moment) -> Result<Release, Refusal> {
        self.proven.release(gates, now).map_err(|(intent, refusal)| {
            line(&intent, "withheld", Some(&refusal.detail), None);
            refusal
        })
    }
}

fn line(intent: &Intent, outcome: &str, detail: Option<&str>, signature: Option<&[u8]>) {
    tracing::info!(
        target: "outcome",
        outcome,
        request_id = intent.request_id,
        traceparent = intent.traceparent,
        caller = intent.caller,
        signer_kid = intent.signer_kid,
        algorithm = intent.algorithm,
        input_sha256 = intent.input_sha256,
        justification = intent.justification,
        detail,
        signature = signature.map(hex::encode),
    );
}

//! What an admitted order is about, recorded before the upstream is asked.

use std::sync::Arc;

use audit::{IntentSeq, Journal};
use signing_core::gate::Admitted;
use signing_core::journal::{self, Record};
use signing_core::{Algorithm, Caller, Kid, Refusal, ToBeSigned};

use crate::record::{BREAKGLASS, NORMAL, unavailable};
use crate::request_context::RequestContext;

/// An intent that is on its way to the disk: its outcome will be recorded, or the next
/// start concludes it.
#[derive(Debug)]
pub struct Intent {
    pub(crate) seq: IntentSeq,
    pub(crate) about: About,
}

/// What an order is about, for the record of its outcome.
#[derive(Debug)]
pub struct About {
    pub(crate) request_id: String,
    pub(crate) caller: Arc<Caller>,
    pub(crate) signer_kid: Kid,
    pub(crate) algorithm: Algorithm,
    pub(crate) input_digest: String,
    pub(crate) mode: &'static str,
}

impl Intent {
    /// Records what `permit` is about to be used for; waits for nothing.
    ///
    /// # Errors
    /// `audit_unavailable`, at once: the upstream must not be asked.
    pub fn record(
        journal: &Journal,
        permit: &impl Admitted,
        caller: &Arc<Caller>,
        input: &ToBeSigned,
        justification: Option<&str>,
        context: &RequestContext,
    ) -> Result<Self, Refusal> {
        let about = About {
            request_id: context.request_id.clone(),
            caller: Arc::clone(caller),
            signer_kid: permit.signer().kid.clone(),
            algorithm: permit.algorithm(),
            input_digest: input.fingerprint().to_string(),
            mode: if permit.session().is_some() { BREAKGLASS } else { NORMAL },
        };
        let record = Record::Intent(journal::Intent {
            algorithm: about.algorithm.name(),
            caller: about.caller.as_str(),
            input_digest: &about.input_digest,
            justification,
            mode: about.mode,
            request_id: &about.request_id,
            signer_kid: about.signer_kid.as_str(),
            traceparent: context.traceparent.as_deref(),
        });
        let seq = journal
            .intent(&record)
            .map_err(|trouble| unavailable(&trouble).about(&about.signer_kid))?;
        Ok(Self { seq, about })
    }
}

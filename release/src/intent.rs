//! What an admitted request is about, recorded before anybody is asked to sign it.

use std::sync::Arc;

use audit::{IntentSeq, Journal, JournalError};
use signing_core::gate::Admitted;
use signing_core::journal::{self, Record};
use signing_core::{Algorithm, AttemptsId, Caller, Door, Kid, Mode, Reason, Refusal, ToBeSigned};

use crate::attempts::Signs;

/// What a request carries beside its input, for its records.
#[derive(Clone, Copy, Debug)]
pub struct Context<'r> {
    /// Its id.
    pub request_id: &'r str,
    /// Through which door it came.
    pub door: Door,
    /// The caller's trace (W3C Trace Context), if it sent one.
    pub traceparent: Option<&'r str>,
    /// Why the caller wants the signature, if it said so.
    pub justification: Option<&'r str>,
    /// Whether the caller wants the proof that the signature's record is in the log.
    pub proves: bool,
}

/// An intent that is on its way to the disk: its outcome will be recorded, or the next
/// start concludes it.
#[derive(Debug)]
pub(crate) struct Intent {
    pub(crate) seq: IntentSeq,
    pub(crate) about: OrderContext,
}

/// What an order is about, for the records of what becomes of it.
#[derive(Debug)]
pub(crate) struct OrderContext {
    pub(crate) request_id: String,
    pub(crate) caller: Arc<Caller>,
    pub(crate) signer_kid: Kid,
    pub(crate) algorithm: Algorithm,
    pub(crate) input_digest: String,
    pub(crate) mode: Mode,
    pub(crate) door: Door,
    /// Who is asked first; none: a kept signature is given out again.
    pub(crate) signs: Option<Signs>,
    pub(crate) proves: bool,
}

impl Intent {
    /// Records what `permit` is about to be used for; waits for nothing. The caller is the one of
    /// its grant. Dying after this line leaves an intent that the next start concludes as
    /// indeterminate.
    ///
    /// # Errors
    /// `audit_unavailable`, at once: nobody may be asked to sign.
    pub(crate) fn record(
        journal: &Journal,
        permit: &impl Admitted,
        input: &ToBeSigned,
        context: Context<'_>,
        (attempts, signs): (AttemptsId, Option<Signs>),
    ) -> Result<Self, Refusal> {
        let about = OrderContext {
            request_id: context.request_id.to_owned(),
            caller: Arc::clone(permit.grant().shared_caller()),
            signer_kid: permit.signer().kid.clone(),
            algorithm: permit.algorithm(),
            input_digest: input.fingerprint().to_string(),
            mode: if permit.session().is_some() { Mode::Breakglass } else { Mode::Normal },
            door: context.door,
            signs,
            proves: context.proves,
        };
        let signs = about.signs.as_ref();
        let attempt = signs.map(|_| attempts.to_string());
        let record = Record::Intent(journal::Intent {
            algorithm: about.algorithm.name(),
            attempt: attempt.as_deref(),
            caller: about.caller.as_str(),
            door: about.door.word(),
            input_digest: &about.input_digest,
            justification: context.justification,
            mode: about.mode.word(),
            region: signs.and_then(Signs::region),
            request_id: &about.request_id,
            signer_kid: about.signer_kid.as_str(),
            traceparent: context.traceparent,
            upstream: signs.map(Signs::upstream),
        });
        let seq = journal
            .intent(&record)
            .map_err(|error| unavailable(&error).about(&about.signer_kid))?;
        Ok(Self { seq, about })
    }
}

/// What a caller is told when nothing can be recorded: not where the journal lies.
pub(crate) fn unavailable(error: &JournalError) -> Refusal {
    let detail = match error {
        JournalError::Sealed(_) => "the journal is sealed: an operator has to look into it",
        JournalError::Full(_) => "the journal is full, and nothing is signed without a record",
        JournalError::NoSegment(_) => {
            "the journal cannot make its next segment, and nothing is signed without a record"
        }
        JournalError::Stopping => "the process is stopping, and nothing is signed without a record",
        JournalError::Stalled(_) => {
            "the journal does not keep up, and nothing is signed without a record"
        }
    };
    Refusal::new(Reason::AuditUnavailable, detail)
}

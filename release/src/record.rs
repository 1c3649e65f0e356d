//! What became of an order is on disk before anything of it leaves (I6).

use audit::{Durable, Journal};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signing_core::breakglass::wire::JournalRecord;
use signing_core::evidence::Evidence;
use signing_core::gate::{Admitted, Permit};
use signing_core::journal::{self, BatchLeaf, Record, TimingUs, clip};
use signing_core::tree::LogId;
use signing_core::{Refusal, VerifiedSignature};

use crate::attempts::Signs;
use crate::intent::{Intent, OrderContext, unavailable};
use crate::order::{Failed, Proven};

/// How a signature came about, for its record.
#[derive(Clone, Copy, Debug)]
pub struct Provenance<'r> {
    /// The emergency signer's own record of it, in a session.
    pub witnessed: Option<&'r JournalRecord>,
    /// Whether it was given out before, under the same idempotency key.
    pub replayed: bool,
    /// Where the time went.
    pub timing_us: TimingUs,
}

/// A proven order whose record is on disk, with its intent before it (I1, I6): it may be
/// released once a required sink of the trail holds that record too. Made by [`Proven::record`] only, out of the journal's answer to this very outcome.
#[derive(Debug)]
pub struct Recorded<P: Admitted = Permit> {
    pub(crate) permit: P,
    pub(crate) about: OrderContext,
    pub(crate) signature: VerifiedSignature,
    pub(crate) durable: Durable,
    /// The emergency signer's own record of it, if it made it.
    pub(crate) witnessed: Option<(LogId, u64)>,
}

impl<P: Admitted> Proven<P> {
    /// Records the signature; returns once that is on disk. Dying before that leaves an intent
    /// without an outcome, and no signature that anybody has.
    ///
    /// # Errors
    /// `audit_unavailable` if the record is not on disk; the signature must not leave.
    pub async fn record(
        self,
        journal: &Journal,
        provenance: Provenance<'_>,
    ) -> Result<Recorded<P>, Refusal> {
        let Self { permit, intent: Intent { seq, about }, made, signature } = self;
        // Of a leaf the signature over its batch's note: proofs are not kept.
        let proved = signature.proved();
        let bytes = proved.map_or(signature.bytes(), |proved| &proved.note_signature);
        let text = STANDARD.encode(bytes);
        let signer_record = provenance.witnessed.map(JournalRecord::to_text);
        let witnessed = provenance.witnessed;
        let witnessed = witnessed.and_then(|one| Some((LogId::parse(&one.log)?, one.seq)));
        let session = permit.session();
        let signs = made.signs(about.signs.as_ref());
        let record = Record::Signed(journal::Signed {
            algorithm: about.algorithm.name(),
            attempt: made.attempt(),
            batch: proved.map(BatchLeaf::of),
            caller: about.caller.as_str(),
            door: about.door.word(),
            earlier_attempts: made.earlier(),
            input_digest: &about.input_digest,
            intent: seq.seq(),
            incident: session.map(|armed| armed.incident.as_str()),
            session: session.map(|armed| armed.session.as_str()),
            signer_record: signer_record.as_deref(),
            mode: about.mode.word(),
            region: signs.and_then(Signs::region),
            replayed: provenance.replayed,
            request_id: &about.request_id,
            signature: &text,
            signer_kid: about.signer_kid.as_str(),
            timing_us: provenance.timing_us,
            upstream: signs.map(Signs::upstream),
            upstream_request_id: made.request_id(),
        });
        match journal.outcome(seq, &record, about.proves).await {
            Ok(durable) => Ok(Recorded { permit, about, signature, durable, witnessed }),
            Err(error) => Err(unavailable(&error).about(&about.signer_kid)),
        }
    }
}

impl Failed {
    /// Records what it came to, and returns what the caller is told. Nothing leaves, so nothing
    /// waits: if this record is lost, the next start concludes the intent as indeterminate.
    #[must_use]
    pub fn record(self, journal: &Journal) -> Refusal {
        let Self { intent: Intent { seq, about }, made, evidence, refusal } = self;
        let detail = match &evidence {
            Evidence::Signed => "",
            Evidence::Failed { detail, .. } | Evidence::Doubt { detail } => detail,
        };
        let signs = made.signs(about.signs.as_ref());
        let record = Record::Failed(journal::Failed {
            algorithm: about.algorithm.name(),
            attempt: made.attempt(),
            caller: about.caller.as_str(),
            door: about.door.word(),
            earlier_attempts: made.earlier(),
            detail: clip(detail),
            input_digest: &about.input_digest,
            intent: seq.seq(),
            mode: about.mode.word(),
            reason: refusal.reason.word(),
            region: signs.and_then(Signs::region),
            request_id: &about.request_id,
            signer_kid: about.signer_kid.as_str(),
            upstream: signs.map(Signs::upstream),
            upstream_request_id: made.request_id(),
        });
        // The caller is refused either way; its reason says more than the journal's.
        let _ = journal.conclude(seq, &record);
        refusal
    }
}

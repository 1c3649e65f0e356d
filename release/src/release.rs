//! The last step: a signature leaves only if the gate is still open in the same epoch.

use std::sync::Arc;

use audit::{Durable, Journal};
use signing_core::gate::{Admitted, Armed, Permit, Slot, Snapshot, StillOpen};
use signing_core::journal::{self, Record, clip};
use signing_core::{Moment, Refusal, VerifiedSignature};
use time::OffsetDateTime;

use crate::intent::OrderContext;
use crate::record::Recorded;
use crate::required::{RequiredSink, refusal};

/// A signature that may leave: it holds every proof of I1. Made by [`Committed::release`] only.
#[derive(Debug)]
pub struct Release {
    still_open: StillOpen,
    signature: VerifiedSignature,
    durable: Durable,
}

/// A recorded order whose record the required sink of the trail holds, if one is required. Made by
/// [`Recorded::committed`] only.
#[derive(Debug)]
pub struct Committed<P: Admitted = Permit>(Recorded<P>);

/// A signature that was made and recorded, and does not leave.
#[derive(Debug)]
pub struct Withheld {
    about: OrderContext,
    durable: Durable,
    refusal: Refusal,
}

impl<P: Admitted> Recorded<P> {
    /// Looks whether the required sink has committed the record, and of a session also the emergency
    /// signer's own record. Without a required sink it has.
    ///
    /// # Errors
    /// The same, not committed yet: wait for the trail's next word, but not for ever.
    #[expect(clippy::result_large_err, reason = "moved until the sink holds it")]
    pub fn committed(self, sink: &RequiredSink) -> Result<Committed<P>, Self> {
        let log = self.durable.log();
        let is_held = sink.is_of(log) && sink.holds(log, self.durable.seq());
        let is_witness_held = match (self.permit.session(), self.witnessed) {
            (None, _) => true,
            (Some(_), Some((log, seq))) => sink.holds(log, seq),
            (Some(_), None) => !sink.is_required(),
        };
        if is_held && is_witness_held { Ok(Committed(self)) } else { Err(self) }
    }

    /// Nobody waits for the sink any longer.
    #[must_use]
    pub fn not_committed(self) -> Withheld {
        let Self { about, durable, .. } = self;
        let detail = "a signature was made and is withheld: the required sink of the trail did not say in time \
                      that its record is committed";
        let refusal = refusal(detail).about(&about.signer_kid);
        Withheld { about, durable, refusal }
    }
}

impl<P: Admitted> Committed<P> {
    /// Releases the signature, if the gate that admitted it is still open in the same epoch.
    ///
    /// # Errors
    /// [`Withheld`], with `gate_closed_in_flight` or `indeterminate`.
    #[expect(clippy::result_large_err, reason = "moved once, out of the one place that makes it")]
    pub fn release(
        self,
        gates: &Snapshot,
        now: Moment,
        wall: OffsetDateTime,
    ) -> Result<Release, Withheld> {
        let Recorded { permit, about, signature, durable, .. } = self.0;
        match permit.release(gates, now, wall) {
            Ok(still_open) => Ok(Release { still_open, signature, durable }),
            Err(refusal) => Err(Withheld { about, durable, refusal }),
        }
    }
}

impl Withheld {
    /// Records that it does not leave, and returns what the caller is told. The signature's own
    /// record is on disk, so nothing waits.
    #[must_use]
    pub fn record(self, journal: &Journal) -> Refusal {
        let Self { about, durable, refusal } = self;
        let record = Record::Withheld(journal::Withheld {
            detail: clip(&refusal.detail),
            reason: refusal.reason.word(),
            request_id: &about.request_id,
            signed: durable.seq(),
            signer_kid: about.signer_kid.as_str(),
        });
        // It does not leave either way.
        let _ = journal.note(&record);
        refusal
    }
}

impl Release {
    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &VerifiedSignature {
        &self.signature
    }

    /// The record, for the receipt.
    #[must_use]
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// The break-glass session whose key signed.
    #[must_use]
    pub fn session(&self) -> Option<&Arc<Armed>> {
        self.still_open.session()
    }

    /// The slot, to be held until the answer is written.
    #[must_use]
    pub fn into_slot(self) -> Slot {
        self.still_open.into_slot()
    }
}

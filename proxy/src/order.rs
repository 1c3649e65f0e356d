//! All proofs in one hand: from the permit to the release, each step consumes
//! the one before, so that skipping one does not compile (I1).
//!
//! ```text
//! Permit + Intent --new--> SigningOrder --prove--> Proven --record--> DurableOutcome --release--> Release
//! ```
//!
//! An upstream sees an [`Order`] and nothing else: the bytes, and under which
//! algorithm.

use std::sync::Arc;

use audit::{Durable, IntentSeq};
use signing_core::gate::{Admitted, Armed, Evidence, Permit, Slot, Snapshot, StillOpen};
use signing_core::{
    Algorithm, Canary, Grant, Moment, Reason, Refusal, Signer, ToBeSigned, VerifiedSignature,
};

use time::OffsetDateTime;

use crate::intent::{About, Intent};

/// What an upstream may be asked to sign. Sealed: only a [`SigningOrder`] and a
/// [`CanaryOrder`] are orders.
pub trait Order: sealed::Sealed + Send + Sync {
    /// The bytes, in the form of their algorithm.
    fn input(&self) -> &ToBeSigned;

    /// The algorithm.
    fn algorithm(&self) -> Algorithm {
        self.input().algorithm()
    }
}

mod sealed {
    pub trait Sealed {}
    impl<P: signing_core::gate::Admitted> Sealed for super::SigningOrder<P> {}
    impl Sealed for super::CanaryOrder {}
}

/// A caller's request, granted, admitted and announced: ready for the upstream, or, with
/// an emergency permit, for the emergency signer. What follows is the same for both.
#[derive(Debug)]
pub struct SigningOrder<P: Admitted = Permit> {
    permit: P,
    intent: Intent,
    input: ToBeSigned,
}

/// A canary of the monitor. It can hold no caller's bytes, and its signature
/// can not be released: it has no permit.
#[derive(Debug)]
pub struct CanaryOrder {
    signer: Arc<Signer>,
    input: ToBeSigned,
}

/// An order whose signature verified under the registered public key.
#[derive(Debug)]
pub struct Proven<P: Admitted = Permit> {
    permit: P,
    intent: Intent,
    signature: VerifiedSignature,
}

/// An order that came to nothing: what to observe, and what to answer.
#[derive(Debug)]
pub struct Failed {
    /// The order's intent, for its record.
    pub intent: Intent,
    /// What it says about the signer.
    pub evidence: Evidence,
    /// What the caller is told.
    pub refusal: Refusal,
}

/// A proven order whose signature is on disk (I1, I6): it may be released.
#[derive(Debug)]
pub struct DurableOutcome<P: Admitted = Permit> {
    proven: Unrecorded<P>,
    durable: Durable,
}

/// What a proven order holds beside its intent's number, which its record consumes.
#[derive(Debug)]
pub(crate) struct Unrecorded<P: Admitted> {
    permit: P,
    about: About,
    signature: VerifiedSignature,
}

/// A signature that was made and recorded, and does not leave.
#[derive(Debug)]
pub struct Withheld {
    /// What it was about.
    pub about: About,
    /// Its record.
    pub durable: Durable,
    /// Why.
    pub refusal: Refusal,
}

/// A signature that may leave: it holds every proof of I1.
#[derive(Debug)]
pub struct Release {
    still_open: StillOpen,
    signature: VerifiedSignature,
    durable: Durable,
}

impl SigningOrder {
    /// The grant behind it.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        self.permit.grant()
    }
}

impl<P: Admitted> SigningOrder<P> {
    /// Orders what `permit` admitted and `intent` announced.
    #[must_use]
    pub fn new(permit: P, intent: Intent, input: ToBeSigned) -> Self {
        Self { permit, intent, input }
    }

    /// What admitted it.
    #[must_use]
    pub fn permit(&self) -> &P {
        &self.permit
    }

    /// What it is about.
    pub(crate) fn about(&self) -> &About {
        &self.intent.about
    }

    /// Verifies the upstream's answer under the registered public key.
    ///
    /// # Errors
    /// [`Failed`] if the upstream failed, or if its signature does not verify.
    #[expect(clippy::result_large_err, reason = "moved once, out of the one place that makes it")]
    pub fn prove(self, answer: Result<Vec<u8>, Evidence>) -> Result<Proven<P>, Failed> {
        let Self { permit, intent, input } = self;
        let signer = permit.signer();
        let verified = answer.and_then(|signature| {
            signer
                .verify(&input, signature)
                .map_err(|bad| Evidence::Doubt { detail: bad.to_string() })
        });
        match verified {
            Ok(signature) => Ok(Proven { permit, intent, signature }),
            Err(evidence) => {
                let refusal = refusal(&evidence).about(&signer.kid);
                Err(Failed { intent, evidence, refusal })
            }
        }
    }
}

impl<P: Admitted + Sync> Order for SigningOrder<P> {
    fn input(&self) -> &ToBeSigned {
        &self.input
    }
}

impl CanaryOrder {
    /// Orders a canary of `signer`.
    #[must_use]
    pub fn new(signer: Arc<Signer>, canary: &Canary) -> Self {
        let input = canary.to_be_signed(&signer);
        Self { signer, input }
    }

    /// What the upstream's answer says about the signer.
    #[must_use]
    pub fn evidence(self, answer: Result<Vec<u8>, Evidence>) -> Evidence {
        match answer.map(|signature| self.signer.verify(&self.input, signature)) {
            Ok(Ok(_)) => Evidence::Signed,
            Ok(Err(bad)) => Evidence::Doubt { detail: format!("canary: {bad}") },
            Err(evidence) => evidence,
        }
    }
}

impl Order for CanaryOrder {
    fn input(&self) -> &ToBeSigned {
        &self.input
    }
}

impl<P: Admitted> Proven<P> {
    /// Takes the intent's number out, for the record of the outcome.
    pub(crate) fn split(self) -> (IntentSeq, Unrecorded<P>) {
        let Self { permit, intent: Intent { seq, about }, signature } = self;
        (seq, Unrecorded { permit, about, signature })
    }
}

impl<P: Admitted> Unrecorded<P> {
    /// What it is about.
    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    /// The session that admitted it.
    pub(crate) fn session(&self) -> Option<&Arc<Armed>> {
        self.permit.session()
    }

    /// The signature, verified, and neither recorded nor released.
    pub(crate) fn signature(&self) -> &VerifiedSignature {
        &self.signature
    }

    /// Joins it with the proof that its record is on disk.
    pub(crate) fn recorded(self, durable: Durable) -> DurableOutcome<P> {
        DurableOutcome { proven: self, durable }
    }
}

impl<P: Admitted> DurableOutcome<P> {
    /// The last step: only if the gate is still open in the same epoch.
    ///
    /// # Errors
    /// [`Withheld`], with `gate_closed_in_flight`.
    #[expect(clippy::result_large_err, reason = "moved once, out of the one place that makes it")]
    pub fn release(
        self,
        gates: &Snapshot,
        now: Moment,
        wall: OffsetDateTime,
    ) -> Result<Release, Withheld> {
        let Self { proven: Unrecorded { permit, about, signature }, durable } = self;
        match permit.release(gates, now, wall) {
            Ok(still_open) => Ok(Release { still_open, signature, durable }),
            Err(refusal) => Err(Withheld { about, durable, refusal }),
        }
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

/// What a caller is told about a failed call: its class, not the upstream's words.
fn refusal(evidence: &Evidence) -> Refusal {
    use signing_core::gate::Fault;
    match evidence {
        Evidence::Doubt { .. } => Refusal::new(
            Reason::SignatureRejected,
            "the upstream's answer did not verify under the registered key; the signer is sealed",
        ),
        Evidence::Failed { fault: Fault::Indeterminate, .. } => Refusal::new(
            Reason::Indeterminate,
            "the upstream did not answer in full; it may have signed, but nothing was released",
        ),
        Evidence::Failed { fault: Fault::Overloaded, .. } => Refusal::new(
            Reason::Overloaded,
            "more requests wait for the upstream than it signs in time; this one was not sent",
        ),
        Evidence::Failed { fault, .. } => {
            Refusal::new(fault.gate_reason(), format!("the upstream failed: {}", fault.word()))
        }
        Evidence::Signed => Refusal::new(Reason::Internal, "a success was taken for a failure"),
    }
}

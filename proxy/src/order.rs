//! All proofs in one hand: from the permit to the release, each step consumes
//! the one before, so that skipping one does not compile (I1).
//!
//! ```text
//! Permit + Intent --new--> SigningOrder --prove--> Proven --outcome--> LoggedOutcome --release--> Release
//! ```
//!
//! An upstream sees an [`Order`] and nothing else: the bytes, and under which
//! algorithm.

use std::sync::Arc;

use signing_core::gate::{Evidence, Permit, Slot, Snapshot, StillOpen};
use signing_core::{
    Algorithm, Canary, Grant, Moment, Reason, Refusal, Signer, ToBeSigned, VerifiedSignature,
};

use crate::intent::Intent;

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
    impl Sealed for super::SigningOrder {}
    impl Sealed for super::CanaryOrder {}
}

/// A caller's request, granted, admitted and announced: ready for the upstream.
#[derive(Debug)]
pub struct SigningOrder {
    permit: Permit,
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
pub struct Proven {
    permit: Permit,
    intent: Intent,
    signature: VerifiedSignature,
}

/// An order that came to nothing: what to observe, and what to answer.
#[derive(Debug)]
pub struct Failed {
    /// The order's intent, for its outcome line.
    pub intent: Intent,
    /// What it says about the signer.
    pub evidence: Evidence,
    /// What the caller is told.
    pub refusal: Refusal,
}

/// A signature that may leave: it holds every proof of I1.
#[derive(Debug)]
pub struct Release {
    still_open: StillOpen,
    signature: VerifiedSignature,
}

impl SigningOrder {
    /// Orders what `permit` admitted and `intent` announced.
    #[must_use]
    pub fn new(permit: Permit, intent: Intent, input: ToBeSigned) -> Self {
        Self { permit, intent, input }
    }

    /// The grant behind it.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        self.permit.grant()
    }

    /// Verifies the upstream's answer under the registered public key.
    ///
    /// # Errors
    /// [`Failed`] if the upstream failed, or if its signature does not verify.
    #[expect(clippy::result_large_err, reason = "moved once, out of the one place that makes it")]
    pub fn prove(self, answer: Result<Vec<u8>, Evidence>) -> Result<Proven, Failed> {
        let Self { permit, intent, input } = self;
        let signer = permit.grant().signer();
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

impl Order for SigningOrder {
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

impl Proven {
    /// Its intent, for the outcome line.
    #[must_use]
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// The signature, verified but not released.
    #[must_use]
    pub fn signature(&self) -> &VerifiedSignature {
        &self.signature
    }

    /// The last step: only if the gate is still open in the same epoch. To be
    /// called by the outcome log, once the outcome is written.
    ///
    /// # Errors
    /// `gate_closed_in_flight`: the signature is withheld, with its intent.
    #[expect(clippy::result_large_err, reason = "moved once, out of the one place that makes it")]
    pub(crate) fn release(
        self,
        gates: &Snapshot,
        now: Moment,
    ) -> Result<Release, (Intent, Refusal)> {
        match gates.release(self.permit, now) {
            Ok(still_open) => Ok(Release { still_open, signature: self.signature }),
            Err(refusal) => Err((self.intent, refusal)),
        }
    }
}

impl Release {
    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &VerifiedSignature {
        &self.signature
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
        Evidence::Failed { fault, .. } => {
            Refusal::new(fault.gate_reason(), format!("the upstream failed: {}", fault.word()))
        }
        Evidence::Signed => Refusal::new(Reason::Internal, "a success was taken for a failure"),
    }
}

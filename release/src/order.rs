//! What may be asked to be signed, and the proof that the answer is the registered key's.

use std::sync::Arc;

use audit::Journal;
use signing_core::batch::{Batch, BatchId, SALT_BYTES, Salt};
use signing_core::evidence::{Evidence, Fault};
use signing_core::gate::{Admitted, Permit};
use signing_core::key::BadSignature;
use signing_core::{
    Algorithm, AttemptsId, Canary, Reason, Refusal, Signer, ToBeSigned, VerifiedSignature,
};

use crate::attempts::{Attempts, Made, Signs};
use crate::intent::{Context, Intent};
use crate::probes::{Operation, ProbeCalls, Probes, Purpose};

/// What an upstream may be asked to sign: the bytes, and under which algorithm. Sealed: only a
/// [`SigningOrder`] and a [`CanaryOrder`] are orders.
pub trait Order: sealed::Sealed + Send + Sync {
    /// The bytes, in the form of their algorithm.
    fn input(&self) -> &ToBeSigned;

    /// The calls that are made for it: whoever makes one says so here first.
    fn attempts(&self) -> &Attempts;

    /// The algorithm.
    fn algorithm(&self) -> Algorithm {
        self.input().algorithm()
    }
}

pub(crate) mod sealed {
    pub trait Sealed {}
    impl<P: signing_core::gate::Admitted> Sealed for super::SigningOrder<P> {}
    impl Sealed for super::CanaryOrder {}
}

/// A caller's request, granted, admitted and announced: ready for an upstream, or, in a session,
/// for the emergency signer. What follows is the same for both. Made by [`announce`] only.
#[derive(Debug)]
pub struct SigningOrder<P: Admitted = Permit> {
    permit: P,
    pub(crate) intent: Intent,
    input: ToBeSigned,
    pub(crate) attempts: Attempts,
}

/// A canary of the monitor. It can hold no caller's bytes, and its signature
/// cannot be released: it has no permit.
#[derive(Debug)]
pub struct CanaryOrder {
    signer: Arc<Signer>,
    input: ToBeSigned,
    /// Of a batch signer, whose canary is a batch of one leaf.
    batch: Option<Batch>,
    calls: ProbeCalls,
}

/// An order whose signature verified under the registered public key. Made by
/// [`SigningOrder::prove`] only, and consumed by its record.
#[derive(Debug)]
pub struct Proven<P: Admitted = Permit> {
    pub(crate) permit: P,
    pub(crate) intent: Intent,
    pub(crate) made: Arc<Made>,
    pub(crate) signature: VerifiedSignature,
}

/// An order that came to nothing: what to observe, and what to answer.
#[derive(Debug)]
pub struct Failed {
    pub(crate) intent: Intent,
    pub(crate) made: Arc<Made>,
    /// What it says about the signer.
    pub evidence: Evidence,
    /// What the caller is told.
    pub refusal: Refusal,
}

/// Announces in the journal what `permit` is about to be used for, and orders it. From here on
/// an outcome has to follow, even if the process dies. Nobody waits for the disk: the outcome's
/// record waits for both. `attempts` names the calls that will be made, the first to `signs`; none:
/// a kept signature takes the place of an answer.
///
/// # Errors
/// `audit_unavailable`, at once: nobody may be asked to sign.
pub fn announce<P: Admitted>(
    journal: &Journal,
    permit: P,
    input: ToBeSigned,
    context: Context<'_>,
    (attempts, signs): (AttemptsId, Option<Signs>),
) -> Result<SigningOrder<P>, Refusal> {
    let intent = Intent::record(journal, &permit, &input, context, (attempts, signs))?;
    Ok(SigningOrder { permit, intent, input, attempts: Attempts::new(attempts) })
}

impl<P: Admitted> SigningOrder<P> {
    /// What admitted it.
    #[must_use]
    pub fn permit(&self) -> &P {
        &self.permit
    }

    /// What the caller wants signed.
    pub(crate) fn caller_input(&self) -> &ToBeSigned {
        &self.input
    }

    /// The request's id.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.intent.about.request_id
    }

    /// Verifies the answer of whoever was asked under the registered public key.
    ///
    /// # Errors
    /// [`Failed`] if the upstream failed, or if its signature does not verify.
    #[expect(clippy::result_large_err, reason = "moved once, out of the one place that makes it")]
    pub fn prove(self, answer: Result<Vec<u8>, Evidence>) -> Result<Proven<P>, Failed> {
        let made = Arc::new(self.attempts.take());
        self.prove_with(made, |signer, input| {
            let doubt = |bad: BadSignature| Evidence::Doubt { detail: bad.to_string() };
            answer.and_then(|signature| signer.verify(input, signature).map_err(doubt))
        })
    }

    #[expect(clippy::result_large_err, reason = "moved once, out of the one place that makes it")]
    pub(crate) fn prove_with(
        self,
        made: Arc<Made>,
        verify: impl FnOnce(&Signer, &ToBeSigned) -> Result<VerifiedSignature, Evidence>,
    ) -> Result<Proven<P>, Failed> {
        match verify(self.permit.signer(), &self.input) {
            Ok(signature) => {
                let Self { permit, intent, .. } = self;
                Ok(Proven { permit, intent, made, signature })
            }
            Err(evidence) => Err(self.fail(made, evidence)),
        }
    }

    pub(crate) fn fail(self, made: Arc<Made>, evidence: Evidence) -> Failed {
        let refusal = refusal(&evidence).about(&self.permit.signer().kid);
        Failed { intent: self.intent, made, evidence, refusal }
    }
}

impl<P: Admitted + Sync> Order for SigningOrder<P> {
    fn input(&self) -> &ToBeSigned {
        &self.input
    }

    fn attempts(&self) -> &Attempts {
        &self.attempts
    }
}

impl CanaryOrder {
    /// Orders a canary of `signer`; `attempts` names its calls, which `probes` takes. Of a batch
    /// signer it is a batch of one leaf, named by `attempts` too; its leaf needs no random bytes, since
    /// the canary has its own and has no neighbours.
    #[must_use]
    pub fn new(
        signer: Arc<Signer>,
        canary: &Canary,
        attempts: AttemptsId,
        (purpose, probes): (Purpose, &Probes),
    ) -> Self {
        let leaf = canary.to_be_signed(&signer);
        let calls = probes.calls(&signer.kid, (purpose, Operation::Sign), attempts);
        let (id, salt) = (BatchId::new(attempts.bytes()), Salt::new([0; SALT_BYTES]));
        let batch = Batch::of_one(&signer, id, &salt, &leaf);
        let input = batch.as_ref().map_or(leaf, |batch| batch.to_be_signed().clone());
        Self { signer, input, batch, calls }
    }

    /// What the upstream's answer says about the signer.
    #[must_use]
    pub fn evidence(mut self, answer: Result<Vec<u8>, Evidence>) -> Evidence {
        let (signer, input, batch) = (&self.signer, &self.input, self.batch.take());
        let verify = |signature| match batch {
            Some(batch) => batch.signed(signer, signature).map(drop),
            None => signer.verify(input, signature).map(drop),
        };
        let evidence = match answer.map(verify) {
            Ok(Ok(())) => Evidence::Signed,
            Ok(Err(bad)) => Evidence::Doubt { detail: format!("canary: {bad}") },
            Err(evidence) => evidence,
        };
        self.calls.outcome = Some(match &evidence {
            Evidence::Signed => "signed",
            Evidence::Doubt { .. } => "doubt",
            Evidence::Failed { fault, .. } => fault.word(),
        });
        evidence
    }
}

impl Order for CanaryOrder {
    fn input(&self) -> &ToBeSigned {
        &self.input
    }

    fn attempts(&self) -> &Attempts {
        self.calls.attempts()
    }
}

/// What a caller is told about a failed call: its class, not the upstream's words.
fn refusal(evidence: &Evidence) -> Refusal {
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

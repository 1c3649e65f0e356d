//! One call for many orders: each has announced its own intent before, and is proved, recorded and
//! released by itself after.

use std::sync::Arc;

use signing_core::batch::{Batch, BatchId, Salt, SignedBatch};
use signing_core::evidence::{Evidence, Fault};
use signing_core::gate::Admitted;
use signing_core::tree::TreeHash;
use signing_core::{AttemptsId, Signer, ToBeSigned};

use crate::attempts::{Attempts, Made};
use crate::order::sealed::Sealed;
use crate::order::{Failed, Order, Proven, SigningOrder};

/// The leaf of an order whose intent is announced. Made by [`crate::SigningOrder::leaf`] only, and
/// consumed by the batch: nothing is signed that nobody announced.
///
/// ```compile_fail
/// fn forge(hash: signing_core::tree::TreeHash) -> release::AnnouncedLeaf {
///     release::AnnouncedLeaf(hash)
/// }
/// ```
#[derive(Debug)]
pub struct AnnouncedLeaf(TreeHash);

/// A batch of announced leaves: what an upstream is asked to sign is their note.
#[derive(Debug)]
pub struct BatchOrder {
    batch: Batch,
    signer: Arc<Signer>,
    attempts: Attempts,
}

/// What came of a batch's call, for each of its leaves.
#[derive(Debug)]
pub struct BatchOutcome {
    pub(crate) made: Arc<Made>,
    pub(crate) signed: Result<SignedBatch, Evidence>,
}

impl<P: Admitted> SigningOrder<P> {
    /// The leaf of this order in a batch. None: its signer is no batch signer.
    #[must_use]
    pub fn leaf(&self, salt: &Salt) -> Option<AnnouncedLeaf> {
        self.permit().signer().leaf(self.caller_input(), salt).map(AnnouncedLeaf)
    }

    /// Proves the leaf of this order, which is the one with that index in a batch that was signed.
    ///
    /// # Errors
    /// [`Failed`] if the batch's call failed, or if the leaf is not this order's.
    #[expect(clippy::result_large_err, reason = "moved once, out of the one place that makes it")]
    pub fn prove_in(
        self,
        batch: &BatchOutcome,
        salt: Salt,
        index: u64,
    ) -> Result<Proven<P>, Failed> {
        self.prove_with(Arc::clone(&batch.made), |_, input| {
            let signed = batch.signed.as_ref().map_err(Clone::clone)?;
            let other =
                |_| Evidence::Doubt { detail: "a leaf of a batch is another input's".into() };
            signed.prove((input, salt), index).map_err(other)
        })
    }

    /// Gives this order up, of whose batch nothing is known any more. A call may have been made: the record
    /// names it by what the ids of all calls of the batch begin with, as that of an intent which a start
    /// concludes.
    #[must_use]
    pub fn lost(self, detail: &str) -> Failed {
        let made = Arc::new(self.attempts.unknown(self.intent.about.signs.as_ref()));
        let evidence = Evidence::Failed { fault: Fault::Indeterminate, detail: detail.to_owned() };
        self.fail(made, evidence)
    }
}

impl Sealed for BatchOrder {}

impl BatchOrder {
    /// Orders the batch of these leaves, in this order. The calls that are made for it are named by
    /// `attempts`, as each leaf's intent has it, and so is the batch. None: `signer` is no batch signer,
    /// or there is no leaf.
    #[must_use]
    pub fn new(
        signer: Arc<Signer>,
        attempts: AttemptsId,
        leaves: impl IntoIterator<Item = AnnouncedLeaf>,
    ) -> Option<Self> {
        let hashes = leaves.into_iter().map(|AnnouncedLeaf(hash)| hash);
        let batch = Batch::new(&signer, BatchId::new(attempts.bytes()), hashes)?;
        Some(Self { batch, signer, attempts: Attempts::new(attempts) })
    }

    /// Verifies the answer once, under the registered public key: what is signed is the note that each
    /// leaf's path leads to.
    #[must_use]
    pub fn prove(self, answer: Result<Vec<u8>, Evidence>) -> BatchOutcome {
        let Self { batch, signer, attempts } = self;
        let signed = answer.and_then(|signature| {
            let doubt =
                |bad: signing_core::key::BadSignature| Evidence::Doubt { detail: bad.to_string() };
            batch.signed(&signer, signature).map_err(doubt)
        });
        BatchOutcome { made: Arc::new(attempts.take()), signed }
    }
}

impl BatchOutcome {
    /// What the call showed of the upstream.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        self.signed.as_ref().map_or_else(Clone::clone, |_| Evidence::Signed)
    }
}

impl Order for BatchOrder {
    fn input(&self) -> &ToBeSigned {
        self.batch.to_be_signed()
    }

    fn attempts(&self) -> &Attempts {
        &self.attempts
    }
}

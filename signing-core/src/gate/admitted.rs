//! What both kinds of permit have in common, so that the pipeline behind them is one.

use std::fmt::Debug;
use std::sync::Arc;

use time::OffsetDateTime;

use super::armed::Armed;
use super::emergency::EmergencyPermit;
use super::snapshot::{Permit, Snapshot, StillOpen};
use crate::key::{Algorithm, Kid, Signer};
use crate::moment::Moment;
use crate::policy::Grant;
use crate::refusal::{Reason, Refusal};

/// A permit: of a gate, or of a break-glass session. Sealed: there are no others.
pub trait Admitted: sealed::Sealed + Debug + Send + 'static {
    /// The signer whose key signs, and under which the signature has to verify.
    fn signer(&self) -> &Arc<Signer>;

    /// With which algorithm it signs.
    fn algorithm(&self) -> Algorithm;

    /// The grant of the signer that the caller asked for.
    fn grant(&self) -> &Grant;

    /// When the request has to be answered.
    fn deadline(&self) -> Moment;

    /// Nothing signed before may be given out again.
    fn trusted_from(&self) -> Moment;

    /// The session, if it is one that admitted.
    fn session(&self) -> Option<&Arc<Armed>>;

    /// Whether what was admitted may still leave at `now`.
    ///
    /// # Errors
    /// `gate_closed_in_flight`, or `indeterminate` once the deadline has passed: whoever asked
    /// is told that nothing was released, and that stays true. The signature must not leave.
    fn release(
        self,
        gates: &Snapshot,
        now: Moment,
        wall: OffsetDateTime,
    ) -> Result<StillOpen, Refusal>;
}

/// # Errors
/// `indeterminate`, as whoever asked is told, if it is too late for an answer.
pub(super) fn in_time(kid: &Kid, deadline: Moment, now: Moment) -> Result<(), Refusal> {
    if now < deadline {
        return Ok(());
    }
    let detail = "a signature was made and is withheld: the deadline has passed";
    Err(Refusal::new(Reason::Indeterminate, detail).about(kid))
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Permit {}
    impl Sealed for super::EmergencyPermit {}
}

impl Admitted for Permit {
    fn signer(&self) -> &Arc<Signer> {
        self.grant().signer()
    }

    fn algorithm(&self) -> Algorithm {
        self.grant().algorithm()
    }

    fn grant(&self) -> &Grant {
        Self::grant(self)
    }

    fn deadline(&self) -> Moment {
        self.due()
    }

    fn trusted_from(&self) -> Moment {
        self.trusted()
    }

    fn session(&self) -> Option<&Arc<Armed>> {
        None
    }

    fn release(
        self,
        gates: &Snapshot,
        now: Moment,
        _wall: OffsetDateTime,
    ) -> Result<StillOpen, Refusal> {
        gates.release(self, now)
    }
}

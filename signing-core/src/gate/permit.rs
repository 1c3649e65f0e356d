//! Admission and release: one body of each, whether a signer's own gate admits or a break-glass
//! session does. What differs is in `upstream_permit` and `session_permit`.

use std::fmt::Debug;
use std::sync::Arc;

use time::OffsetDateTime;

use super::armed::Armed;
use super::epoch::Epoch;
use super::slots::{Slot, Slots};
use super::snapshot::Snapshot;
use crate::key::{Algorithm, Kid, Signer};
use crate::moment::Moment;
use crate::policy::Grant;
use crate::refusal::{Reason, Refusal};

/// Proof that `A` admitted a granted request (I1). It holds the grant and the slot, and its
/// release consumes it. Made by [`Snapshot::admit`] and [`Snapshot::admit_emergency`] only, and
/// neither kind becomes the other:
///
/// ```compile_fail
/// use signing_core::gate::{Epoch, Permit, Slot, Upstream};
/// fn forge(grant: signing_core::Grant, slot: Slot, epoch: Epoch, by: Upstream) -> Permit<Upstream> {
///     Permit { grant, slot, epoch, by, deadline: signing_core::Moment::default() }
/// }
/// ```
///
/// ```compile_fail
/// use signing_core::gate::{Permit, Session, Upstream};
/// fn convert(permit: Permit<Session>) -> Permit<Upstream> {
///     permit.into()
/// }
/// ```
///
/// ```compile_fail
/// use signing_core::gate::{Permit, Session, Upstream};
/// fn convert(permit: Permit<Upstream>) -> Permit<Session> {
///     permit.into()
/// }
/// ```
#[derive(Debug)]
pub struct Permit<A: Admits = super::Upstream> {
    grant: Grant,
    epoch: Epoch,
    deadline: Moment,
    slot: Slot,
    by: A,
}

/// Proof that the gate was still open, in the same epoch, when the signature
/// was about to leave (I1). Made out of a permit only.
///
/// ```compile_fail
/// fn forge(grant: signing_core::Grant, slot: signing_core::gate::Slot) -> signing_core::gate::StillOpen {
///     signing_core::gate::StillOpen { grant, slot, session: None }
/// }
/// ```
#[derive(Debug)]
pub struct StillOpen {
    grant: Grant,
    slot: Slot,
    session: Option<Arc<Armed>>,
}

/// The time by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// By the boot-time clock.
    pub now: Moment,
    /// By the calendar.
    pub wall: OffsetDateTime,
}

/// What admits requests: a signer's own gate, or a break-glass session. Sealed: there are no
/// others.
pub trait Admits: sealed::Sealed + Debug + Send + Sync + Sized + 'static {
    /// Whether a request under `grant`, which names `algorithm`, is admitted, and in which epoch.
    ///
    /// # Errors
    /// The refusal.
    fn admit(
        gates: &Snapshot,
        grant: &Grant,
        algorithm: Option<Algorithm>,
        at: At,
    ) -> Result<(Self, Epoch), Refusal>;

    /// The epoch in which it is open for `grant`.
    ///
    /// # Errors
    /// Why it is not.
    fn epoch(gates: &Snapshot, grant: &Grant, at: At) -> Result<Epoch, Refusal>;

    /// What made another epoch out of an open one.
    const CHANGED: &str;

    /// The signer whose key signs.
    fn signer<'p>(&'p self, grant: &'p Grant) -> &'p Arc<Signer>;

    /// With which algorithm it signs.
    fn algorithm(&self, grant: &Grant) -> Algorithm;

    /// Nothing signed before may be given out again.
    fn trusted_from(&self) -> Moment;

    /// The session, if it is one.
    fn session(&self) -> Option<&Arc<Armed>>;
}

/// A permit of either kind, as the pipeline behind it sees it. Sealed: there are no others.
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

    /// Whether what was admitted may still leave: whatever admitted it is open, nothing changed
    /// since, and somebody still waits for it.
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

pub(super) mod sealed {
    pub trait Sealed {}
    impl<A: super::Admits> Sealed for super::Permit<A> {}
}

impl Snapshot {
    /// Admits a granted request whose answer is due by `deadline`.
    ///
    /// # Errors
    /// The refusal, at once: nothing here waits (I8).
    pub(super) fn permit<A: Admits>(
        &self,
        grant: Grant,
        algorithm: Option<Algorithm>,
        slots: &Slots,
        at: At,
        deadline: Moment,
    ) -> Result<Permit<A>, Refusal> {
        let kid = &grant.signer().kid;
        let (by, epoch) = A::admit(self, &grant, algorithm, at)?;
        if grant.generation() != self.rulebook().generation() {
            // The epoch would say nothing about what the grant stands on.
            let detail = "the configuration was reloaded since this was granted; retry";
            return Err(Refusal::new(Reason::GateClosedInFlight, detail).about(kid));
        }
        if at.now >= deadline {
            let detail = "the deadline passed before the request was admitted";
            return Err(Refusal::new(Reason::DeadlineExceeded, detail).about(kid));
        }
        let slot = slots.take(grant.shared_caller()).map_err(|refusal| refusal.about(kid))?;
        Ok(Permit { grant, epoch, deadline, slot, by })
    }
}

impl<A: Admits> Permit<A> {
    /// The grant it was made from.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// What admitted it.
    pub(super) fn by(&self) -> &A {
        &self.by
    }
}

impl<A: Admits> Admitted for Permit<A> {
    fn signer(&self) -> &Arc<Signer> {
        self.by.signer(&self.grant)
    }

    fn algorithm(&self) -> Algorithm {
        self.by.algorithm(&self.grant)
    }

    fn grant(&self) -> &Grant {
        &self.grant
    }

    fn deadline(&self) -> Moment {
        self.deadline
    }

    fn trusted_from(&self) -> Moment {
        self.by.trusted_from()
    }

    fn session(&self) -> Option<&Arc<Armed>> {
        self.by.session()
    }

    fn release(
        self,
        gates: &Snapshot,
        now: Moment,
        wall: OffsetDateTime,
    ) -> Result<StillOpen, Refusal> {
        let Self { grant, epoch, deadline, slot, by } = self;
        let kid = &grant.signer().kid;
        if now >= deadline {
            return Err(withheld(Reason::Indeterminate, "the deadline has passed", kid));
        }
        let why = match A::epoch(gates, &grant, At { now, wall }) {
            Ok(current) if current == epoch => {
                let session = by.session().map(Arc::clone);
                return Ok(StillOpen { grant, slot, session });
            }
            Ok(_) => A::CHANGED.to_owned(),
            Err(refusal) => refusal.to_string(),
        };
        Err(withheld(Reason::GateClosedInFlight, &why, kid))
    }
}

impl StillOpen {
    /// The break-glass session that let it leave.
    #[must_use]
    pub fn session(&self) -> Option<&Arc<Armed>> {
        self.session.as_ref()
    }

    /// The grant it was made from.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Gives the slot back only once the answer is written or given up: a
    /// request in flight is in flight until then.
    #[must_use]
    pub fn into_slot(self) -> Slot {
        self.slot
    }
}

fn withheld(reason: Reason, why: &str, kid: &Kid) -> Refusal {
    Refusal::new(reason, format!("a signature was made and is withheld: {why}")).about(kid)
}

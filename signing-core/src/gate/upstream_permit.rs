//! What a signer's own gate asks of a request.

use std::sync::Arc;

use super::armed::Armed;
use super::epoch::Epoch;
use super::permit::{Admits, At, Permit, StillOpen, sealed};
use super::slots::Slots;
use super::snapshot::Snapshot;
use crate::key::{Algorithm, Signer};
use crate::moment::Moment;
use crate::policy::Grant;
use crate::refusal::Refusal;

/// A signer's own gate admitted the request: an upstream signs it.
#[derive(Debug)]
pub struct Upstream {
    trusted_from: Moment,
}

impl Snapshot {
    /// Admits a granted request whose answer is due by `deadline`.
    ///
    /// # Errors
    /// The refusal, at once: nothing here waits (I8).
    pub fn admit(
        &self,
        grant: Grant,
        slots: &Slots,
        now: Moment,
        deadline: Moment,
    ) -> Result<Permit, Refusal> {
        self.permit(grant, None, slots, by_boot_time(now), deadline)
    }

    /// Whether what `permit` admitted may still leave at `now`: see
    /// [`super::Admitted::release`].
    ///
    /// # Errors
    /// `gate_closed_in_flight`, `indeterminate`; the signature must not leave.
    pub fn release(&self, permit: Permit, now: Moment) -> Result<StillOpen, Refusal> {
        use super::permit::Admitted as _;
        permit.release(self, now, by_boot_time(now).wall)
    }
}

/// A gate knows no calendar: its leases end by the boot-time clock.
fn by_boot_time(now: Moment) -> At {
    At { now, wall: time::OffsetDateTime::UNIX_EPOCH }
}

impl sealed::Sealed for Upstream {}

impl Admits for Upstream {
    const CHANGED: &str = "the gate had been shut in between";

    fn admit(
        gates: &Snapshot,
        grant: &Grant,
        _: Option<Algorithm>,
        at: At,
    ) -> Result<(Self, Epoch), Refusal> {
        let epoch = Self::epoch(gates, grant, at)?;
        let trusted_from = gates.gate(&grant.signer().kid).map_or(at.now, |gate| gate.trusted_from);
        Ok((Self { trusted_from }, epoch))
    }

    fn epoch(gates: &Snapshot, grant: &Grant, at: At) -> Result<Epoch, Refusal> {
        gates.check(&grant.signer().kid, at.now)
    }

    fn signer<'p>(&'p self, grant: &'p Grant) -> &'p Arc<Signer> {
        grant.signer()
    }

    fn algorithm(&self, grant: &Grant) -> Algorithm {
        grant.algorithm()
    }

    /// Since when the signer has been without a seal.
    fn trusted_from(&self) -> Moment {
        self.trusted_from
    }

    fn session(&self) -> Option<&Arc<Armed>> {
        None
    }
}

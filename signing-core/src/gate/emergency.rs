//! Admission and release in a break-glass session: the gate's two questions, asked of the
//! session instead.

use std::sync::Arc;

use time::OffsetDateTime;

use super::admitted::{Admitted, in_time};
use super::armed::{Armed, InForce};
use super::epoch::Epoch;
use super::slots::{Slot, Slots};
use super::snapshot::{Snapshot, StillOpen};
use crate::key::{Algorithm, Purpose, Signer};
use crate::moment::Moment;
use crate::policy::Grant;
use crate::refusal::{Reason, Refusal};

/// Proof that a break-glass session admitted a granted request (I1). It is no
/// [`super::Permit`], and nothing makes one of it:
///
/// ```compile_fail
/// fn convert(permit: signing_core::gate::EmergencyPermit) -> signing_core::gate::Permit {
///     permit.into()
/// }
/// ```
///
/// ```compile_fail
/// fn skip(grant: signing_core::Grant, slot: signing_core::gate::Slot, epoch: signing_core::gate::Epoch,
///     armed: std::sync::Arc<signing_core::gate::Armed>) -> signing_core::gate::EmergencyPermit {
///     signing_core::gate::EmergencyPermit { grant, armed, epoch, deadline: signing_core::Moment::default(), slot }
/// }
/// ```
#[derive(Debug)]
pub struct EmergencyPermit {
    grant: Grant,
    armed: Arc<Armed>,
    epoch: Epoch,
    deadline: Moment,
    slot: Slot,
}

impl EmergencyPermit {
    /// The session.
    #[must_use]
    pub fn armed(&self) -> &Arc<Armed> {
        &self.armed
    }

    /// The grant of the signer that the emergency key stands in for.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }
}

impl Snapshot {
    /// Admits a request, granted for a signer that the session in force replaces, whose answer
    /// is due by `deadline`. `algorithm` is the one that the request named.
    ///
    /// # Errors
    /// The refusal, at once: nothing here waits (I8).
    pub fn admit_emergency(
        &self,
        grant: Grant,
        algorithm: Option<Algorithm>,
        slots: &Slots,
        (now, wall): (Moment, OffsetDateTime),
        deadline: Moment,
    ) -> Result<EmergencyPermit, Refusal> {
        let kid = &grant.signer().kid;
        let out =
            |detail: String| Err(Refusal::new(Reason::BreakglassOutOfScope, detail).about(kid));
        let InForce { armed, epoch, spent_until } = self.check_session(&grant, now, wall)?;
        if spent_until.is_some() {
            let detail =
                format!("the quota of the break-glass session {} is used up", armed.session);
            return Err(Refusal::new(Reason::BreakglassQuotaExhausted, detail).about(kid));
        }
        if !armed.callers.contains(grant.caller()) {
            return out(format!(
                "the break-glass session {} is not for this caller; its approvers named others",
                armed.session
            ));
        }
        if let Some(named) = algorithm
            && named != armed.signer.algorithm()
        {
            return out(format!(
                "the emergency key of the break-glass session {} signs with {}, not with {named}; \
                 name no algorithm to take it",
                armed.session,
                armed.signer.algorithm()
            ));
        }
        if grant.generation() != self.rulebook().generation() {
            let detail = "the configuration was reloaded since this was granted; ask again";
            return Err(Refusal::new(Reason::GateClosedInFlight, detail).about(kid));
        }
        if now >= deadline {
            let detail = "the deadline passed before the request was admitted";
            return Err(Refusal::new(Reason::DeadlineExceeded, detail).about(kid));
        }
        let (armed, epoch) = (Arc::clone(armed), *epoch);
        let slot = slots.take(grant.shared_caller()).map_err(|refusal| refusal.about(kid))?;
        Ok(EmergencyPermit { grant, armed, epoch, deadline, slot })
    }

    /// The session that stands in for the grant's signer, unless something stops all signing.
    fn check_session(
        &self,
        grant: &Grant,
        now: Moment,
        wall: OffsetDateTime,
    ) -> Result<&InForce, Refusal> {
        let kid = &grant.signer().kid;
        self.check_stops(kid, now)?;
        let in_force = self.session().filter(|InForce { armed, spent_until, .. }| {
            let ends = spent_until.unwrap_or(armed.lease_until);
            armed.lasts(now, wall) && now < ends && armed.replaces.contains(kid)
        });
        let Some(in_force) = in_force else {
            let detail = "no break-glass session stands in for this signer any more";
            return Err(Refusal::new(Reason::BreakglassOutOfScope, detail).about(kid));
        };
        self.check_key(&in_force.armed.signer, wall)?;
        Ok(in_force)
    }

    /// Whether the registry in force still has the emergency key, unrevoked: it is the registry
    /// that verifiers look at, and it may have been reloaded since the session began.
    ///
    /// # Errors
    /// `key_unavailable`.
    pub fn check_key(&self, emergency: &Signer, wall: OffsetDateTime) -> Result<(), Refusal> {
        let kid = &emergency.kid;
        let registered = self.rulebook().registry().get(kid.as_str()).filter(|signer| {
            signer.purpose == Purpose::Breakglass && signer.public_key == emergency.public_key
        });
        let Some(registered) = registered else {
            let detail = "the emergency key is not in the registry any more";
            return Err(Refusal::new(Reason::KeyUnavailable, detail).about(kid));
        };
        registered.usable_at(wall)
    }
}

impl Admitted for EmergencyPermit {
    fn signer(&self) -> &Arc<Signer> {
        &self.armed.signer
    }

    fn algorithm(&self) -> Algorithm {
        self.armed.signer.algorithm()
    }

    fn grant(&self) -> &Grant {
        &self.grant
    }

    fn deadline(&self) -> Moment {
        self.deadline
    }

    fn trusted_from(&self) -> Moment {
        self.armed.since
    }

    fn session(&self) -> Option<&Arc<Armed>> {
        Some(&self.armed)
    }

    fn release(
        self,
        gates: &Snapshot,
        now: Moment,
        wall: OffsetDateTime,
    ) -> Result<StillOpen, Refusal> {
        let Self { grant, armed, epoch, deadline, slot } = self;
        in_time(&grant.signer().kid, deadline, now)?;
        let why = match gates.check_session(&grant, now, wall) {
            Ok(InForce { epoch: current, .. }) if *current == epoch => {
                return Ok(StillOpen::new(grant, slot, Some(armed)));
            }
            Ok(_) => "another session is in force".to_owned(),
            Err(refusal) => refusal.to_string(),
        };
        let detail = format!("an emergency signature was made and is withheld: {why}");
        Err(Refusal::new(Reason::GateClosedInFlight, detail).about(&grant.signer().kid))
    }
}

//! What a break-glass session asks of a request, instead of the signer's own gate.

use std::sync::Arc;

use time::OffsetDateTime;

use super::armed::{Armed, InForce};
use super::epoch::Epoch;
use super::permit::{Admits, At, Permit, sealed};
use super::slots::Slots;
use super::snapshot::Snapshot;
use crate::key::{Algorithm, Purpose, Signer, names_of};
use crate::moment::Moment;
use crate::policy::Grant;
use crate::refusal::{Reason, Refusal};

/// A break-glass session admitted the request: the emergency signer signs it.
#[derive(Debug)]
pub struct Session {
    armed: Arc<Armed>,
    algorithm: Algorithm,
}

/// A permit of a session.
pub type EmergencyPermit = Permit<Session>;

impl Permit<Session> {
    /// The session.
    #[must_use]
    pub fn armed(&self) -> &Arc<Armed> {
        &self.by().armed
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
        self.permit(grant, algorithm, slots, At { now, wall }, deadline)
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

    /// The session that stands in for the grant's signer, unless something stops all signing.
    fn check_session(&self, grant: &Grant, At { now, wall }: At) -> Result<&InForce, Refusal> {
        let kid = &grant.signer().kid;
        let in_force = self.session().filter(|InForce { armed, spent_until, .. }| {
            let ends = spent_until.unwrap_or(armed.lease_until);
            armed.lasts(now, wall) && now < ends && armed.replaces.contains(kid)
        });
        self.check_stops(kid, in_force.map(|in_force| &*in_force.armed), now)?;
        let Some(in_force) = in_force else {
            let detail = "no break-glass session stands in for this signer any more";
            return Err(Refusal::new(Reason::BreakglassOutOfScope, detail).about(kid));
        };
        self.check_key(&in_force.armed.signer, wall)?;
        Ok(in_force)
    }
}

impl sealed::Sealed for Session {}

impl Admits for Session {
    const CHANGED: &str = "another session is in force";

    fn admit(
        gates: &Snapshot,
        grant: &Grant,
        algorithm: Option<Algorithm>,
        at: At,
    ) -> Result<(Self, Epoch), Refusal> {
        let InForce { armed, epoch, spent_until } = gates.check_session(grant, at)?;
        let session = &armed.session;
        let refused =
            |reason, detail: String| Err(Refusal::new(reason, detail).about(&grant.signer().kid));
        if spent_until.is_some() {
            let detail = format!("the quota of the break-glass session {session} is used up");
            return refused(Reason::BreakglassQuotaExhausted, detail);
        }
        if !armed.callers.contains(grant.caller()) {
            let detail = format!(
                "the break-glass session {session} is not for this caller; its approvers named others"
            );
            return refused(Reason::BreakglassOutOfScope, detail);
        }
        let (is_batch, asks_batch) =
            (armed.signer.batch.is_batch(), grant.signer().batch.is_batch());
        if is_batch != asks_batch {
            // A client of either kind could not verify what the other kind answers.
            let (of_key, of_signer) = match is_batch {
                true => ("is a batch signer", "is not"),
                false => ("is no batch signer", "is"),
            };
            let detail = format!(
                "the emergency key of the break-glass session {session} {of_key}, and {} {of_signer}",
                grant.signer().kid
            );
            return refused(Reason::BreakglassOutOfScope, detail);
        }
        let own = armed.signer.algorithm();
        let algorithm = algorithm.unwrap_or(own);
        if armed.signer.signs_with(algorithm).is_err() {
            let known: Vec<_> = armed.signer.public_key.algorithms().collect();
            let detail = format!(
                "the emergency key of the break-glass session {session} signs with {}, not with \
                 {algorithm}; name no algorithm to take {own}",
                names_of(&known)
            );
            return refused(Reason::BreakglassOutOfScope, detail);
        }
        // What the emergency key signs with unasked is part of what was approved. Any other algorithm
        // of an RSA key needs the caller's own grant, in an emergency too (I1).
        if algorithm != own && algorithm != grant.algorithm() {
            let detail = format!(
                "the caller {} was not granted {algorithm} with {}; in the break-glass session \
                 {session} name no algorithm to take {own}",
                grant.caller(),
                grant.signer().kid
            );
            return refused(Reason::AlgorithmNotAllowed, detail);
        }
        Ok((Self { armed: Arc::clone(armed), algorithm }, *epoch))
    }

    fn epoch(gates: &Snapshot, grant: &Grant, at: At) -> Result<Epoch, Refusal> {
        gates.check_session(grant, at).map(|in_force| in_force.epoch)
    }

    fn signer<'p>(&'p self, _: &'p Grant) -> &'p Arc<Signer> {
        &self.armed.signer
    }

    fn algorithm(&self, _: &Grant) -> Algorithm {
        self.algorithm
    }

    /// Since when the session has been in force.
    fn trusted_from(&self) -> Moment {
        self.armed.since
    }

    fn session(&self) -> Option<&Arc<Armed>> {
        Some(&self.armed)
    }
}

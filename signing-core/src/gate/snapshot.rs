//! What the data plane sees of the gates, immutable: permits and the proof that the gate is still
//! open are made out of it (`permit.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use time::OffsetDateTime;

use super::armed::{Armed, InForce};
use super::audit_stop::AuditStop;
use super::epoch::Epoch;
use super::freeze::Freeze;
use super::machine::State;
use super::outage::OutageClock;
use super::signer::Extent;
use super::upstream::UpstreamView;
use crate::key::Kid;
use crate::moment::Moment;
use crate::refusal::{Reason, Refusal};
use crate::rulebook::Rulebook;

/// One gate in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateView {
    /// Its state when the snapshot was made. Its lease counts by `now`.
    pub state: State,
    /// Its epoch.
    pub epoch: Epoch,
    /// What was signed before is not to be given out again: when its last seal
    /// ended, else the start.
    pub trusted_from: Moment,
    /// Its upstreams, in the order of the configuration.
    pub upstreams: Vec<UpstreamView>,
    /// The generation of the configuration for which these were made.
    pub made_in: u64,
    /// How long it has been out.
    pub outage: OutageClock,
}

impl GateView {
    /// How much of it is out at `now`.
    #[must_use]
    pub fn extent(&self, now: Moment) -> Extent {
        let open = self.serving(now).count();
        match open {
            0 => Extent::Full,
            _ if open == self.upstreams.len() => Extent::None,
            _ => Extent::Partial,
        }
    }

    /// Its upstreams that are open at `now`, by their place in the configuration.
    pub fn serving(&self, now: Moment) -> impl Iterator<Item = usize> {
        let places = self.upstreams.iter().enumerate();
        places.filter(move |(_, upstream)| upstream.state.is_open(now)).map(|(at, _)| at)
    }
}

/// All gates at one moment. Leases are compared with the reader's own time, so
/// a snapshot that nobody replaces shuts by itself (I2).
#[derive(Clone, Debug)]
pub struct Snapshot {
    freeze: Option<Freeze>,
    fleet_stop: Option<Freeze>,
    audit_stop: Option<AuditStop>,
    gates: BTreeMap<Kid, GateView>,
    rulebook: Arc<Rulebook>,
    session: Option<InForce>,
}

impl Snapshot {
    pub(super) fn new(
        (freeze, fleet_stop): (Option<Freeze>, Option<Freeze>),
        audit_stop: Option<AuditStop>,
        gates: BTreeMap<Kid, GateView>,
        rulebook: Arc<Rulebook>,
        session: Option<InForce>,
    ) -> Self {
        Self { freeze, fleet_stop, audit_stop, gates, rulebook, session }
    }

    /// The break-glass session, unless its time is over.
    #[must_use]
    pub fn armed(&self, now: Moment, wall: OffsetDateTime) -> Option<&Arc<Armed>> {
        self.session_in_force().filter(|armed| armed.lasts(now, wall))
    }

    /// The break-glass session, whether its time is over or not.
    #[must_use]
    pub fn session_in_force(&self) -> Option<&Arc<Armed>> {
        let session = self.session.as_ref().filter(|session| session.spent_until.is_none());
        session.map(|session| &session.armed)
    }

    /// Whether there is a session at all, over or not: the first, cheap question.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Whether requests for `kid` go to the session, be it to hear that its quota is used up.
    #[must_use]
    pub fn goes_to_session(&self, kid: &Kid, now: Moment, wall: OffsetDateTime) -> bool {
        self.session.as_ref().is_some_and(|InForce { armed, spent_until, .. }| {
            let is_over = spent_until.is_some_and(|until| now >= until);
            !is_over && armed.lasts(now, wall) && armed.replaces.contains(kid)
        })
    }

    /// Whether requests for `kid` are signed in the session: it stands in for it, nothing stops the
    /// session, and the registry lets both keys sign, as admission asks.
    #[must_use]
    pub fn is_replaced(&self, kid: &Kid, now: Moment, wall: OffsetDateTime) -> bool {
        let registered = self.rulebook.registry().get(kid.as_str());
        let is_usable = registered.is_some_and(|signer| signer.usable_at(wall).is_ok());
        self.armed(now, wall).filter(|_| is_usable).is_some_and(|armed| {
            armed.replaces.contains(kid)
                && self.check_stops(kid, Some(armed), now).is_ok()
                && self.check_key(&armed.signer, wall).is_ok()
        })
    }

    /// The session, lasting or not.
    pub(super) fn session(&self) -> Option<&InForce> {
        self.session.as_ref()
    }

    /// The rulebook in force.
    #[must_use]
    pub fn rulebook(&self) -> &Arc<Rulebook> {
        &self.rulebook
    }

    /// The freeze in force: an operator's, else what the fleet stops.
    #[must_use]
    pub fn freeze(&self) -> Option<&Freeze> {
        self.freeze.as_ref().or(self.fleet_stop.as_ref())
    }

    /// What the fleet stops, also while an operator's freeze is in force.
    #[must_use]
    pub fn fleet_stop(&self) -> Option<&Freeze> {
        self.fleet_stop.as_ref()
    }

    /// Whether the fleet stops signing, and no operator of this proxy does.
    #[must_use]
    pub fn is_stopped_by_fleet_alone(&self) -> bool {
        self.freeze.is_none() && self.fleet_stop.is_some()
    }

    /// What keeps the journal from recording.
    #[must_use]
    pub fn audit_stop(&self) -> Option<&AuditStop> {
        self.audit_stop.as_ref()
    }

    /// All gates, by kid.
    pub fn gates(&self) -> impl Iterator<Item = (&Kid, &GateView)> {
        self.gates.iter()
    }

    /// The gate of `kid`.
    #[must_use]
    pub fn gate(&self, kid: &Kid) -> Option<&GateView> {
        self.gates.get(kid)
    }

    /// Whether `kid` would be admitted at `now`, and if not, why.
    ///
    /// # Errors
    /// The refusal.
    pub fn check(&self, kid: &Kid, now: Moment) -> Result<Epoch, Refusal> {
        self.check_stops(kid, None, now)?;
        let Some(gate) = self.gates.get(kid) else {
            let detail = "no upstream is configured for this signer";
            return Err(Refusal::new(Reason::KeyUnavailable, detail).about(kid));
        };
        match &gate.state {
            State::Open { lease_until, .. } if now < *lease_until => Ok(gate.epoch),
            State::Open { lease_until, .. } => {
                let detail = "no signature has verified within the lease";
                Err(refuse(Reason::UpstreamUnhealthy, detail.into(), kid, *lease_until, now))
            }
            State::Shut { cause, since, .. } | State::Probing { cause, since, .. } => {
                Err(refuse(cause.reason(), cause.sentence(), kid, *since, now))
            }
            State::Sealed { since, .. } => {
                let detail = "sealed: an operator has to look into it and run `signctl unseal`";
                Err(refuse(Reason::Sealed, detail.into(), kid, *since, now))
            }
        }
    }

    /// What stops all signing, a session's too; only a freeze that the approvers of `session` named
    /// does not stop that session.
    pub(super) fn check_stops(
        &self,
        kid: &Kid,
        session: Option<&Armed>,
        now: Moment,
    ) -> Result<(), Refusal> {
        let spares = |freeze: &&Freeze| session.is_some_and(|armed| armed.signs_under(freeze));
        if let Some(freeze) = self.freeze.as_ref().filter(|freeze| !spares(freeze)) {
            let detail = format!("frozen by an operator: {}", freeze.reason);
            return Err(refuse(Reason::Frozen, detail, kid, freeze.since, now));
        }
        if let Some(stop) = &self.fleet_stop {
            let detail = format!("stopped by its fleet: {}", stop.reason);
            return Err(refuse(Reason::Frozen, detail, kid, stop.since, now));
        }
        if let Some(stop) = &self.audit_stop {
            let detail = stop.sentence().to_owned();
            return Err(refuse(Reason::AuditUnavailable, detail, kid, stop.since, now));
        }
        Ok(())
    }
}

fn refuse(reason: Reason, detail: String, kid: &Kid, since: Moment, now: Moment) -> Refusal {
    Refusal::new(reason, detail).about(kid).lasting(now.since(since))
}

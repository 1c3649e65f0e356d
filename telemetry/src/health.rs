//! Health, as a pure view of the gates at one moment, and its JSON.

use std::time::Duration;

use host::clock::{rfc3339, rfc3339_seconds};
use signing_core::admin;
use signing_core::gate::{Armed, Extent, Place, Snapshot, State, UpstreamView};
use signing_core::journal::OpenIncident;
use signing_core::{Kid, Mode, Moment, Refusal};
use time::OffsetDateTime;

use crate::conditions::{self, Condition, Reader};

/// Whether signing works, for all and for each.
#[derive(Debug)]
pub struct Health<'g> {
    /// Whether every signer would be admitted now, by its own gate or by a session.
    pub ok: bool,
    /// Whether each is by its own gate.
    pub own: bool,
    /// Each signer.
    pub signers: Vec<SignerHealth<'g>>,
    /// The break-glass session in force.
    pub session: Option<&'g Armed>,
    /// How the proxy's own side is.
    conditions: &'g [Condition],
    freeze: Option<&'g signing_core::gate::Freeze>,
    /// Whether only the fleet stops it.
    of_fleet: bool,
    now: Moment,
}

/// One signer's health.
#[derive(Debug)]
pub struct SignerHealth<'g> {
    /// The signer's kid.
    pub kid: &'g Kid,
    /// The state of its gate as it counts now: an open gate whose lease is over
    /// is shut.
    pub state: &'static str,
    /// Whether one of its upstreams has proven itself within the lease, frozen or not.
    pub upstream_ok: bool,
    /// How much of it is out.
    pub extent: Extent,
    /// How long it has been in full outage.
    pub outage: Duration,
    /// Each of its upstreams.
    pub upstreams: Vec<UpstreamHealth<'g>>,
    /// Why a request would be refused; None if it would be admitted.
    pub refusal: Option<Refusal>,
    /// Whether a break-glass session signs in its place.
    pub replaced: bool,
    outage_runs: bool,
    gate: &'g State,
}

/// The health of one upstream of a signer.
#[derive(Debug)]
pub struct UpstreamHealth<'g> {
    /// Where it is.
    pub place: &'g Place,
    /// Whether it has proven itself within the lease.
    pub ok: bool,
    state: &'g State,
}

impl<'g> Health<'g> {
    /// The health at `now`.
    #[must_use]
    pub fn of(
        gates: &'g Snapshot,
        conditions: &'g [Condition],
        now: Moment,
        wall: OffsetDateTime,
    ) -> Self {
        let signers: Vec<_> = gates
            .gates()
            .map(|(kid, gate)| {
                let upstream_ok = gate.state.is_open(now);
                let lease_over = matches!(gate.state, State::Open { .. }) && !upstream_ok;
                SignerHealth {
                    kid,
                    state: if lease_over { "shut" } else { gate.state.word() },
                    upstream_ok,
                    extent: gate.extent(now),
                    outage: gate.outage.elapsed(now),
                    upstreams: gate
                        .upstreams
                        .iter()
                        .map(|UpstreamView { place, state }| UpstreamHealth {
                            place,
                            ok: state.is_open(now),
                            state,
                        })
                        .collect(),
                    refusal: gates.check(kid, now).err(),
                    replaced: gates.is_replaced(kid, now, wall),
                    outage_runs: gate.outage.is_running(),
                    gate: &gate.state,
                }
            })
            .collect();
        // A signature that no caller can fetch is none.
        let reached = !signers.is_empty() && conditions::first_failed(conditions).is_none();
        let own = reached && signers.iter().all(|signer| signer.refusal.is_none());
        let ok = reached && signers.iter().all(SignerHealth::signs);
        let of_fleet = gates.is_stopped_by_fleet_alone();
        let session = gates.armed(now, wall).map(|armed| &**armed);
        Self { ok, own, signers, session, conditions, freeze: gates.freeze(), of_fleet, now }
    }

    /// How much is out, of the signer of which the most is.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.signers.iter().map(|signer| signer.extent).max().unwrap_or(Extent::Full)
    }

    /// The first reason that anything is refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        let refused = self.signers.iter().filter(|signer| !signer.replaced);
        refused.into_iter().find_map(|signer| signer.refusal.as_ref())
    }

    /// The body of `/readyz`: whether callers get signatures, and what is not well.
    #[must_use]
    pub fn readiness(&self, draining: bool) -> admin::Readiness {
        let conditions = conditions::not_ok(self.conditions, Reader::Anonymous);
        admin::Readiness { ok: self.ok && !draining, conditions }
    }

    /// The body of `/health`, with the incident that is open.
    #[must_use]
    pub fn message(&self, reader: Reader, open: Option<&OpenIncident>) -> admin::Health {
        let is_told = reader != Reader::Anonymous;
        let (reason, detail) = match (self.refusal(), conditions::first_failed(self.conditions)) {
            (Some(Refusal { reason, detail, .. }), _) => {
                (Some(reason.word()), is_told.then(|| detail.clone()))
            }
            (None, Some(Condition { component, detail, .. })) => {
                (Some(component.word()), (reader == Reader::Operator).then(|| detail.clone()))
            }
            (None, None) => (None, None),
        };
        let freeze = self.freeze.filter(|_| is_told).map(|freeze| admin::FreezeInForce {
            id: freeze.id,
            reason: freeze.reason.clone(),
            by: freeze.by.clone(),
            since: rfc3339_seconds(freeze.at),
            of_fleet: self.of_fleet,
        });
        admin::Health {
            ok: self.ok,
            mode: if self.session.is_some() { Mode::Breakglass } else { Mode::Normal },
            frozen: self.freeze.is_some(),
            outage: self.extent(),
            signers: self.signers.iter().map(|one| one.message(self.now, reader)).collect(),
            conditions: conditions::not_ok(self.conditions, reader),
            breakglass: self.session.map(|session| admin::SessionHealth {
                emergency_kid: session.signer.kid.to_string(),
                expires_at: rfc3339(session.expires_at),
                session: is_told.then(|| session.session.clone()),
                incident: is_told.then(|| session.incident.clone()),
                under_freeze: session.under_freeze,
                replaces: None,
                expires_in_s: None,
                upstreams_back: None,
                remaining: None,
                max_signatures: None,
            }),
            reason: reason.map(str::to_owned),
            detail,
            freeze,
            open_incident: open.map(|open| admin::OpenIncident {
                incident: is_told.then(|| open.incident.to_string()),
            }),
        }
    }
}

impl SignerHealth<'_> {
    fn signs(&self) -> bool {
        self.refusal.is_none() || self.replaced
    }

    fn message(&self, now: Moment, reader: Reader) -> admin::SignerHealth {
        let was_out = !self.outage.is_zero();
        let lease_ms_left = match self.gate {
            State::Open { lease_until, .. } => Some(lease_until.since(now).as_millis()),
            State::Shut { .. } | State::Probing { .. } | State::Sealed { .. } => None,
        };
        admin::SignerHealth {
            signer_kid: self.kid.to_string(),
            state: self.state.to_owned(),
            upstream_ok: self.upstream_ok,
            outage: self.extent,
            for_s: now.since(self.gate.since()).as_secs(),
            upstreams: self.upstreams.iter().map(|one| one.message(now, reader)).collect(),
            replaced: self.replaced,
            outage_s: was_out.then_some(self.outage.as_secs()),
            outage_counts: was_out.then_some(self.outage_runs),
            reason: self.refusal.as_ref().map(|refusal| refusal.reason.word().to_owned()),
            lease_ms_left: lease_ms_left.map(|left| u64::try_from(left).unwrap_or(u64::MAX)),
            detail: detail(reader, self.gate),
        }
    }
}

impl UpstreamHealth<'_> {
    fn message(&self, now: Moment, reader: Reader) -> admin::UpstreamHealth {
        let is_lease_over = matches!(self.state, State::Open { .. }) && !self.ok;
        admin::UpstreamHealth {
            upstream: self.place.provider.to_string(),
            region: self.place.region.to_string(),
            ok: self.ok,
            state: if is_lease_over { "shut" } else { self.state.word() }.to_owned(),
            for_s: now.since(self.state.since()).as_secs(),
            detail: detail(reader, self.state),
        }
    }
}

/// Why a gate is not open, for an operator.
fn detail(reader: Reader, state: &State) -> Option<String> {
    (reader == Reader::Operator).then(|| state.detail()).flatten()
}

//! What an operator is told of break-glass, and what `signctl breakglass request` writes a request from.

use std::collections::BTreeMap;

use host::clock::{now, rfc3339, rfc3339_seconds, wall_now};
use signing_core::admin::breakglass::{self as admin, Outage, Session};
use signing_core::admin::{EmergencyKey, FreezeInForce, ProxyStatus, SessionHealth};
use signing_core::breakglass::{is_out, wire};
use signing_core::gate::{Armed, Snapshot};
use signing_core::key::Purpose;
use signing_core::{Caller, Kid};

use super::emergency::Known;
use super::heads::{Heads, RefusedLog};
use super::{Breakglass, claim};

impl Breakglass {
    /// What an operator of that deployment asks for: outages, the session, the signer.
    pub async fn status(&self, deployment: &str) -> admin::Breakglass {
        let known = match self.emergency.refresh().await {
            Ok(known) => Some(known),
            Err(_) => self.emergency.known(),
        };
        let known = known.as_deref();
        let gates = self.monitor.gates();
        let kids: Vec<_> = gates.gates().map(|(kid, _)| kid).collect();
        let outages = kids.iter().filter_map(|kid| {
            let wire::OutageClaim { signer_kid, since, seconds } = claim(&gates, kid)?;
            let qualifies = is_out(&gates, kid, self.min_outage, now()).is_ok();
            let running = gates.gate(kid).is_some_and(|gate| gate.outage.is_running());
            Some(Outage { signer_kid, since, seconds, qualifies, running })
        });
        admin::Breakglass {
            configured: self.emergency.is_configured(),
            deployment: deployment.to_owned(),
            now: Some(rfc3339(wall_now())),
            callers: gates.rulebook().callers().map(Caller::to_string).collect(),
            signers: kids.iter().map(|kid| kid.to_string()).collect(),
            emergency_keys_registered: registered(&gates),
            min_outage_s: self.min_outage.as_secs(),
            outages: outages.collect(),
            freeze: gates.freeze().map(|freeze| FreezeInForce {
                id: freeze.id,
                reason: freeze.reason.clone(),
                by: freeze.by.clone(),
                since: rfc3339_seconds(freeze.at),
                of_fleet: gates.is_stopped_by_fleet_alone(),
            }),
            session: gates.armed(now(), wall_now()).map(|armed| session(armed, known)),
            refused_signer: self
                .emergency
                .heads()
                .and_then(Heads::refused)
                .as_ref()
                .map(RefusedLog::message),
            signer: known.map(|known| known.state.clone()),
        }
    }

    /// Adds to a status what the session has left, which upstreams are back, and what the emergency
    /// signer said last of its keys. It asks nobody.
    pub fn add_to(&self, status: &mut ProxyStatus, in_force: Option<&mut SessionHealth>) {
        let known = self.emergency.known();
        if self.emergency.is_configured() {
            status.emergency_signer_connected = Some(known.is_some());
        }
        if let Some(known) = &known {
            let keys = known.state.keys.iter().map(|key| EmergencyKey {
                kid: key.kid.clone(),
                state: key.state,
                destruction_due: key.destruction_due.clone(),
                destruction_overdue: key.destruction_due.as_ref().map(|_| key.destruction_overdue),
                copies_left: key.copies_left.clone(),
            });
            status.emergency_keys = Some(keys.collect());
            status.emergency_cannot_arm.clone_from(&known.state.cannot_arm);
        }
        let (gates, now) = (self.monitor.gates(), now());
        let (Some(armed), Some(health)) = (gates.armed(now, wall_now()), in_force) else { return };
        let is_back = |kid: &&Kid| gates.gate(kid).is_some_and(|gate| gate.state.is_open(now));
        let back = armed.replaces.iter().filter(is_back);
        health.replaces = Some(armed.replaces.iter().map(Kid::to_string).collect());
        health.expires_in_s = Some(armed.lease_until.since(now).as_secs());
        health.upstreams_back = Some(back.map(Kid::to_string).collect());
        (health.remaining, health.max_signatures) = quota(armed, known.as_deref());
    }
}

/// The emergency keys that a session of this proxy could use, and the SHA-256 of each: what a request
/// binds.
fn registered(gates: &Snapshot) -> BTreeMap<String, String> {
    let signers = gates.rulebook().registry().iter();
    let usable = signers.filter(|signer| {
        signer.purpose == Purpose::Breakglass && signer.usable_at(wall_now()).is_ok()
    });
    usable.map(|signer| (signer.kid.to_string(), signer.public_key.sha256_hex())).collect()
}

fn session(armed: &Armed, known: Option<&Known>) -> Session {
    let (remaining, max_signatures) = quota(armed, known);
    Session {
        under_freeze: armed.under_freeze,
        session: armed.session.clone(),
        incident: armed.incident.clone(),
        justification: armed.justification.clone(),
        emergency_kid: armed.signer.kid.to_string(),
        algorithm: armed.signer.algorithm().name().to_owned(),
        replaces: armed.replaces.iter().map(Kid::to_string).collect(),
        callers: armed.callers.iter().map(Caller::to_string).collect(),
        expires_at: rfc3339(armed.expires_at),
        expires_in_s: Some(armed.lease_until.since(now()).as_secs()),
        remaining,
        max_signatures,
        approved_by: Vec::new(),
    }
}

/// What the session has left, and of how many, as far as the signer has said.
fn quota(armed: &Armed, known: Option<&Known>) -> (Option<u64>, Option<u64>) {
    let held = known.and_then(|known| known.state.session.as_ref());
    match held.filter(|held| held.session == armed.session) {
        Some(held) => (known.and_then(Known::remaining), Some(held.max_signatures)),
        None => (None, None),
    }
}

//! What has to hold in the proxy before the emergency signer is asked for a session. It uses
//! nothing up, and is no evidence for the signer, which judges by itself (I5).

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::activation::Clause;
use super::refused::{ProxyReason, Refused};
use super::{Request, wire};
use crate::gate::{Freeze, Snapshot};
use crate::instant::shown;
use crate::key::{Kid, Purpose, Signer};
use crate::moment::Moment;

/// Whether a session by `request` may begin; returns the registered emergency key.
///
/// # Errors
/// [`Refused`]: the first condition that does not hold.
pub fn may_begin(
    gates: &Snapshot,
    request: &Request,
    min_outage: Duration,
    now: Moment,
    wall: OffsetDateTime,
) -> Result<Arc<Signer>, Refused> {
    if let Some(stop) = gates.fleet_stop() {
        return Err(stopped_by_fleet(stop));
    }
    if let Some(freeze) = gates.freeze() {
        not_stopped_by(freeze, request)?;
    }
    if let Some(stop) = gates.audit_stop() {
        return Err(Refused::new(wire::Reason::AuditUnavailable, stop.sentence()));
    }
    if let Some(armed) = gates.armed(now, wall) {
        let detail = format!("the session {} is in force; end it first, or wait", armed.session);
        return Err(Refused::new(Clause::SessionInForce, detail));
    }
    let begins = request.not_before();
    if wall < begins {
        // A part of a second counts as one.
        let left = (begins - wall).whole_seconds() + 1;
        let at = shown(begins.replace_millisecond(begins.millisecond()).unwrap_or(begins));
        let detail = format!(
            "the request becomes valid at {at}, in {left} s; nothing was used up: activate it again then"
        );
        return Err(Refused::new(Clause::NotYetValid, detail));
    }
    for kid in request.replaces() {
        is_out(gates, kid, min_outage, now)?;
    }
    let kid = request.emergency_kid();
    let registered = gates.rulebook().registry().get(kid.as_str());
    let registered = registered.filter(|signer| signer.purpose == Purpose::Breakglass);
    let Some(signer) = registered else {
        let detail = format!(
            "the emergency key {:?} is not in this proxy's registry with \"purpose\": \
             \"breakglass\"; add it (signctl signers add), reload, then activate again",
            kid.as_str()
        );
        return Err(Refused::new(Clause::KeyNotRegistered, detail));
    };
    if let Err(refusal) = signer.usable_at(wall) {
        return Err(Refused::new(Clause::KeyNotUsable, refusal.detail));
    }
    if signer.public_key.sha256_hex() != request.emergency_key_sha256() {
        let detail = format!(
            "the request is for another public key than the registry has for {:?}",
            kid.as_str()
        );
        return Err(Refused::new(Clause::KeyMismatch, detail));
    }
    Ok(Arc::clone(signer))
}

/// What the fleet stops beats every session: no request can name it.
fn stopped_by_fleet(stop: &Freeze) -> Refused {
    let reason = &stop.reason;
    let detail = format!(
        "stopped by its fleet ({reason}): that beats a session. Nothing was used up; look at \
         `signctl status`, then activate again"
    );
    Refused::new(ProxyReason::Frozen, detail)
}

/// Whether `freeze` lets a session by `request` begin: its approvers named this very freeze.
fn not_stopped_by(freeze: &Freeze, request: &Request) -> Result<(), Refused> {
    let (named, reason) = (request.under_freeze(), &freeze.reason);
    let (which, instead) = match (named, freeze.id) {
        (Some(named), Some(id)) if named == id => return Ok(()),
        (Some(named), _) => (format!(", and the request names another freeze, {named}"), freeze.id),
        (None, id) => (", and the request names no freeze".to_owned(), id),
    };
    let approve = instead.map_or_else(String::new, |id| {
        format!(" or have a request approved that signs under this freeze: signctl breakglass request --under-freeze {id};")
    });
    let detail = format!(
        "frozen by an operator ({reason}){which}: a freeze beats a session. Nothing was used up; run \
         `signctl unfreeze`,{approve} then activate again"
    );
    Err(Refused::new(ProxyReason::Frozen, detail))
}

/// Whether the outage of the signer `kid` is long enough.
///
/// # Errors
/// [`Refused`]: it is not, or there is no such signer.
pub fn is_out(gates: &Snapshot, kid: &Kid, min: Duration, now: Moment) -> Result<(), Refused> {
    let name = kid.as_str();
    let Some(gate) = gates.gate(kid) else {
        return Err(Refused::new(
            ProxyReason::SignerUnknown,
            format!("{name:?} is no signer of this proxy"),
        ));
    };
    let out = gate.outage.elapsed(now);
    if gate.outage.is_running() && out >= min {
        return Ok(());
    }
    let detail = if gate.outage.is_running() {
        format!(
            "the signer {name:?} has been out for {} s, and break-glass needs {} s; it may begin in {} s",
            out.as_secs(),
            min.as_secs(),
            min.saturating_sub(out).as_secs() + 1
        )
    } else {
        format!(
            "the signer {name:?} is in no outage that counts (a key that cannot be used, \
             throttling, a seal and a drill do not); look at `signctl status`"
        )
    };
    Err(Refused::new(Clause::OutageTooShort, detail))
}

//! What has to hold in the proxy before the emergency signer is asked for a session. It uses
//! nothing up, and is no evidence for the signer, which judges by itself (I5).

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Request;
use crate::gate::Snapshot;
use crate::key::{Kid, Purpose, Signer};
use crate::moment::Moment;

/// Why the signer is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// An operator froze the proxy.
    Frozen,
    /// The journal does not record.
    AuditUnavailable,
    /// Another session is in force.
    SessionInForce,
    /// The request's time has not come.
    NotYetValid,
    /// It stands in for a signer that the proxy does not have.
    SignerUnknown,
    /// A signer that it stands in for has not been out for long enough.
    OutageTooShort,
    /// The registry does not have the emergency key for break-glass.
    KeyNotRegistered,
    /// The registry has it, revoked or outside its time.
    KeyNotUsable,
    /// The registry has another public key by that name.
    KeyMismatch,
}

impl Hindrance {
    /// The word on the wire and in the journal.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::AuditUnavailable => "audit_unavailable",
            Self::SessionInForce => "session_in_force",
            Self::NotYetValid => "not_yet_valid",
            Self::SignerUnknown => "signer_unknown",
            Self::OutageTooShort => "outage_too_short",
            Self::KeyNotRegistered => "key_not_registered",
            Self::KeyNotUsable => "key_not_usable",
            Self::KeyMismatch => "key_mismatch",
        }
    }
}

/// A session may not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct MayNotBegin {
    /// Why.
    pub hindrance: Hindrance,
    /// What to do.
    pub detail: String,
}

fn not(hindrance: Hindrance, detail: String) -> MayNotBegin {
    MayNotBegin { hindrance, detail }
}

/// Whether a session by `request` may begin; returns the registered emergency key.
///
/// # Errors
/// [`MayNotBegin`]: the first condition that does not hold.
pub fn may_begin(
    gates: &Snapshot,
    request: &Request,
    min_outage: Duration,
    now: Moment,
    wall: OffsetDateTime,
) -> Result<Arc<Signer>, MayNotBegin> {
    if let Some(freeze) = gates.freeze() {
        let detail = format!(
            "frozen by an operator ({}): a freeze beats a session. Nothing was used up; run \
             `signctl unfreeze`, then activate again",
            freeze.reason
        );
        return Err(not(Hindrance::Frozen, detail));
    }
    if let Some(stop) = gates.audit_stop() {
        return Err(not(Hindrance::AuditUnavailable, stop.sentence().to_string()));
    }
    if let Some(armed) = gates.armed(now, wall) {
        let detail = format!("the session {} is in force; end it first, or wait", armed.session);
        return Err(not(Hindrance::SessionInForce, detail));
    }
    let begins = request.not_before();
    if wall < begins {
        // A part of a second counts as one.
        let left = (begins - wall).whole_seconds() + 1;
        let shown = begins.replace_millisecond(begins.millisecond()).unwrap_or(begins);
        let at = shown.format(&Rfc3339).unwrap_or_else(|_| shown.to_string());
        let detail = format!(
            "the request becomes valid at {at}, in {left} s; nothing was used up: activate it again then"
        );
        return Err(not(Hindrance::NotYetValid, detail));
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
        return Err(not(Hindrance::KeyNotRegistered, detail));
    };
    if let Err(refusal) = signer.usable_at(wall) {
        return Err(not(Hindrance::KeyNotUsable, refusal.detail.to_string()));
    }
    if signer.public_key.sha256_hex() != request.emergency_key_sha256() {
        let detail = format!(
            "the request is for another public key than the registry has for {:?}",
            kid.as_str()
        );
        return Err(not(Hindrance::KeyMismatch, detail));
    }
    Ok(Arc::clone(signer))
}

/// Whether the outage of the signer `kid` is long enough.
///
/// # Errors
/// [`MayNotBegin`]: it is not, or there is no such signer.
pub fn is_out(gates: &Snapshot, kid: &Kid, min: Duration, now: Moment) -> Result<(), MayNotBegin> {
    let name = kid.as_str();
    let Some(gate) = gates.gate(kid) else {
        return Err(not(Hindrance::SignerUnknown, format!("{name:?} is no signer of this proxy")));
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
    Err(not(Hindrance::OutageTooShort, detail))
}

//! What the gate does with the next request: an upstream that signs a canary signs nothing for
//! callers while its gate is shut.

use signing_core::gate::{Snapshot, State as GateState};
use signing_core::{Kid, Moment, Reason, Signer};
use time::OffsetDateTime;

use super::report::{Check, Checks};

/// Whether a request of `kid` is let through, and to the upstream at that place.
pub(super) fn inspect(
    gates: &Snapshot,
    (kid, at): (&Kid, usize),
    (now, wall): (Moment, OffsetDateTime),
    checks: &mut Checks,
) {
    // The policy refuses it before any gate, a session's request too.
    let registered = gates.rulebook().registry().get(kid.as_str());
    if let Some(why) = registered.and_then(|signer| ended(signer, wall)) {
        return checks.failed(Check::Gate, format!("{}: {why}", Reason::KeyUnavailable.word()));
    }
    if gates.is_replaced(kid, now, wall) {
        return checks.ok(Check::Gate, "a break-glass session signs in place of this signer");
    }
    if let Err(refusal) = gates.check(kid, now) {
        let goes_on = match refusal.reason {
            Reason::Frozen | Reason::Sealed => "",
            Reason::AuditUnavailable => "; look at the disk of audit.dir, and at `signctl status`",
            _ if checks.signed() => {
                "; the gate opens by itself once canaries have succeeded for a while"
            }
            _ => "; fix that, and the gate opens by itself",
        };
        let (reason, detail) = (refusal.reason.word(), refusal.detail);
        return checks.failed(Check::Gate, format!("{reason}: {detail}{goes_on}"));
    }
    let here = gates.gate(kid).and_then(|gate| gate.upstreams.get(at));
    match here.map(|upstream| &upstream.state) {
        Some(state) if state.is_open(now) => checks.ok(Check::Gate, "open"),
        state => {
            let word = state.map_or("unknown", GateState::word);
            let what = "requests go to another upstream of this signer, which is open";
            checks.warning(Check::Gate, format!("{word}; {what}"));
        }
    }
}

/// Whether the next request of `kid` is signed by the upstream at that place, which signed a canary
/// or did not; or by a session.
pub(super) fn is_open(
    gates: &Snapshot,
    kid: &Kid,
    at: usize,
    (now, wall): (Moment, OffsetDateTime),
    signed: bool,
) -> bool {
    let serves = || {
        let mut serving = gates.gate(kid).into_iter().flat_map(|gate| gate.serving(now));
        gates.check(kid, now).is_ok() && serving.any(|open| open == at)
    };
    let registered = gates.rulebook().registry().get(kid.as_str());
    let is_usable = registered.is_some_and(|signer| signer.usable_at(wall).is_ok());
    is_usable && (gates.is_replaced(kid, now, wall) || signed && serves())
}

/// Why the registry lets `signer` sign nothing now, and what to do. None: it lets it sign.
pub(super) fn ended(signer: &Signer, wall: OffsetDateTime) -> Option<String> {
    let detail = signer.usable_at(wall).err()?.detail;
    let fix = match signer.revoked_at {
        Some(_) => "",
        None => "give its entry in signers.json a later notAfter, or ",
    };
    Some(format!(
        "{detail}, so nothing is signed, whatever the upstream answers; {fix}configure another key, \
         then `signctl reload`"
    ))
}

//! From when on a request can be activated, by what the proxy and the emergency signer say; or why it never
//! can be. What could never become valid is not sent round to be approved.

use signing_core::admin::breakglass::{Breakglass, Outage};
use signing_core::breakglass::Draft;
use signing_core::breakglass::wire::KeyState;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::keys;

/// How long after the earliest time a request may begin: nobody attests an outage of next week.
const AHEAD_MAX: Duration = Duration::hours(24);

/// Whether the outage of each of these has lasted long enough at some time: when, by the proxy's clock if it
/// goes on. None of them is known: now.
pub(super) fn earliest(
    known: &Breakglass,
    replaces: &[String],
    now: OffsetDateTime,
) -> OffsetDateTime {
    let left = replaces.iter().map(|kid| {
        let out = outage_of(known, kid).map(|outage| outage.seconds);
        known.min_outage_s.saturating_sub(out.unwrap_or_default())
    });
    match left.max().unwrap_or_default() {
        0 => now,
        // What is counted in whole seconds may end one later.
        left => now + seconds(left) + Duration::SECOND,
    }
}

/// How long an outage has to be, for the signer and for the proxy.
pub(super) fn min_outage(known: &Breakglass) -> Duration {
    let of_signer = known.signer.as_ref().map_or(0, |signer| signer.min_outage_s);
    seconds(known.min_outage_s.max(of_signer))
}

/// Everything because of which it can never be activated; `attested` if a person says when the outage
/// began, which the proxy may have forgotten.
pub(super) fn never(
    draft: &Draft,
    known: &Breakglass,
    now: OffsetDateTime,
    attested: bool,
) -> Vec<String> {
    let mut whys = Vec::new();
    let times = [&draft.outage_since, &draft.not_before, &draft.expires_at]
        .map(|text| OffsetDateTime::parse(text, &Rfc3339));
    if let [Ok(since), Ok(begins), Ok(ends)] = times {
        let soonest = earliest(known, &draft.replaces, now).max(since + min_outage(known));
        clock(since, begins, ends, (now, soonest), &mut whys);
        if is_for(draft, known) {
            outage(draft, known, (since, begins, ends), now, &mut whys);
        }
    }
    // Another signer, of another proxy, may take what these do not.
    if is_for(draft, known) {
        scope(draft, known, attested, &mut whys);
        key(draft, known, &mut whys);
        let cannot = known.signer.iter().flat_map(|signer| &signer.cannot_arm);
        whys.extend(cannot.map(|why| format!("the emergency signer cannot be armed: {why}")));
    }
    whys
}

/// Whether it is for the proxy and the signer that are asked here.
pub(super) fn is_for(draft: &Draft, known: &Breakglass) -> bool {
    let signer = known.signer.as_ref();
    known.deployment == draft.audience
        && signer.is_some_and(|signer| draft.instances.contains(&signer.instance))
}

/// What no clock allows.
fn clock(
    since: OffsetDateTime,
    begins: OffsetDateTime,
    ends: OffsetDateTime,
    (now, soonest): (OffsetDateTime, OffsetDateTime),
    whys: &mut Vec<String>,
) {
    if ends <= now {
        whys.push(format!(
            "it expires at {}, which is in the past: leave out --not-before, or give more --minutes",
            shown(ends)
        ));
    }
    // To the second, an outage that has just begun begins in the next one.
    if since > now + Duration::SECOND {
        whys.push(format!(
            "--outage-since {}: is in the future, and the approvers attest an outage that has begun",
            shown(since)
        ));
    }
    if begins > soonest + AHEAD_MAX {
        whys.push(format!(
            "--not-before {}: is more than {} hours ahead; write the request in the outage that it is for",
            shown(begins),
            AHEAD_MAX.whole_hours()
        ));
    }
}

/// What the outage, attested and seen, does not allow.
fn outage(
    draft: &Draft,
    known: &Breakglass,
    (since, begins, ends): (OffsetDateTime, OffsetDateTime, OffsetDateTime),
    now: OffsetDateTime,
    whys: &mut Vec<String>,
) {
    let min = min_outage(known);
    if begins - since < min {
        whys.push(format!(
            "--not-before {}: is {} s after the outage began, and break-glass needs {} s: give {} or later, \
             or leave it out",
            shown(begins),
            (begins - since).whole_seconds(),
            min.whole_seconds(),
            shown(since + min)
        ));
    }
    let earliest = earliest(known, &draft.replaces, now);
    if ends <= earliest && ends > now {
        whys.push(format!(
            "it expires at {}, and the proxy has not seen an outage of {} s of every signer before {}: give \
             more --minutes, or leave out --not-before",
            shown(ends),
            min.whole_seconds(),
            shown(earliest)
        ));
    }
}

/// What to say of each of `named` that is not `there`; nothing, where the proxy does not say what is.
pub(super) fn strangers(flag: &str, named: &[String], there: &[String]) -> Vec<String> {
    let strangers = named.iter().filter(|name| !there.is_empty() && !there.contains(name));
    let there = there.join(", ");
    let said = |name| format!("{flag} {name}: this proxy has none of that name; it has: {there}");
    strangers.map(said).collect()
}

/// Signers and callers that the proxy does not have.
fn scope(draft: &Draft, known: &Breakglass, attested: bool, whys: &mut Vec<String>) {
    for (flag, named, there) in [
        ("--replaces", &draft.replaces, &known.signers),
        ("--callers", &draft.callers, &known.callers),
    ] {
        whys.extend(strangers(flag, named, there));
    }
    for kid in draft.replaces.iter().filter(|kid| !attested && known.signers.contains(kid)) {
        if !outage_of(known, kid).is_some_and(|outage| outage.running) {
            whys.push(format!(
                "--replaces {kid}: the proxy sees no outage of it that counts now (a key that cannot be used, \
                 throttling, a seal and a drill do not count): look at signctl status; if the proxy forgot it \
                 by a restart, give --outage-since"
            ));
        }
    }
}

/// An emergency key that the signer cannot open, or that the proxy would not take.
fn key(draft: &Draft, known: &Breakglass, whys: &mut Vec<String>) {
    let (kid, sha256) = (&draft.emergency_kid, &draft.emergency_key_sha256);
    let Some(held) = keys(known).find(|key| key.kid == *kid) else {
        let held = keys(known).map(|key| key.kid.as_str()).collect::<Vec<_>>().join(", ");
        whys.push(format!(
            "--emergency-kid {kid}: the emergency signer does not hold it; it holds: {held}"
        ));
        return;
    };
    match held.state {
        KeyState::Sealed | KeyState::Open => {}
        state @ (KeyState::Revoked | KeyState::Destroyed | KeyState::Missing) => whys.push(format!(
            "--emergency-kid {kid}: is {}, so no session can use it: look at signctl breakglass status",
            state.word()
        )),
    }
    if held.sha256 != *sha256 {
        whys.push(format!(
            "--emergency-key-sha256 {sha256}: is not the key that the signer holds as {kid}; leave it out"
        ));
    }
    match known.emergency_keys_registered.get(kid) {
        Some(known) if known == sha256 => {}
        Some(_) => whys.push(format!(
            "--emergency-kid {kid}: the proxy's registry has another public key under that name; correct one of \
             the two registries"
        )),
        None => whys.push(format!(
            "--emergency-kid {kid}: the proxy's registry has no usable key of that name for break-glass: \
             signctl signers add, then signctl reload"
        )),
    }
}

fn outage_of<'k>(known: &'k Breakglass, kid: &str) -> Option<&'k Outage> {
    known.outages.iter().find(|outage| outage.signer_kid == kid)
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}

pub(super) fn shown(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

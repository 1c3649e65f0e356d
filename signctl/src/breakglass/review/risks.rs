//! What an approver has to look at first, by a request and the approver's own copies. Each risk has a word:
//! programs read it, and the page for approvers explains it.

use signing_core::breakglass::{Request, activation};
use signing_core::key::{Purpose, Signer};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::sources::Known;
use crate::show::age;

/// An outage that is said to be longer is asked about: whoever backdates it needs no outage of today.
const OUTAGE_USUAL: Duration = Duration::hours(4);
/// What `signctl breakglass request` asks for.
const SESSION_USUAL: Duration = Duration::minutes(60);
/// A request that begins later is about an outage of tomorrow.
const AHEAD_USUAL: Duration = Duration::hours(24);
/// More signatures, of all instances together, are asked about.
const SIGNATURES_USUAL: u64 = 10_000;
/// More callers are asked about.
const CALLERS_USUAL: usize = 5;

/// What follows from a risk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Level {
    /// It can never be right: do not sign.
    Stop,
    /// It may be right: ask somebody who did not write the request.
    Ask,
}

impl Level {
    /// Its word.
    pub(in super::super) const fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Ask => "ask",
        }
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Risk {
    /// How serious the risk is.
    pub(in super::super) level: Level,
    /// Its word.
    pub(in super::super) word: &'static str,
    /// What it is, and what to do.
    pub(in super::super) says: String,
}

/// All risks, the worst first.
pub(in super::super) fn of(request: &Request, known: &Known, now: OffsetDateTime) -> Vec<Risk> {
    let mut found = Found(Vec::new());
    times(request, now, &mut found);
    scope(request, known, &mut found);
    emergency_key(request, known, now, &mut found);
    who(request, known, &mut found);
    found.0.sort_by_key(|risk| risk.level);
    found.0
}

struct Found(Vec<Risk>);

impl Found {
    fn stop(&mut self, word: &'static str, says: String) {
        self.0.push(Risk { level: Level::Stop, word, says });
    }

    fn ask(&mut self, word: &'static str, says: String) {
        self.0.push(Risk { level: Level::Ask, word, says });
    }
}

fn times(request: &Request, now: OffsetDateTime, found: &mut Found) {
    let (since, begins, ends) =
        (request.outage_since(), request.not_before(), request.expires_at());
    if ends <= now {
        found.stop(
            "expired",
            format!("the request expired at {}; have a new one written", shown(ends)),
        );
    }
    if since > now {
        let since = shown(since);
        found.stop(
            "outage_in_future",
            format!("the request says that the outage begins at {since}, which has not come"),
        );
    }
    if now - since > OUTAGE_USUAL {
        found.ask(
            "long_outage",
            format!(
                "the request says that the outage began {} ago, at {}: ask somebody who saw it begin",
                span(now - since),
                shown(since)
            ),
        );
    }
    if ends - begins > SESSION_USUAL {
        found.ask(
            "long_session",
            format!(
                "the session may last {}: ask why less is not enough ({} is usual)",
                span(ends - begins),
                span(SESSION_USUAL)
            ),
        );
    }
    if begins - now > AHEAD_USUAL {
        found.ask(
            "begins_late",
            format!(
                "the session may begin only in {}: ask why it is approved today",
                span(begins - now)
            ),
        );
    }
}

fn scope(request: &Request, known: &Known, found: &mut Found) {
    if let Some(freeze) = request.under_freeze() {
        found.ask(
            "under_freeze",
            format!(
                "the session signs although signing is frozen (freeze {freeze}): ask whoever froze it whether \
                 the emergency key may sign"
            ),
        );
    }
    let instances = request.instances().len();
    if instances > 1 {
        found.ask(
            "instances",
            format!(
                "the request arms {instances} emergency signers, and each of them may make all the \
                 signatures: ask on-call to name each of them"
            ),
        );
    }
    let each = request.max_signatures();
    let all = each.saturating_mul(u64::try_from(instances).unwrap_or(u64::MAX));
    if all > SIGNATURES_USUAL {
        let per_minute = (request.expires_at() - request.not_before()).whole_minutes().max(1);
        found.ask(
            "high_quota",
            format!(
                "the emergency key may make {all} signatures, {} a minute: ask how many these callers need",
                all / u64::try_from(per_minute).unwrap_or(1)
            ),
        );
    }
    let replaced = request.replaces().len();
    if replaced > 1 {
        found.ask(
            "wide_scope",
            format!(
                "the emergency key stands in for {replaced} signers: ask whether each of them has an outage"
            ),
        );
    }
    let callers = request.callers().len();
    if callers > CALLERS_USUAL {
        found.ask(
            "many_callers",
            format!("{callers} callers may have it sign: ask which of them can wait"),
        );
    }
    let Ok(registry) = &known.registry else { return };
    let emergency = registry.get(request.emergency_kid().as_str());
    for kid in request.replaces() {
        let registered = registry.get(kid.as_str());
        let Some(signer) = registered.filter(|signer| signer.purpose == Purpose::Signing) else {
            found.stop(
                "replaces_unknown",
                format!("\"replaces\" names {kid}, which is no signing key of your registry"),
            );
            continue;
        };
        if let Some(why) = emergency.and_then(|emergency| activation::other_mode(emergency, signer))
        {
            found.stop("mode_mismatch", why);
        }
    }
}

fn emergency_key(request: &Request, known: &Known, now: OffsetDateTime, found: &mut Found) {
    let registry = match &known.registry {
        Ok(registry) => registry,
        Err(why) => {
            found.ask(
                "key_not_compared",
                format!("the emergency key was compared with no registry: {why}"),
            );
            return;
        }
    };
    let kid = request.emergency_kid();
    let registered = registry.get(kid.as_str());
    let Some(signer) = registered.filter(|signer| signer.purpose == Purpose::Breakglass) else {
        let what = if registered.is_some() {
            "which is there for another purpose"
        } else {
            "which is not there"
        };
        found.stop(
            "key_unknown",
            format!("the emergency key is {kid}, {what} in your registry: only a key with \"purpose\": \"breakglass\" is one"),
        );
        return;
    };
    let own = signer.public_key.sha256_hex();
    if own != request.emergency_key_sha256() {
        found.stop(
            "key_mismatch",
            format!(
                "the request binds the key {}, and {kid} is {own} in your registry: one of the two is false",
                request.emergency_key_sha256()
            ),
        );
    }
    counts_until(signer, request, now, found);
}

/// What the registry says of the key's end.
fn counts_until(signer: &Signer, request: &Request, now: OffsetDateTime, found: &mut Found) {
    let kid = &signer.kid;
    if let Err(refusal) = signer.usable_at(now) {
        found.stop("key_not_usable", format!("the emergency key {kid}: {}", refusal.detail));
        return;
    }
    match signer.not_after {
        None => found.ask(
            "key_without_end",
            format!(
                "the registry gives the emergency key {kid} no \"notAfter\": only its revocation ends it"
            ),
        ),
        Some(end) if end < request.expires_at() => found.ask(
            "key_ends_early",
            format!(
                "the emergency key {kid} counts until {} (\"notAfter\"), before the session may end",
                shown(end)
            ),
        ),
        Some(_) => {}
    }
}

fn who(request: &Request, known: &Known, found: &mut Found) {
    match &known.who {
        Err(why) => found.ask(
            "approvers_not_compared",
            format!("who has to approve is not known, nor whether the deployment is yours: {why}"),
        ),
        Ok(who) if who.deployment != request.audience() => found.stop(
            "other_deployment",
            format!(
                "the request is for the deployment {:?}, and yours is {:?}",
                request.audience(),
                who.deployment
            ),
        ),
        Ok(_) => {}
    }
    for (file, approval) in &known.approvals {
        if let Err(why) = approval {
            found.ask("approval_does_not_count", format!("{}: {why}", file.display()));
        }
    }
}

pub(in super::super) fn shown(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// How long that is.
pub(in super::super) fn span(duration: Duration) -> String {
    age(u64::try_from(duration.whole_seconds()).unwrap_or_default())
}

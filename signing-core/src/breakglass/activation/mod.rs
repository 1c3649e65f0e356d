//! Whether a session may begin (I5): every clause by its name, over evidence that others
//! gathered. Two different people, with two different keys, in two different roles.

mod quorum;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::caps::Caps;
use super::claim::OutageClaim;
use super::request::{Request, RequestError};
use crate::freeze_id::FreezeId;
use crate::instant::shown;
use crate::journal::clock_behind;
use crate::key::{Purpose, Signer};
use crate::registry::Registry;

pub use quorum::{Approval, ApprovalRules, Hardware, can_fill, counts, missing_roles, person};
pub(crate) use quorum::{is_disjoint, is_hardware_enough};

/// Declares [`Clause`] as a table: variant, word, what it asks.
macro_rules! clauses {
    ($($variant:ident $word:literal $what:literal)*) => {
        /// A condition of an activation; its word says which one failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Clause { $(#[doc = $what] #[serde(rename = $word)] $variant,)* }

        impl Clause {
            /// Every clause, in the order in which they are asked.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its word on the wire and in records.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// What it asks, for a person.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }
        }
    };
}

clauses! {
    Request "request_invalid" "The document is a request, whole and well formed."
    Audience "other_audience" "It is for this deployment."
    Instance "other_instance" "It names this signer instance."
    ApproversChanged "approvers_changed" "The approvers file is as it was at the start."
    Approval "approval_invalid" "Every approval is a signature over these bytes, in our namespace, by an approver."
    SoftwareKey "software_key" "Approvals are by hardware keys, where that is required."
    NoTouch "no_touch" "The approver touched the hardware key, where that is required."
    NoPin "no_pin" "The hardware key asked for a PIN, where that is required."
    SamePerson "same_person" "The approvals are by different people."
    SameKey "same_key" "The approvals are by different keys."
    RoleMissing "role_missing" "Every required role approved, each by a person of its own."
    KeysNotDisjoint "keys_not_disjoint" "No approver's key is in the registry."
    KeyUnknown "key_unknown" "This signer holds the emergency key."
    KeyDestroyed "key_destroyed" "The emergency key was not destroyed."
    KeyMismatch "key_mismatch" "The document binds the public key that is held."
    KeyNotRegistered "key_not_registered" "The registry has the key for break-glass."
    KeyNotUsable "key_not_usable" "The registry has neither revoked the key, nor is its time over."
    ReplacesUnknown "replaces_unknown" "It stands in for registered signing keys."
    ModeMismatch "mode_mismatch" "It stands in for signers that sign as it does: in batches, or each input by itself."
    NonceUsed "nonce_used" "The document was not used before, and is no older than what the signer remembers."
    Sealed "sealed" "The signer is not sealed."
    ClockBehind "clock_behind" "The signer's clock is not behind what it recorded."
    NotYetValid "not_yet_valid" "Its time has come."
    Expired "expired" "Its time is not over."
    SessionTooLong "session_too_long" "It is no longer than this signer allows."
    QuotaTooLarge "quota_too_large" "Its quota is no larger than this signer allows."
    OutageTooShort "outage_too_short" "The outage that the approvers attest is long enough."
    OutageNotObserved "outage_not_observed" "The proxy says that it sees such an outage of each signer."
    OtherFreeze "other_freeze" "The proxy is not frozen, or the document names that freeze."
    SessionInForce "session_in_force" "No other session is in force."
    Locked "locked" "The key was unlocked."
    PassphraseWrong "passphrase_wrong" "The passphrase opens the key's file."
    SelfTestFailed "self_test_failed" "The opened key is the registered one, and what it signs verifies."
    NotRecorded "not_recorded" "The activation is on disk."
}

/// A clause that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct NotActivated {
    /// The clause that does not hold.
    pub clause: Clause,
    /// Why, and what to do.
    pub sentence: String,
}

/// What is known when an activation is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'e> {
    /// The document, read.
    pub request: Result<&'e Request, &'e RequestError>,
    /// What became of each approval: who signed, or why it does not count.
    pub approvals: &'e [Result<Approval, String>],
    /// Whether the approvers file is as it was at the start.
    pub approvers_unchanged: bool,
    /// What approvals have to be.
    pub rules: &'e ApprovalRules,
    /// This deployment's name, which the request has to name.
    pub audience: &'e str,
    /// This instance, in hex.
    pub instance: &'e str,
    /// The registry.
    pub registry: &'e Registry,
    /// The kids whose keys this signer holds.
    pub held: &'e BTreeSet<String>,
    /// Those that were destroyed: kids, and SHA-256 of keys in hex.
    pub destroyed: &'e BTreeSet<String>,
    /// Nonces of earlier activations, in hex.
    pub nonces_used: &'e BTreeSet<String>,
    /// When the oldest record that this signer still has was written: what was used before that,
    /// it may have forgotten.
    pub remembers_since: OffsetDateTime,
    /// The latest time that this signer's journal has, or that its clock has shown since its start.
    pub latest: OffsetDateTime,
    /// Why this signer is sealed, if it is.
    pub sealed: Option<&'e str>,
    /// What the proxy says of outages.
    pub claims: &'e [OutageClaim],
    /// The freeze that the proxy says is in force.
    pub freeze: Option<FreezeId>,
    /// How long an outage has to be.
    pub min_outage: Duration,
    /// This signer's own limits.
    pub caps: &'e Caps,
    /// The session in force.
    pub active: Option<&'e str>,
    /// The calendar.
    pub now: OffsetDateTime,
}

/// Proof that every clause holds but the last ones: the key still has to open, to prove
/// itself, and the activation to be on disk. It is not `Clone`, and only [`decide`] makes one:
///
/// ```compile_fail
/// fn forge(request: signing_core::breakglass::Request) -> signing_core::breakglass::Activation {
///     signing_core::breakglass::Activation { request, approvals: Vec::new() }
/// }
/// ```
#[derive(Debug)]
pub struct Activation {
    request: Request,
    approvals: Vec<Approval>,
}

/// Decides.
///
/// # Errors
/// [`NotActivated`]: the first clause that does not hold. Nothing is used up.
pub fn decide(evidence: &Evidence<'_>) -> Result<Activation, NotActivated> {
    let request = evidence
        .request
        .map_err(|error| no(Clause::Request, format!("the request cannot be taken: {error}")))?;
    addressed(evidence, request)?;
    if !evidence.approvers_unchanged {
        let why = "the approvers file is not as it was when this signer started, or its disk does not say so \
                   in time; look at the file first: if it changed, restart the signer, so that it reads \
                   and records the new one, and if the disk hangs, do not restart; then activate again";
        return Err(no(Clause::ApproversChanged, why));
    }
    let approvals = quorum::judge(evidence.approvals, evidence.rules, evidence.registry)?;
    key(evidence, request)?;
    replaces(evidence, request)?;
    if evidence.nonces_used.contains(&request.nonce()) {
        let why = "this request was activated before, and one can be used once; write a new one \
                   and have it approved: signctl breakglass request";
        return Err(no(Clause::NonceUsed, why));
    }
    times(evidence, request)?;
    remembered(evidence, request)?;
    outage(evidence, request)?;
    freeze_named(evidence.freeze, request)?;
    if let Some(active) = evidence.active {
        let why = format!(
            "the session {active} is in force, and there is one at a time; end it first: signctl \
             breakglass end --reason ..."
        );
        return Err(no(Clause::SessionInForce, why));
    }
    Ok(Activation { request: request.clone(), approvals })
}

impl Activation {
    /// What was approved.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Who approved it.
    #[must_use]
    pub fn approvals(&self) -> &[Approval] {
        &self.approvals
    }

    pub(super) fn into_request(self) -> Request {
        self.request
    }
}

impl NotActivated {
    /// That clause does not hold.
    #[must_use]
    pub fn new(clause: Clause, sentence: impl Into<String>) -> Self {
        Self { clause, sentence: sentence.into() }
    }
}

fn no(clause: Clause, sentence: impl Into<String>) -> NotActivated {
    NotActivated::new(clause, sentence)
}

/// A freeze is somebody's decision that nothing is signed. Who approves a session under it has to have
/// known it: the document names that freeze and no other.
fn freeze_named(in_force: Option<FreezeId>, request: &Request) -> Result<(), NotActivated> {
    let Some(id) = in_force.filter(|id| request.under_freeze() != Some(*id)) else { return Ok(()) };
    let named = match request.under_freeze() {
        Some(other) => format!("names the freeze {other}"),
        None => "names no freeze".to_owned(),
    };
    let why = format!(
        "the proxy is frozen (freeze {id}), and the request {named}; have a request approved that names \
         this one (signctl breakglass request), or end the freeze (signctl unfreeze), then activate again"
    );
    Err(no(Clause::OtherFreeze, why))
}

/// It is for us.
fn addressed(evidence: &Evidence<'_>, request: &Request) -> Result<(), NotActivated> {
    if request.audience() != evidence.audience {
        let why = format!(
            "the request is for the deployment {:?}, and this signer belongs to {:?}; write one for \
             this deployment",
            request.audience(),
            evidence.audience
        );
        return Err(no(Clause::Audience, why));
    }
    if !request.instances().contains(evidence.instance) {
        let why = format!(
            "the request does not name this signer instance, {}; write one that lists it in \
             \"instances\"",
            evidence.instance
        );
        return Err(no(Clause::Instance, why));
    }
    Ok(())
}

/// The emergency key is the one that was approved, and may be used.
fn key(evidence: &Evidence<'_>, request: &Request) -> Result<(), NotActivated> {
    let kid = request.emergency_kid();
    let is_gone = |name: &str| evidence.destroyed.contains(name);
    if is_gone(kid.as_str()) || is_gone(request.emergency_key_sha256()) {
        let why = format!(
            "the emergency key {kid} was destroyed; make another one: breakglass-signer keygen"
        );
        return Err(no(Clause::KeyDestroyed, why));
    }
    if !evidence.held.contains(kid.as_str()) {
        let held: Vec<_> = evidence.held.iter().map(String::as_str).collect();
        let why = format!(
            "this signer holds no emergency key {kid}; it holds: {}; add [[emergency_keys]] to its \
             configuration",
            held.join(", ")
        );
        return Err(no(Clause::KeyUnknown, why));
    }
    let registered = evidence.registry.get(kid.as_str());
    let Some(signer) = registered.filter(|signer| signer.purpose == Purpose::Breakglass) else {
        let why = format!(
            "the registry has no key {kid} for break-glass; add it with \"purpose\": \"breakglass\""
        );
        return Err(no(Clause::KeyNotRegistered, why));
    };
    usable(signer, evidence.now)?;
    let bound = request.emergency_key_sha256();
    let known = signer.public_key.sha256_hex();
    if known != bound {
        let why = format!(
            "the request binds the key {bound}, and {kid} is registered with {known}; whoever wrote \
             the request had another key in mind"
        );
        return Err(no(Clause::KeyMismatch, why));
    }
    Ok(())
}

fn usable(signer: &Signer, now: OffsetDateTime) -> Result<(), NotActivated> {
    signer.usable_at(now).map_err(|refusal| {
        no(Clause::KeyNotUsable, format!("the emergency key {}: {}", signer.kid, refusal.detail))
    })
}

fn replaces(evidence: &Evidence<'_>, request: &Request) -> Result<(), NotActivated> {
    let emergency = evidence.registry.get(request.emergency_kid().as_str());
    for kid in request.replaces() {
        let registered = evidence.registry.get(kid.as_str());
        let Some(signer) = registered.filter(|signer| signer.purpose == Purpose::Signing) else {
            let why =
                format!("\"replaces\" names {kid}, which the registry has not as a signing key");
            return Err(no(Clause::ReplacesUnknown, why));
        };
        // A client of either kind cannot verify what the other kind signs: the session would sign nothing.
        if let Some(why) = emergency.and_then(|emergency| other_mode(emergency, signer)) {
            return Err(no(Clause::ModeMismatch, why));
        }
    }
    Ok(())
}

/// Why an emergency key cannot stand in for that signer: one of them signs batches, and the other does not.
#[must_use]
pub fn other_mode(emergency: &Signer, replaced: &Signer) -> Option<String> {
    let (key, kid) = (&emergency.kid, &replaced.kid);
    match (emergency.batch.is_batch(), replaced.batch.is_batch()) {
        (true, false) => Some(format!(
            "the emergency key {key} signs batches, and {kid} does not; name another emergency key, or another \
             signer in \"replaces\""
        )),
        (false, true) => Some(format!(
            "{kid} signs batches, and the emergency key {key} does not; name another emergency key, or another \
             signer in \"replaces\""
        )),
        (true, true) | (false, false) => None,
    }
}

/// Why a clock that shows `now` is not believed, if `latest` was recorded or shown before: a
/// request that expired would be valid again.
///
/// # Errors
/// The sentence.
pub fn clock(now: OffsetDateTime, latest: OffsetDateTime) -> Result<(), NotActivated> {
    let Some(behind) = clock_behind(now, latest) else { return Ok(()) };
    let why = format!(
        "this machine's clock shows {}, {behind} s before the latest time that this signer recorded or \
         saw, {}; set the clock and activate again; if it was wrong before and is right now, restart this \
         signer, which then starts sealed until an operator has looked",
        shown(now),
        shown(latest)
    );
    Err(no(Clause::ClockBehind, why))
}

fn times(evidence: &Evidence<'_>, request: &Request) -> Result<(), NotActivated> {
    if let Some(why) = evidence.sealed {
        return Err(no(Clause::Sealed, format!("this signer is sealed: {why}")));
    }
    clock(evidence.now, evidence.latest)?;
    let (begins, ends, now) = (request.not_before(), request.expires_at(), evidence.now);
    if now < begins {
        let (at, left) = (shown(begins), seconds(begins - now));
        let why = format!(
            "the request becomes valid at {at}, in {left} s by this machine's clock; nothing was used up: \
             activate it again then"
        );
        return Err(no(Clause::NotYetValid, why));
    }
    if now >= ends {
        let why = format!(
            "the request expired at {}, and it is {}; write a new one and have it approved",
            shown(ends),
            shown(now)
        );
        return Err(no(Clause::Expired, why));
    }
    let (length, most) = (seconds(ends - begins), evidence.caps.session_max.as_secs());
    if length > most {
        let why = format!(
            "the request lasts {length} s, and this signer allows {most} s (caps.session_max_s); \
             ask for less"
        );
        return Err(no(Clause::SessionTooLong, why));
    }
    let (quota, most) = (request.max_signatures(), evidence.caps.signatures_max);
    if quota > most {
        let why = format!(
            "the request asks for {quota} signatures, and this signer allows {most} \
             (caps.signatures_max); ask for less"
        );
        return Err(no(Clause::QuotaTooLarge, why));
    }
    Ok(())
}

/// A journal that was begun anew, by `init`, knows of no request that was used before. None was
/// that is not valid before it began.
fn remembered(evidence: &Evidence<'_>, request: &Request) -> Result<(), NotActivated> {
    let (begins, since) = (request.not_before(), evidence.remembers_since);
    // Requests are written to the second.
    if begins.unix_timestamp() < since.unix_timestamp() {
        let why = format!(
            "the request is valid from {begins} on, and the oldest record of this signer's journal is \
             of {since}, so whether it was used before is not known; write a new one and have it \
             approved: signctl breakglass request"
        );
        return Err(no(Clause::NonceUsed, why));
    }
    Ok(())
}

/// The outage that the approvers attest, and the one that the proxy claims to see (I11).
fn outage(evidence: &Evidence<'_>, request: &Request) -> Result<(), NotActivated> {
    let needed = evidence.min_outage;
    let attested = Duration::try_from(request.not_before() - request.outage_since());
    let attested = attested.unwrap_or_default();
    if attested < needed {
        let why = format!(
            "from outage_since to not_before are {} s, and this signer wants an outage of {} s \
             (min_outage_s) first; wait and write a new request",
            attested.as_secs(),
            needed.as_secs()
        );
        return Err(no(Clause::OutageTooShort, why));
    }
    for kid in request.replaces() {
        let claim = evidence.claims.iter().find(|claim| claim.signer_kid == kid.as_str());
        let claimed = claim.map_or(0, |claim| claim.seconds);
        if claimed < needed.as_secs() {
            let why = format!(
                "the proxy has seen an outage of {kid} for {claimed} s, and {} s are needed \
                 (min_outage_s); a key that is disabled, denied, throttled or sealed is no outage: \
                 look at signctl status",
                needed.as_secs()
            );
            return Err(no(Clause::OutageNotObserved, why));
        }
    }
    Ok(())
}

fn seconds(duration: time::Duration) -> u64 {
    // A part of a second counts as one: limits are not stretched.
    let whole = u64::try_from(duration.whole_seconds()).unwrap_or(u64::MAX);
    whole.saturating_add(u64::from(duration.subsec_nanoseconds() > 0))
}

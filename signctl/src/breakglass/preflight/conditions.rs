//! Whether a ceremony could succeed now: each condition by its word, over evidence that others gathered.
//! What could not be asked is not met.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use approvers::quorum;
use serde_json::{Value, json};
use signing_core::admin::breakglass::Breakglass;
use signing_core::breakglass::room_bytes;
use signing_core::breakglass::wire::{EmergencyKey, KeyState, State};
use signing_core::key::Purpose;
use signing_core::{Registry, registry};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::super::review::sources::Who;

/// As far may two clocks be apart: as far as a journal's clock may be behind.
const APART_MAX: Duration = Duration::seconds(60);

/// What was found out; an error says why something was not.
pub(super) struct Evidence {
    /// What the proxy says.
    pub(super) proxy: Result<Breakglass, String>,
    /// What the emergency signer says of itself, past the proxy.
    pub(super) signer: Result<State, String>,
    /// What the clocks show, by whose they are, and what this machine's showed then.
    pub(super) clocks: Vec<(String, Result<OffsetDateTime, String>, OffsetDateTime)>,
    /// The registry here.
    pub(super) registry: Result<Registry, String>,
    /// Who has to approve.
    pub(super) who: Result<Who, String>,
    /// Other copies of the registry, by where they are.
    pub(super) copies: Vec<(String, Result<Registry, String>)>,
    /// Whether the passphrase opens each key, if it was asked for.
    pub(super) opened: Option<BTreeMap<String, Result<(), String>>>,
    /// Bytes that are free in each of these directories.
    pub(super) disks: Vec<(PathBuf, Result<u64, String>)>,
    /// When it was asked.
    pub(super) now: OffsetDateTime,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Its word.
    pub(super) word: &'static str,
    /// Whether it is met; none: nobody asked for it.
    pub(super) is_met: Option<bool>,
    /// What was found, and what to do.
    pub(super) says: String,
}

impl Condition {
    pub(super) fn json(&self) -> Value {
        let Self { word, is_met, says } = self;
        json!({"condition": word, "met": is_met, "says": says})
    }
}

/// What is met, or why it is not.
type ConditionResult = Result<String, String>;

/// Judges all of them.
pub(super) fn judge(evidence: &Evidence) -> Vec<Condition> {
    let is = |word, met: ConditionResult| match met {
        Ok(says) => Condition { word, is_met: Some(true), says },
        Err(says) => Condition { word, is_met: Some(false), says },
    };
    let not_asked =
        |word, says: &str| Condition { word, is_met: None, says: format!("not looked at: {says}") };
    vec![
        is("proxy", proxy(evidence)),
        is("signer", signer(evidence)),
        is("armable", armable(evidence)),
        is("quorum", quorum_of(evidence)),
        is("approvers", approvers_of(evidence)),
        is("key", keys(evidence)),
        is("key_end", key_ends(evidence)),
        match &evidence.opened {
            Some(opened) => is("passphrase", passphrase(opened)),
            None => not_asked("passphrase", "--passphrase asks for it and opens the key once"),
        },
        match evidence.copies[..] {
            [] => not_asked("copies", "--copies names the other copies of signers.json"),
            _ => is("copies", copies(evidence)),
        },
        is("clock", clocks(evidence)),
        is("disk", disks(evidence)),
        is("free", free(evidence)),
    ]
}

/// The proxy answers, and the emergency signer is connected to it.
fn proxy(evidence: &Evidence) -> ConditionResult {
    let known = evidence.proxy.as_ref().map_err(Clone::clone)?;
    if !known.configured {
        return Err("this proxy has no emergency signer: set [breakglass] signer_socket".to_owned());
    }
    if let Some(refused) = &known.refused_signer {
        return Err(format!(
            "the proxy refuses its emergency signer: {}; look at signctl breakglass status",
            refused.why
        ));
    }
    match &known.signer {
        Some(signer) => Ok(format!("the proxy answers; connected to {}", signer.instance)),
        None => {
            Err("the emergency signer is not connected to the proxy; is `breakglass-signer serve` \
                     running?"
                .to_owned())
        }
    }
}

/// The emergency signer answers its operators, and is the one of the proxy.
fn signer(evidence: &Evidence) -> ConditionResult {
    let signer = evidence.signer.as_ref().map_err(Clone::clone)?;
    let of_proxy = evidence.proxy.as_ref().ok().and_then(|known| known.signer.as_ref());
    match of_proxy {
        Some(other) if other.instance != signer.instance => Err(format!(
            "at the operator socket answers {}, and the proxy is connected to {}: name the socket of that \
             one with --operator-socket",
            signer.instance, other.instance
        )),
        _ => Ok("the operator socket answers: a passphrase can be brought".to_owned()),
    }
}

/// The emergency signer itself says that a session could begin.
fn armable(evidence: &Evidence) -> ConditionResult {
    let signer = evidence.signer.as_ref().map_err(|_| unasked("the emergency signer"))?;
    if signer.cannot_arm.is_empty() {
        return Ok("the emergency signer could be armed".to_owned());
    }
    Err(signer.cannot_arm.join("; "))
}

/// The people can fill the roles now.
fn quorum_of(evidence: &Evidence) -> ConditionResult {
    let who = evidence.who.as_ref().map_err(Clone::clone)?;
    let rules = &who.settings.rules;
    let quorum::Found { mistakes, notes } = quorum::inspect(&who.approvers, rules, evidence.now);
    if !mistakes.is_empty() {
        return Err(mistakes.join("; "));
    }
    let can = rules.required_roles.iter().map(|role| {
        let who = quorum::who_can(&who.approvers, rules, role, evidence.now);
        (!who.is_empty()).then(|| format!("{role}: {}", who.join(", ")))
    });
    // Those whose keys count later only do not help now.
    let can: Option<Vec<_>> = can.collect();
    match can {
        Some(can) => Ok(can.join("; ")),
        None => Err(notes.join("; ")),
    }
}

/// The approvers file is what the emergency signer read at its start.
fn approvers_of(evidence: &Evidence) -> ConditionResult {
    let signer = evidence.signer.as_ref().map_err(|_| unasked("the emergency signer"))?;
    let who = evidence.who.as_ref().map_err(|_| unasked("--signer-config"))?;
    if who.deployment != signer.deployment {
        return Err(format!(
            "--signer-config is of the deployment {:?}, and the emergency signer belongs to {:?}",
            who.deployment, signer.deployment
        ));
    }
    if who.approvers.sha256() != signer.approvers_sha256 {
        return Err(
            "the approvers file is not the one that the emergency signer read at its start: an activation is \
             refused (approvers_changed); look who changed it, then restart breakglass-signer"
                .to_owned(),
        );
    }
    Ok("the approvers file is as the emergency signer read it".to_owned())
}

/// An emergency key is there, and the proxy, the emergency signer and the registry here mean the same one.
fn keys(evidence: &Evidence) -> ConditionResult {
    let usable = usable(evidence)?;
    let known = evidence.proxy.as_ref().map_err(|_| unasked("the proxy"))?;
    let registry = evidence.registry.as_ref().map_err(Clone::clone)?;
    let mut wrong = Vec::new();
    for EmergencyKey { kid, sha256, .. } in &usable {
        match known.emergency_keys_registered.get(kid) {
            Some(registered) if registered == sha256 => {}
            Some(_) => wrong.push(format!("the registry of the proxy has another key as {kid}")),
            None => wrong.push(format!(
                "the proxy knows no usable key {kid}: signctl breakglass register, or signctl signers add and \
                 signctl reload"
            )),
        }
        let here = registry.get(kid).filter(|signer| signer.purpose == Purpose::Breakglass);
        if here.is_none_or(|signer| signer.public_key.sha256_hex() != *sha256) {
            wrong.push(format!("--signers has another key as {kid}, or none for break-glass"));
        }
    }
    if wrong.is_empty() {
        Ok(format!("sealed and registered: {}", names(&usable)))
    } else {
        Err(wrong.join("; "))
    }
}

/// Each of them ends by itself, and not before a session could.
fn key_ends(evidence: &Evidence) -> ConditionResult {
    let usable = usable(evidence)?;
    let registry = evidence.registry.as_ref().map_err(Clone::clone)?;
    let longest = evidence.signer.as_ref().map_or(0, |signer| signer.session_max_s);
    let longest = Duration::seconds(i64::try_from(longest).unwrap_or(i64::MAX));
    let (mut wrong, mut right) = (Vec::new(), Vec::new());
    for EmergencyKey { kid, .. } in &usable {
        let end = registry.get(kid).and_then(|signer| signer.not_after);
        match end {
            None => {
                wrong.push(format!("{kid} has no \"notAfter\" in --signers: give its entry one"))
            }
            Some(end) if end <= evidence.now => {
                wrong.push(format!("{kid} ended at {}: make another key", shown(end)));
            }
            Some(end) if end < evidence.now.saturating_add(longest) => wrong.push(format!(
                "{kid} ends at {}, before the longest session would: make another key",
                shown(end)
            )),
            Some(end) => right.push(format!("{kid} counts until {}", shown(end))),
        }
    }
    if wrong.is_empty() { Ok(right.join("; ")) } else { Err(wrong.join("; ")) }
}

fn passphrase(opened: &BTreeMap<String, Result<(), String>>) -> ConditionResult {
    let shut: Vec<_> = opened
        .iter()
        .filter_map(|(kid, opened)| Some(format!("{kid}: {}", opened.as_ref().err()?)))
        .collect();
    match (opened.is_empty(), shut.is_empty()) {
        (true, _) => Err("there is no key that it could open".to_owned()),
        (false, true) => {
            Ok(format!("it opened {}", opened.keys().cloned().collect::<Vec<_>>().join(", ")))
        }
        (false, false) => Err(shut.join("; ")),
    }
}

/// Whoever verifies has the registry that is here.
fn copies(evidence: &Evidence) -> ConditionResult {
    let here = entries(evidence.registry.as_ref().map_err(Clone::clone)?);
    let different = evidence.copies.iter().filter_map(|(at, copy)| match copy {
        Err(why) => Some(format!("{at}: {why}")),
        Ok(copy) => {
            let there = entries(copy);
            let kids: BTreeSet<_> = here.keys().chain(there.keys()).collect();
            let differ: Vec<_> = kids
                .into_iter()
                .filter(|kid| here.get(*kid) != there.get(*kid))
                .map(String::as_str)
                .collect();
            (!differ.is_empty()).then(|| {
                format!(
                    "{at} has another entry, or none, for {}: replace that copy",
                    differ.join(", ")
                )
            })
        }
    });
    let different: Vec<_> = different.collect();
    if different.is_empty() {
        let places: Vec<_> = evidence.copies.iter().map(|(at, _)| at.as_str()).collect();
        return Ok(format!("the same entries as --signers: {}", places.join(", ")));
    }
    Err(different.join("; "))
}

/// What an entry says, in one form.
fn entries(registry: &Registry) -> BTreeMap<String, Value> {
    let document: registry::Document = registry.to_document();
    let entries = document.signers.into_iter().map(|entry| {
        let kid = entry.signer_kid.clone();
        (kid, serde_json::to_value(entry).unwrap_or_default())
    });
    entries.collect()
}

/// A request that one of them calls valid is valid for the others too.
fn clocks(evidence: &Evidence) -> ConditionResult {
    let wrong = evidence.clocks.iter().filter_map(|(whose, shown, here)| {
        let apart = match shown {
            Err(why) => return Some(format!("{whose}: {why}")),
            Ok(there) => (*there - *here).abs(),
        };
        (apart > APART_MAX).then(|| {
            format!(
                "the clock of {whose} and this machine's are {} s apart: set it",
                apart.whole_seconds()
            )
        })
    });
    let wrong: Vec<_> = wrong.collect();
    if wrong.is_empty() {
        let whose: Vec<_> = evidence.clocks.iter().map(|(whose, ..)| whose.as_str()).collect();
        return Ok(format!(
            "within {} s of this machine's: {}",
            APART_MAX.whole_seconds(),
            whose.join(", ")
        ));
    }
    Err(wrong.join("; "))
}

/// The largest session fits into both journals.
fn disks(evidence: &Evidence) -> ConditionResult {
    let most = evidence.signer.as_ref().map_or(0, |signer| signer.signatures_max);
    let needed = room_bytes(most);
    let wrong = evidence.disks.iter().filter_map(|(directory, free)| match free {
        Err(why) => Some(format!("{}: {why}", directory.display())),
        Ok(free) if *free < needed => Some(format!(
            "{} has {} MiB free, and {} MiB are needed for {most} signatures: make room",
            directory.display(),
            free >> 20,
            needed >> 20
        )),
        Ok(_) => None,
    });
    let wrong: Vec<_> = wrong.collect();
    if wrong.is_empty() {
        Ok(format!("{} MiB are free for each journal", needed >> 20))
    } else {
        Err(wrong.join("; "))
    }
}

/// Nothing that is in force now would refuse the activation.
fn free(evidence: &Evidence) -> ConditionResult {
    let known = evidence.proxy.as_ref().map_err(|_| unasked("the proxy"))?;
    let held = evidence.signer.as_ref().ok().and_then(|signer| signer.session.as_ref());
    let in_force = known.session.as_ref().map(|one| one.session.as_str());
    if let Some(session) = in_force.or(held.map(|one| one.session.as_str())) {
        return Err(format!("the session {session} is in force, and there is one at a time"));
    }
    match &known.freeze {
        Some(freeze) if freeze.of_fleet => Err(format!(
            "the fleet stops this proxy ({}), and no session begins until that has ended",
            freeze.reason
        )),
        Some(freeze) => match freeze.id {
            Some(id) => {
                Ok(format!("no session is in force; a request has to name the freeze {id}"))
            }
            None => {
                Err("the freeze in force has no name, so that no request can name it: freeze again"
                    .to_owned())
            }
        },
        None => Ok("no session and no freeze is in force".to_owned()),
    }
}

/// The keys that a session could open.
fn usable(evidence: &Evidence) -> Result<Vec<&EmergencyKey>, String> {
    let signer = evidence.signer.as_ref().map_err(|_| unasked("the emergency signer"))?;
    let usable: Vec<_> = signer
        .keys
        .iter()
        .filter(|key| matches!(key.state, KeyState::Sealed | KeyState::Open))
        .collect();
    if usable.is_empty() {
        let all: Vec<_> =
            signer.keys.iter().map(|key| format!("{} is {}", key.kid, key.state.word())).collect();
        return Err(format!("no emergency key is sealed and ready: {}", all.join(", ")));
    }
    Ok(usable)
}

fn names(keys: &[&EmergencyKey]) -> String {
    keys.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>().join(", ")
}

fn unasked(whom: &str) -> String {
    format!("not known, since {whom} could not be asked")
}

fn shown(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

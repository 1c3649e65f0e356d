//! Whether the people of the approvers file can fill the roles that have to approve a break-glass
//! request: found when there is time to mend it, and not by two people in an outage.

use std::collections::{BTreeMap, BTreeSet};

use host::clock::rfc3339_seconds;
use signing_core::breakglass::activation::{ApprovalRules, can_fill};
use signing_core::breakglass::{APPROVALS_MAX, NAMESPACE};
use ssh_key::public::KeyData;
use time::OffsetDateTime;

use crate::file::{Approver, Approvers};

/// Sizes of RSA keys: smaller ones are not verified, and the approval of a larger one is too long.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=5120;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Why nothing can ever be approved.
    pub mistakes: Vec<String>,
    /// What is not in the way now.
    pub notes: Vec<String>,
}

/// People who cannot approve, and roles that those who can do not fill.
#[must_use]
pub fn inspect(approvers: &Approvers, rules: &ApprovalRules, now: OffsetDateTime) -> Found {
    let mut found = Found::default();
    let people = people(approvers, rules, now);
    let required: Vec<&str> = rules.required_roles.iter().map(String::as_str).collect();
    if required.len() > APPROVALS_MAX {
        found.mistakes.push(format!(
            "approvers.required_roles: names {} roles, and a request has {APPROVALS_MAX} approvals at \
             most; name fewer",
            required.len()
        ));
    }
    let dead = people.iter().flat_map(|(principal, person)| {
        let said = move |why: &String| format!("approvers.file: a key of {principal} {why}");
        person.dead.iter().map(said)
    });
    let filled_by = |counts: fn(&Person) -> bool| {
        let able: Vec<_> =
            people.values().filter(|one| counts(one)).map(|one| &one.roles).collect();
        can_fill(&required, &able)
    };
    // As long as others fill the roles, a key that never counts is in nobody's way.
    if filled_by(|one| one.is_able()) {
        found.notes.extend(dead);
    } else {
        found.mistakes.extend(dead);
        let who = required.iter().map(|role| {
            let able = people.iter().filter(|(_, one)| one.is_able() && one.roles.contains(*role));
            let names: Vec<_> = able.map(|(principal, _)| *principal).collect();
            let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            format!("{role}: {names}")
        });
        found.mistakes.push(format!(
            "approvers.roles: the roles cannot be filled by a person each, so nothing is ever approved \
             (who can approve: {}); give each role a person of its own",
            who.collect::<Vec<_>>().join("; ")
        ));
    }
    if filled_by(|one| one.is_able()) && !filled_by(|one| one.counts) {
        let from = people.values().filter(|one| !one.counts).filter_map(|one| one.later).max();
        let from = from.map(rfc3339_seconds).unwrap_or_default();
        found.notes.push(format!(
            "approvers.file: until {from} (valid-after) too few keys count to approve anything"
        ));
    }
    found
}

/// Who can approve for `role` now, by name.
#[must_use]
pub fn who_can<'a>(
    approvers: &'a Approvers,
    rules: &ApprovalRules,
    role: &str,
    now: OffsetDateTime,
) -> Vec<&'a str> {
    let people = people(approvers, rules, now);
    let able = people.into_iter().filter(|(_, one)| one.counts && one.roles.contains(role));
    able.map(|(principal, _)| principal).collect()
}

/// Somebody with a role, and what their lines of the approvers file are worth.
#[derive(Default)]
struct Person {
    roles: BTreeSet<String>,
    /// One line at least counts now.
    counts: bool,
    /// Else: from when on one does.
    later: Option<OffsetDateTime>,
    /// Why the others never do.
    dead: Vec<String>,
}

impl Person {
    /// Whether they can approve, now or later.
    fn is_able(&self) -> bool {
        self.counts || self.later.is_some()
    }
}

fn people<'a>(
    approvers: &'a Approvers,
    rules: &ApprovalRules,
    now: OffsetDateTime,
) -> BTreeMap<&'a str, Person> {
    let mut people: BTreeMap<&str, Person> = BTreeMap::new();
    for (_, approver) in approvers.iter().filter(|(_, one)| !one.roles.is_empty()) {
        let person = people.entry(&approver.principal).or_default();
        person.roles.clone_from(&approver.roles);
        let never = can_ever_count(approver, rules, now);
        match (never, approver.counts_later(now)) {
            (Err(why), _) => person.dead.push(why),
            (Ok(()), None) => person.counts = true,
            (Ok(()), Some(from)) => {
                person.later = Some(person.later.map_or(from, |other| other.min(from)));
            }
        }
    }
    people
}

/// Whether an approval by that line's key counts at any time from now on.
fn can_ever_count(
    approver: &Approver,
    rules: &ApprovalRules,
    now: OffsetDateTime,
) -> Result<(), String> {
    let kind = approver.key.algorithm();
    match approver.key.key_data() {
        KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => {}
        KeyData::Rsa(key) if !RSA_BITS.contains(&key.key_size()) => {
            return Err(format!(
                "has {} bits of RSA, and approvals are by keys of {} to {}; use ssh-keygen -t ed25519",
                key.key_size(),
                RSA_BITS.start(),
                RSA_BITS.end()
            ));
        }
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::Rsa(_) => {
            let required = match (rules.hardware_required, rules.pin_required) {
                (true, _) => "hardware_required",
                (false, true) => "pin_required",
                (false, false) => "",
            };
            if !required.is_empty() {
                return Err(format!(
                    "is of the kind {kind}, a key in a file, and approvers.{required} = true; use a \
                     hardware key (ssh-keygen -t ed25519-sk), or set {required} = false"
                ));
            }
        }
        KeyData::Dsa(_) | KeyData::Certificate(_) | KeyData::Other(_) => {
            return Err(format!(
                "is of the kind {kind}, whose approvals are not taken; use ssh-keygen -t ed25519-sk"
            ));
        }
        // What a newer library reads is not verified here.
        _ => return Err(format!("is of the kind {kind}, whose approvals are not taken")),
    }
    approver.may_ever_approve(NAMESPACE, now)
}

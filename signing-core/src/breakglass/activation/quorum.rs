//! Who approved: different people, with different keys, in every role that is required.

use std::collections::BTreeSet;

use super::{Clause, NotActivated, no};
use crate::journal::Approved;
use crate::registry::Registry;

/// A signature over the request that verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Who, by the approvers file.
    pub principal: String,
    /// Which roles that person has.
    pub roles: BTreeSet<String>,
    /// The key: `SHA256:...`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// The algorithm's name in OpenSSH.
    pub algorithm: String,
    /// SHA-256 of the key as a DER SubjectPublicKeyInfo, in hex, if it could be a
    /// registered key.
    pub key_sha256: Option<String>,
    /// What a hardware key said about the person before it. None: it is a file.
    pub hardware: Option<Hardware>,
}

/// What a hardware key signs beside the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// Somebody touched it (user presence).
    pub touched: bool,
    /// It asked for a PIN or a finger (user verification).
    pub verified: bool,
    /// How many signatures it has made.
    pub counter: u32,
}

/// What approvals have to be. Configuration tightens it: for break-glass there are at least two roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRules {
    /// Roles that have to approve, each by a person of its own.
    pub required_roles: BTreeSet<String>,
    /// Only hardware keys count.
    pub hardware_required: bool,
    /// Only touched ones.
    pub touch_required: bool,
    /// Only those that asked for a PIN.
    pub pin_required: bool,
}

/// The approvals, if they are enough.
pub(super) fn judge(
    given: &[Result<Approval, String>],
    rules: &ApprovalRules,
    registry: &Registry,
) -> Result<Vec<Approval>, NotActivated> {
    let mut approvals: Vec<Approval> = Vec::new();
    for (number, given) in (1..).zip(given) {
        let approval = given.as_ref().map_err(|why| {
            no(Clause::Approval, format!("approval {number} does not count: {why}"))
        })?;
        is_hardware_enough(approval, rules)?;
        is_disjoint(approval, registry)?;
        distinct(approval, &approvals)?;
        approvals.push(approval.clone());
    }
    let roles: Vec<&str> = rules.required_roles.iter().map(String::as_str).collect();
    let people: Vec<&BTreeSet<String>> = approvals.iter().map(|one| &one.roles).collect();
    // Two, whatever a configuration says.
    if approvals.len() < 2 || roles.len() < 2 || !can_fill(&roles, &people) {
        let who: Vec<_> = approvals.iter().map(Approval::who).collect();
        let who = if who.is_empty() { "nobody".to_owned() } else { who.join(", ") };
        let why = format!(
            "approved by {who}, and the roles {} have to approve, each by a different person; \
             have the request signed by the others: ssh-keygen -Y sign -n {} -f KEY FILE",
            roles.join(" and "),
            crate::breakglass::NAMESPACE
        );
        return Err(no(Clause::RoleMissing, why));
    }
    Ok(approvals)
}

/// Whether one approval counts by itself: by a key of the kind that is required, of nobody's registered
/// key, and by somebody whose role has to approve. Whether that is enough is for [`super::decide`] to say.
///
/// # Errors
/// The first clause that does not hold.
pub fn counts(
    approval: &Approval,
    rules: &ApprovalRules,
    registry: &Registry,
) -> Result<(), NotActivated> {
    is_hardware_enough(approval, rules)?;
    is_disjoint(approval, registry)?;
    if !approval.roles.is_disjoint(&rules.required_roles) {
        return Ok(());
    }
    let roles: Vec<_> = rules.required_roles.iter().map(String::as_str).collect();
    let why = format!(
        "{} approved, and has none of the roles that have to approve: {}",
        approval.who(),
        roles.join(", ")
    );
    Err(no(Clause::RoleMissing, why))
}

/// The roles of `required` that no person is left for, if `approvals` are placed as well as can be.
#[must_use]
pub fn missing_roles<'r>(required: &'r BTreeSet<String>, approvals: &[&Approval]) -> Vec<&'r str> {
    let people: Vec<_> = approvals.iter().map(|approval| &approval.roles).collect();
    let (mut filled, mut missing): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for role in required {
        filled.push(role);
        if !can_fill(&filled, &people) {
            filled.pop();
            missing.push(role);
        }
    }
    missing
}

impl Approval {
    /// `alice@example.org (Security)`.
    #[must_use]
    pub fn who(&self) -> String {
        let roles: Vec<_> = self.roles.iter().map(String::as_str).collect();
        format!("{} ({})", self.principal, roles.join(", "))
    }
}

impl<'r> From<&'r Approval> for Approved<'r> {
    fn from(approval: &'r Approval) -> Self {
        let hardware = approval.hardware.as_ref();
        Self {
            algorithm: &approval.algorithm,
            counter: hardware.map(|hardware| hardware.counter),
            fingerprint: &approval.fingerprint,
            principal: &approval.principal,
            roles: approval.roles.iter().map(String::as_str).collect(),
            touched: hardware.map(|hardware| hardware.touched),
            verified: hardware.map(|hardware| hardware.verified),
        }
    }
}

/// Whether the key is of the kind that is required.
pub(crate) fn is_hardware_enough(
    approval: &Approval,
    rules: &ApprovalRules,
) -> Result<(), NotActivated> {
    let Approval { principal, fingerprint, .. } = approval;
    let Some(Hardware { touched, verified, .. }) = approval.hardware else {
        if rules.hardware_required || rules.pin_required {
            let why = format!(
                "the approval of {principal} is by {fingerprint}, a key in a file; hardware keys are \
                 required here (hardware_required): ssh-keygen -t ed25519-sk"
            );
            return Err(no(Clause::SoftwareKey, why));
        }
        return Ok(());
    };
    if rules.touch_required && !touched {
        let why = format!(
            "the approval of {principal} was made without touching the hardware key {fingerprint}; \
             make the key without no-touch-required, and sign again"
        );
        return Err(no(Clause::NoTouch, why));
    }
    if rules.pin_required && !verified {
        let why = format!(
            "the hardware key {fingerprint} of {principal} asked for no PIN; make one that does: \
             ssh-keygen -t ed25519-sk -O verify-required"
        );
        return Err(no(Clause::NoPin, why));
    }
    Ok(())
}

/// A registered key could sign, as somebody's message, what looks like an approval.
pub(crate) fn is_disjoint(approval: &Approval, registry: &Registry) -> Result<(), NotActivated> {
    let sha256 = approval.key_sha256.as_deref();
    let twin = registry.iter().find(|signer| Some(&*signer.public_key.sha256_hex()) == sha256);
    match twin {
        None => Ok(()),
        Some(signer) => {
            let why = format!(
                "the approval of {} is by the registered key {}; keys of different purposes are \
                 disjoint, so give the approver another one",
                approval.principal, signer.kid
            );
            Err(no(Clause::KeysNotDisjoint, why))
        }
    }
}

fn distinct(approval: &Approval, others: &[Approval]) -> Result<(), NotActivated> {
    let is_same = |other: &&Approval| {
        let same_point = other.key_sha256.is_some() && other.key_sha256 == approval.key_sha256;
        other.fingerprint == approval.fingerprint || same_point
    };
    if let Some(other) = others.iter().find(is_same) {
        let why = format!(
            "{} and {} approved with the same key, {}; each person has a key of their own",
            other.principal, approval.principal, approval.fingerprint
        );
        return Err(no(Clause::SameKey, why));
    }
    if others.iter().any(|other| person(&other.principal) == person(&approval.principal)) {
        let why = format!(
            "{} approved twice; the second approval has to be another person's",
            approval.principal
        );
        return Err(no(Clause::SamePerson, why));
    }
    Ok(())
}

/// Who a principal is: neither the case of its letters nor a dot at its end makes another person.
#[must_use]
pub fn person(principal: &str) -> String {
    principal.trim_end_matches('.').to_lowercase()
}

/// Whether every role finds a person of its own, by the roles that each person has: a matching, in
/// which a person who was placed may give way to another role.
#[must_use]
pub fn can_fill(roles: &[&str], people: &[&BTreeSet<String>]) -> bool {
    let mut placed = vec![None; people.len()];
    roles.iter().all(|role| {
        let mut asked = vec![false; people.len()];
        place(role, people, &mut placed, &mut asked)
    })
}

fn place<'r>(
    role: &'r str,
    people: &[&BTreeSet<String>],
    placed: &mut [Option<&'r str>],
    asked: &mut [bool],
) -> bool {
    for (at, person) in people.iter().enumerate() {
        // Whoever does not have this role is still to be asked for another one.
        let is_asked = person.contains(role)
            && asked.get_mut(at).is_some_and(|asked| !std::mem::replace(asked, true));
        if !is_asked {
            continue;
        }
        let held = placed.get(at).copied().flatten();
        if held.is_none_or(|other| place(other, people, placed, asked)) {
            if let Some(place) = placed.get_mut(at) {
                *place = Some(role);
            }
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_finds_a_person_of_its_own_or_there_is_no_quorum() {
        let people = |of: &[&[&str]]| -> Vec<BTreeSet<String>> {
            of.iter().map(|roles| roles.iter().map(ToString::to_string).collect()).collect()
        };
        for (roles, of, expected) in [
            (&["F", "S"][..], &[&["S"][..], &["F"]][..], true),
            (&["F", "S"], &[&["F", "S"], &["F"]], true),
            (&["F", "S"], &[&["F"], &["F", "S"]], true),
            (&["F", "S"], &[&["F", "S"]], false),
            (&["F", "S"], &[&["F"], &["F"]], false),
            (&["F", "L", "S"], &[&["F", "L", "S"], &["F", "L"], &["F"]], true),
            (&["F", "L", "S"], &[&["F", "L"], &["F", "L"], &["F", "L"]], false),
            (&["F", "S"], &[], false),
        ] {
            let people = people(of);
            let people: Vec<_> = people.iter().collect();
            assert_eq!(can_fill(roles, &people), expected, "{roles:?} of {of:?}");
        }
    }

    /// Every way to give up to three people any of three roles, beside a search that forgets nothing.
    #[test]
    fn a_quorum_is_found_whenever_there_is_one() {
        fn search(roles: &[&str], free: &[&BTreeSet<String>]) -> bool {
            let Some((role, rest)) = roles.split_first() else { return true };
            (0..free.len()).filter(|at| free[*at].contains(*role)).any(|at| {
                let others = [&free[..at], &free[at + 1..]].concat();
                search(rest, &others)
            })
        }
        const ROLES: [&str; 3] = ["F", "L", "S"];
        let some = |bits: usize| -> BTreeSet<String> {
            let held = (0..3).filter(|bit| bits >> bit & 1 == 1);
            held.map(|bit| ROLES[bit].to_owned()).collect()
        };
        let all: Vec<_> = (0..8).map(some).collect();
        for bits in 0..8 * 8 * 8 * 4 {
            let people = [bits & 7, bits >> 3 & 7, bits >> 6 & 7].map(|bits| &all[bits]);
            let people = &people[..bits >> 9];
            for roles in [&ROLES[..2], &ROLES[1..], &ROLES] {
                assert_eq!(
                    can_fill(roles, people),
                    search(roles, people),
                    "{roles:?} of {people:?}"
                );
            }
        }
    }

    #[test]
    fn a_role_is_missing_until_a_person_of_its_own_has_approved() {
        let by = |principal: &str, roles: &[&str]| Approval {
            principal: principal.to_owned(),
            roles: roles.iter().map(ToString::to_string).collect(),
            fingerprint: principal.to_owned(),
            algorithm: String::new(),
            key_sha256: None,
            hardware: None,
        };
        let required: BTreeSet<String> = ["F", "S"].map(str::to_owned).into();
        let (both, finance, other) = (by("a", &["F", "S"]), by("b", &["F"]), by("c", &["X"]));
        for (given, expected) in [
            (&[][..], &["F", "S"][..]),
            (&[&finance], &["S"]),
            (&[&both], &["S"]),
            (&[&both, &finance], &[]),
            (&[&finance, &both], &[]),
            (&[&finance, &finance, &other], &["S"]),
        ] {
            assert_eq!(missing_roles(&required, given), expected, "{given:?}");
        }
    }

    #[test]
    fn i5_one_person_in_two_spellings_is_one() {
        let by = |principal: &str, fingerprint: &str| Approval {
            principal: principal.to_owned(),
            roles: BTreeSet::new(),
            fingerprint: fingerprint.to_owned(),
            algorithm: String::new(),
            key_sha256: None,
            hardware: None,
        };
        let alice = [by("alice@a.example", "1")];
        for (other, expected) in [
            ("bob@a.example", true),
            ("alice@b.example", true),
            ("alice@a.example", false),
            ("Alice@a.example", false),
            ("ALICE@A.EXAMPLE", false),
            ("alice@a.example.", false),
        ] {
            assert_eq!(distinct(&by(other, "2"), &alice).is_ok(), expected, "{other}");
        }
    }

    #[test]
    fn i8_many_people_who_can_not_fill_the_roles_are_found_out_at_once() {
        let everything: BTreeSet<String> = ["A", "B", "C"].map(str::to_owned).into();
        let people = vec![&everything; 2000];
        assert!(!can_fill(&["A", "B", "C", "D"], &people));
    }
}

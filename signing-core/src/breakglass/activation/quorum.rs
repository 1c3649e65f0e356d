//! Who approved: different people, with different keys, in every role that is required.

use std::collections::BTreeSet;

use super::{Clause, NotActivated, no};
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

/// What approvals have to be. Configuration tightens it: there are at least two roles.
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
        hardware(approval, rules)?;
        disjoint(approval, registry)?;
        distinct(approval, &approvals)?;
        approvals.push(approval.clone());
    }
    let roles: Vec<&str> = rules.required_roles.iter().map(String::as_str).collect();
    let free: Vec<&Approval> = approvals.iter().collect();
    // Two, whatever a configuration says.
    if approvals.len() < 2 || roles.len() < 2 || !covers(&roles, &free) {
        let who: Vec<_> = approvals.iter().map(Approval::who).collect();
        let who = if who.is_empty() { "nobody".to_owned() } else { who.join(", ") };
        let why = format!(
            "approved by {who}, and the roles {} have to approve, each by a person of its own; \
             have the request signed by the others: ssh-keygen -Y sign -n {} -f KEY FILE",
            roles.join(" and "),
            crate::breakglass::NAMESPACE
        );
        return Err(no(Clause::RoleMissing, why));
    }
    Ok(approvals)
}

impl Approval {
    /// `alice@example.org (Security)`.
    #[must_use]
    pub fn who(&self) -> String {
        let roles: Vec<_> = self.roles.iter().map(String::as_str).collect();
        format!("{} ({})", self.principal, roles.join(", "))
    }
}

fn hardware(approval: &Approval, rules: &ApprovalRules) -> Result<(), NotActivated> {
    let Approval { principal, fingerprint, .. } = approval;
    let Some(Hardware { touched, verified, .. }) = approval.hardware else {
        if rules.hardware_required || rules.pin_required {
            let why = format!(
                "the approval of {principal} is by {fingerprint}, a key in a file; hardware keys are \
                 required here (approvers.hardware_required): ssh-keygen -t ed25519-sk"
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
fn disjoint(approval: &Approval, registry: &Registry) -> Result<(), NotActivated> {
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
    if let Some(other) = others.iter().find(|other| other.fingerprint == approval.fingerprint) {
        let why = format!(
            "{} and {} approved with the same key, {}; each person has a key of their own",
            other.principal, approval.principal, approval.fingerprint
        );
        return Err(no(Clause::SameKey, why));
    }
    if others.iter().any(|other| other.principal == approval.principal) {
        let why = format!(
            "{} approved twice; the second approval has to be another person's",
            approval.principal
        );
        return Err(no(Clause::SamePerson, why));
    }
    Ok(())
}

/// Whether every role finds a person of its own. There are few of both.
fn covers(roles: &[&str], free: &[&Approval]) -> bool {
    let Some((role, rest)) = roles.split_first() else { return true };
    free.iter().enumerate().filter(|(_, one)| one.roles.contains(*role)).any(|(taken, _)| {
        let others: Vec<&Approval> =
            free.iter().enumerate().filter(|(at, _)| *at != taken).map(|(_, one)| *one).collect();
        covers(rest, &others)
    })
}

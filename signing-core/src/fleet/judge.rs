//! Whether a statement counts: every clause by its name, over evidence that others gathered. Whoever
//! writes the database can write any bytes; nothing here believes where they come from.

use std::time::Duration;

use time::OffsetDateTime;

use super::statement::{NAMESPACE, Statement, StatementError};
use crate::breakglass::activation::{Approval, ApprovalRules, is_disjoint, is_hardware_enough};
use crate::instant::shown;
use crate::registry::Registry;

/// The longest that a statement may count.
pub const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// How far this machine's clock may be behind the clock of whoever wrote the statement.
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Which clause does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clause {
    /// The document is a statement, whole and well formed.
    Statement,
    /// It is for this fleet.
    Fleet,
    /// The approvers file is as it was at the start.
    ApproversChanged,
    /// It is signed over these bytes, in our namespace, by somebody in the approvers file.
    Signature,
    /// The key is a hardware key that was touched and asked for a PIN, where that is required, and is
    /// no registered key.
    Key,
    /// Whoever signed has the role.
    Role,
    /// Its time has come.
    NotYetValid,
    /// Its time is not over.
    Expired,
    /// Its lifetime is no longer than any statement's.
    LifetimeTooLong,
}

/// A clause that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct NotVerified {
    /// The clause that does not hold.
    pub clause: Clause,
    /// Why, and what to do.
    pub sentence: String,
}

/// What is known of a statement when it is presented.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'e> {
    /// The document, read.
    pub statement: Result<&'e Statement, &'e StatementError>,
    /// Who signed its bytes, or why the signature does not count.
    pub signed: Result<&'e Approval, &'e str>,
    /// Whether the approvers file is as it was at the start.
    pub approvers_unchanged: bool,
    /// The roles that end freezes, any of which is enough, and what keys have to be.
    pub rules: &'e ApprovalRules,
    /// This fleet's name, which the statement has to name.
    pub fleet: &'e str,
    /// The registry: no approver's key is in it.
    pub registry: &'e Registry,
    /// The calendar.
    pub now: OffsetDateTime,
}

/// Proof that a person of the configured role signed a statement that counts now. It is not `Clone`,
/// and only [`judge`] makes one:
///
/// ```compile_fail
/// fn forge(statement: signing_core::fleet::Statement) -> signing_core::fleet::Verified {
///     signing_core::fleet::Verified { statement, approval: todo!() }
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Verified {
    statement: Statement,
    approval: Approval,
}

impl Verified {
    /// The statement.
    #[must_use]
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Who signed it.
    #[must_use]
    pub fn approval(&self) -> &Approval {
        &self.approval
    }
}

/// Judges a statement.
///
/// # Errors
/// The first clause that does not hold.
pub fn judge(evidence: &Evidence<'_>) -> Result<Verified, NotVerified> {
    let statement = evidence.statement.map_err(|error| no(Clause::Statement, error.to_string()))?;
    if statement.fleet() != evidence.fleet {
        let why = format!(
            "it is for the fleet {:?}, and this member is of {:?}; write one for this fleet",
            statement.fleet(),
            evidence.fleet
        );
        return Err(no(Clause::Fleet, why));
    }
    if !evidence.approvers_unchanged {
        let why = "the approvers file has changed since the start, so nobody can sign; restart this \
                   proxy after the change was looked at";
        return Err(no(Clause::ApproversChanged, why.to_owned()));
    }
    let approval = evidence
        .signed
        .map_err(|why| no(Clause::Signature, format!("its signature does not count: {why}")))?;
    for holds in
        [is_hardware_enough(approval, evidence.rules), is_disjoint(approval, evidence.registry)]
    {
        holds.map_err(|error| no(Clause::Key, error.sentence))?;
    }
    has_role(approval, evidence.rules)?;
    times(statement, evidence.now)?;
    Ok(Verified { statement: statement.clone(), approval: approval.clone() })
}

fn has_role(approval: &Approval, rules: &ApprovalRules) -> Result<(), NotVerified> {
    if !approval.roles.is_disjoint(&rules.required_roles) {
        return Ok(());
    }
    let roles: Vec<_> = rules.required_roles.iter().map(String::as_str).collect();
    let why = format!(
        "it is signed by {}, and a freeze of the fleet ends by the role {}; have it signed by \
         somebody who has that role: ssh-keygen -Y sign -n {NAMESPACE} -f KEY FILE",
        approval.who(),
        roles.join(" or ")
    );
    Err(no(Clause::Role, why))
}

fn times(statement: &Statement, now: OffsetDateTime) -> Result<(), NotVerified> {
    let (issued, expires) = (statement.issued_at(), statement.expires_at());
    if expires - issued > LIFETIME_MAX {
        let why = format!(
            "it counts from {} until {}, and a statement counts for {} h at most; write one that \
             expires earlier",
            shown(issued),
            shown(expires),
            LIFETIME_MAX.as_secs() / 3600
        );
        return Err(no(Clause::LifetimeTooLong, why));
    }
    if issued > now + CLOCK_SKEW {
        let why = format!(
            "it was written at {}, and it is {} by this machine's clock; set the clock, then present \
             it again",
            shown(issued),
            shown(now)
        );
        return Err(no(Clause::NotYetValid, why));
    }
    if now >= expires {
        let why = format!(
            "it expired at {}, and it is {}; write a new one and have it signed",
            shown(expires),
            shown(now)
        );
        return Err(no(Clause::Expired, why));
    }
    Ok(())
}

fn no(clause: Clause, sentence: String) -> NotVerified {
    NotVerified { clause, sentence }
}

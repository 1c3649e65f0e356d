//! People who sign statements, and signatures that are only as good as who made them over which bytes.

use std::collections::BTreeSet;

use signing_core::breakglass::activation::{Approval, ApprovalRules};
use signing_core::fleet::{self, Draft, Evidence, FreezeId, NotVerified, Statement, Verified};
use signing_core::{Registry, fleet::TYPE};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::{entry, signers_json};

/// The fleet of all tests.
pub(crate) const FLEET: &str = "payments";
/// The calendar, in seconds since 1970.
pub(crate) const NOW: i64 = 1_800_000_000;

/// Who signed which bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) by: &'static str,
    pub(crate) role: &'static str,
    pub(crate) over: Vec<u8>,
}

pub(crate) fn when(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

pub(crate) fn id(number: u8) -> FreezeId {
    FreezeId::new([number; 16])
}

pub(crate) fn draft(ends: &[FreezeId], issued: i64, lifetime: i64) -> Draft {
    Draft {
        r#type: TYPE.to_owned(),
        fleet: FLEET.to_owned(),
        ends: ends.iter().map(ToString::to_string).collect(),
        reason: "KMS is well again".to_owned(),
        issued_at: when(issued).format(&Rfc3339).unwrap(),
        expires_at: when(issued + lifetime).format(&Rfc3339).unwrap(),
    }
}

pub(crate) fn rules() -> ApprovalRules {
    ApprovalRules {
        required_roles: BTreeSet::from(["Security".to_owned()]),
        hardware_required: false,
        touch_required: false,
        pin_required: false,
    }
}

pub(crate) fn registry() -> Registry {
    Registry::from_json(&signers_json(&[entry("ledger", 1)])).unwrap()
}

impl Signature {
    pub(crate) fn of(by: &'static str, role: &'static str, over: &[u8]) -> Self {
        Self { by, role, over: over.to_vec() }
    }

    /// What the verification of SSHSIG comes to: a signature over other bytes does not verify.
    pub(crate) fn verified(&self, bytes: &[u8]) -> Result<Approval, String> {
        if self.over != bytes {
            return Err(format!("the signature of {} does not verify over these bytes", self.by));
        }
        Ok(Approval {
            principal: self.by.to_owned(),
            roles: BTreeSet::from([self.role.to_owned()]),
            fingerprint: format!("SHA256:{}", self.by),
            algorithm: "ssh-ed25519".to_owned(),
            key_sha256: None,
            hardware: None,
        })
    }
}

/// Judges bytes and their signature, as a member does.
pub(crate) fn judged(
    bytes: &[u8],
    signature: &Signature,
    registry: &Registry,
    now: OffsetDateTime,
) -> Result<Verified, NotVerified> {
    let (statement, signed) = (Statement::parse(bytes), signature.verified(bytes));
    fleet::judge(&Evidence {
        statement: statement.as_ref(),
        signed: signed.as_ref().map_err(String::as_str),
        approvers_unchanged: true,
        rules: &rules(),
        fleet: FLEET,
        registry,
        now,
    })
}

//! A request that everything is right with, and the evidence around it.

use std::collections::BTreeSet;
use std::time::Duration;

use signing_core::breakglass::activation::{self, Approval, ApprovalRules, Evidence, Hardware};
use signing_core::breakglass::wire::OutageClaim;
use signing_core::breakglass::{Activation, Caps, Draft, NotActivated, Request};
use signing_core::{FreezeId, Registry};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::request::draft;
use crate::support::{entry, signers_json};

/// The calendar, in seconds since 1970.
pub(crate) const NOW: i64 = 1_800_000_000;

pub(crate) const CAPS: Caps = Caps {
    session_max: Duration::from_secs(14_400),
    signatures_max: 1000,
    signatures_per_second_max: 50,
};

pub(crate) struct World {
    pub(crate) draft: Draft,
    /// Instead of the draft's.
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) approvals: Vec<Result<Approval, String>>,
    pub(crate) unchanged: bool,
    pub(crate) rules: ApprovalRules,
    pub(crate) registry: Registry,
    pub(crate) held: BTreeSet<String>,
    pub(crate) destroyed: BTreeSet<String>,
    pub(crate) used: BTreeSet<String>,
    /// When its journal began.
    pub(crate) since: i64,
    pub(crate) latest: i64,
    pub(crate) sealed: Option<&'static str>,
    pub(crate) claims: Vec<OutageClaim>,
    /// The freeze that the proxy says is in force.
    pub(crate) freeze: Option<FreezeId>,
    pub(crate) active: Option<&'static str>,
    pub(crate) now: i64,
}

pub(crate) fn at(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap().format(&Rfc3339).unwrap()
}

pub(crate) fn approval(principal: &str, roles: &[&str], key: &str) -> Approval {
    Approval {
        principal: principal.to_owned(),
        roles: roles.iter().map(ToString::to_string).collect(),
        fingerprint: format!("SHA256:{key}"),
        algorithm: "ssh-ed25519".to_owned(),
        key_sha256: Some(key.repeat(64)),
        hardware: None,
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let registry = registry(None);
        let sha256 = registry.get("emergency").unwrap().public_key.sha256_hex();
        let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
        Self {
            draft: draft(sha256, ("payments", "spiffe://t/a"), now, 3600),
            bytes: None,
            approvals: vec![
                Ok(approval("alice", &["Security"], "a")),
                Ok(approval("bob", &["Finance"], "b")),
            ],
            unchanged: true,
            rules: ApprovalRules {
                required_roles: ["Security", "Finance"].map(str::to_owned).into(),
                hardware_required: false,
                touch_required: true,
                pin_required: false,
            },
            registry,
            held: ["emergency".to_owned()].into(),
            destroyed: BTreeSet::new(),
            used: BTreeSet::new(),
            claims: vec![OutageClaim {
                signer_kid: "payments".to_owned(),
                since: at(NOW - 3600),
                seconds: 3600,
            }],
            since: NOW,
            latest: NOW + 60,
            sealed: None,
            freeze: None,
            active: None,
            now: NOW,
        }
    }

    pub(crate) fn document(&self) -> Vec<u8> {
        self.bytes.clone().unwrap_or_else(|| serde_json::to_vec_pretty(&self.draft).unwrap())
    }

    pub(crate) fn decide(&self) -> Result<Activation, NotActivated> {
        let request = Request::parse(&self.document());
        activation::decide(&Evidence {
            request: request.as_ref(),
            approvals: &self.approvals,
            approvers_unchanged: self.unchanged,
            rules: &self.rules,
            audience: "test",
            instance: &"1".repeat(64),
            registry: &self.registry,
            held: &self.held,
            destroyed: &self.destroyed,
            nonces_used: &self.used,
            remembers_since: OffsetDateTime::from_unix_timestamp(self.since).unwrap(),
            latest: OffsetDateTime::from_unix_timestamp(self.latest).unwrap(),
            sealed: self.sealed,
            claims: &self.claims,
            freeze: self.freeze,
            min_outage: Duration::from_secs(1800),
            caps: &CAPS,
            active: self.active,
            now: OffsetDateTime::from_unix_timestamp(self.now).unwrap(),
        })
    }

    /// Both approvals are by hardware keys that say so.
    pub(crate) fn hardware(&mut self, hardware: Hardware) {
        for approval in self.approvals.iter_mut().flatten() {
            approval.hardware = Some(hardware);
        }
    }

    pub(crate) fn revoke(&mut self, kid: &str) {
        self.registry = registry(Some((kid, "revokedAt", "2026-01-01T00:00:00Z")));
    }

    pub(crate) fn signs_batches(&mut self, kid: &str) {
        self.registry = registry(Some((kid, "mode", "batch")));
    }
}

/// The registry, with one more member in one entry.
fn registry(more: Option<(&str, &str, &str)>) -> Registry {
    let entries =
        [("payments", 1, "signing"), ("ledger", 2, "signing"), ("emergency", 3, "breakglass")];
    let entries = entries.map(|(kid, seed, purpose)| {
        let mut entry = entry(kid, seed);
        entry["purpose"] = purpose.into();
        if let Some((_, name, value)) = more.filter(|(whose, ..)| *whose == kid) {
            entry[name] = value.into();
        }
        entry
    });
    Registry::from_json(&signers_json(&entries)).unwrap()
}

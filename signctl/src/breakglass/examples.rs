//! What a proxy and its emergency signer know in an outage, and what an approver knows, for tests.

use std::collections::BTreeMap;
use std::path::Path;

use approvers::{Approvers, Settings};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use signing_core::admin::breakglass::{Breakglass, Outage};
use signing_core::breakglass::activation::ApprovalRules;
use signing_core::breakglass::wire::{
    EmergencyKey, JournalHead, JournalRecord, KeyState, SessionState, State,
};

/// Two signers are out long enough, one is not yet, one is not out.
pub(super) fn known() -> Breakglass {
    Breakglass {
        configured: true,
        deployment: "d".to_owned(),
        now: Some("2026-01-01T01:00:00Z".to_owned()),
        callers: vec!["spiffe://t/a".to_owned()],
        signers: ["a", "b", "c", "well"].map(str::to_owned).into(),
        emergency_keys_registered: [("e".to_owned(), "1".repeat(64))].into(),
        min_outage_s: 1800,
        outages: vec![
            outage("a", "2026-01-01T00:00:00.042Z", 3599),
            outage("b", "2026-01-01T00:10:00.5Z", 2999),
            outage("c", "2026-01-01T00:50:00.042Z", 599),
        ],
        freeze: None,
        session: None,
        refused_signer: None,
        signer: Some(signer()),
    }
}

/// An outage whose clock runs.
pub(super) fn outage(kid: &str, since: &str, seconds: u64) -> Outage {
    Outage {
        signer_kid: kid.to_owned(),
        since: since.to_owned(),
        seconds,
        qualifies: seconds >= 1800,
        running: true,
    }
}

pub(super) fn key(kid: &str, sha256: &str, state: KeyState) -> EmergencyKey {
    EmergencyKey {
        kid: kid.to_owned(),
        algorithm: "ED25519_SHA_512".to_owned(),
        public_key: String::new(),
        sha256: sha256.repeat(64),
        state,
        destruction_due: None,
        destruction_overdue: false,
        copies_left: Vec::new(),
    }
}

/// A session that the signer holds.
pub(super) fn session() -> SessionState {
    SessionState {
        session: "INC-1-0a".to_owned(),
        incident: "INC-1".to_owned(),
        justification: "KMS is down".to_owned(),
        emergency_kid: "e".to_owned(),
        algorithm: "ED25519_SHA_512".to_owned(),
        public_key: String::new(),
        replaces: ["k", "l"].map(str::to_owned).into(),
        callers: vec!["spiffe://t/a".to_owned()],
        activated_at: "2026-11-25T00:00:26Z".to_owned(),
        expires_at: "2026-11-25T00:26:26Z".to_owned(),
        expires_in_ms: 60_000,
        remaining: 7,
        max_signatures: 9,
        under_freeze: None,
        approved_by: vec!["alice (Security)".to_owned()],
        record: JournalRecord { log: "0".repeat(32), seq: 1, leaf: "0".repeat(64) },
    }
}

fn signer() -> State {
    State {
        instance: "0".repeat(64),
        deployment: "d".to_owned(),
        signer_version: "0".to_owned(),
        audit_public_key: String::new(),
        audit_kid: "audit".to_owned(),
        head: JournalHead { log: "0".repeat(32), size: 1, root: "0".repeat(64) },
        sealed: None,
        refused_proxy: None,
        session: None,
        keys: vec![key("e", "1", KeyState::Sealed), key("old", "2", KeyState::Destroyed)],
        unlocked: false,
        min_outage_s: 1800,
        session_max_s: 14_400,
        signatures_max: 100_000,
        signatures_per_second_max: 100,
        required_roles: ["Security", "Finance"].map(str::to_owned).into(),
        approvers_sha256: "0".repeat(64),
        hardware_required: false,
        development: false,
        cannot_arm: Vec::new(),
    }
}

/// The public key of `seed`.
fn public(seed: u8) -> Vec<u8> {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap().public_key().as_ref().to_vec()
}

/// An entry of a registry.
pub(super) fn entry(kid: &str, purpose: &str, seed: u8) -> Value {
    json!({"signer_kid": kid, "algorithm": "ed25519", "publicKey": STANDARD.encode(public(seed)),
           "purpose": purpose})
}

/// A line of the approvers file.
fn line(principal: &str, seed: u8) -> String {
    let key = [&b"\0\0\0\x0bssh-ed25519\0\0\0\x20"[..], &public(seed)].concat();
    format!("{principal} ssh-ed25519 {}\n", STANDARD.encode(key))
}

/// Alice has to approve for Security, and Bob for Finance.
pub(super) fn approvers() -> (Settings, Approvers) {
    people(&[line("alice", 11), line("bob", 12)])
}

/// Nobody's key counts for Finance: Bob's has expired.
pub(super) fn approvers_without_finance() -> (Settings, Approvers) {
    let expired = "bob valid-before=\"20200101Z\" ";
    people(&[line("alice", 11), line("bob", 12).replacen("bob ", expired, 1)])
}

fn people(lines: &[String]) -> (Settings, Approvers) {
    let roles: BTreeMap<String, Vec<String>> = [("Finance", "bob"), ("Security", "alice")]
        .map(|(role, name)| (role.to_owned(), vec![name.to_owned()]))
        .into();
    let file = Path::new("approvers");
    let approvers = Approvers::parse("approvers", file, lines.concat().as_bytes(), &roles).unwrap();
    let rules = ApprovalRules {
        required_roles: roles.keys().cloned().collect(),
        hardware_required: false,
        touch_required: true,
        pin_required: false,
    };
    (Settings { file: file.to_owned(), roles, rules }, approvers)
}

//! The audit key of a proxy that a test starts.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::programs::repository;

/// The kid of every such key.
pub const AUDIT_KID: &str = "test-audit";

/// The registry's entry of the audit key in `file`, which is made if it is not there.
#[must_use]
pub fn audit_entry(file: &Path) -> Value {
    let pem = match std::fs::read_to_string(file) {
        Ok(pem) => pem,
        Err(_) => {
            // As openssl writes it, and reads it.
            let key = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
            let (label, key) = (concat!("PRIVATE", " KEY"), STANDARD.encode(key));
            let pem = format!("-----BEGIN {label}-----\n{key}\n-----END {label}-----\n");
            std::fs::write(file, &pem).unwrap();
            std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
            pem
        }
    };
    let key = KeyPair::from_pem(&pem).unwrap();
    json!({
        "signer_kid": AUDIT_KID,
        "algorithm": "ed25519",
        "public_key_pem": key.public_key_pem(),
        "purpose": "audit",
    })
}

/// The example's registry, with the audit key in `file` in place of the example's, whose
/// private part nobody has.
#[must_use]
pub fn example_registry(file: &Path) -> String {
    let example = std::fs::read(repository().join("config/signers.json")).unwrap();
    let mut registry: Value = serde_json::from_slice(&example).unwrap();
    let entries = registry["signers"].as_array_mut().unwrap();
    let audit = entries.iter_mut().find(|entry| entry["purpose"] == "audit").unwrap();
    audit["public_key_pem"] = audit_entry(file)["public_key_pem"].clone();
    registry.to_string()
}

//! A registry of Ed25519 signers.

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePublicKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;

/// The public key of `seed`, as PEM.
pub(crate) fn ed25519_pem(seed: u8) -> String {
    let key = SigningKey::from_bytes(&[seed; 32]).verifying_key();
    key.to_public_key_pem(LineEnding::LF).unwrap()
}

/// An entry of `signers.json`.
pub(crate) fn entry(kid: &str, seed: u8) -> serde_json::Value {
    serde_json::json!({
        "signer_kid": kid,
        "algorithm": "ed25519",
        "public_key_pem": ed25519_pem(seed),
    })
}

/// The text of `signers.json`.
pub(crate) fn signers_json(entries: &[serde_json::Value]) -> String {
    serde_json::json!({ "signers": entries }).to_string()
}

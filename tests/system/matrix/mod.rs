//! The matrix of faults: one named case for each way in which an upstream, a client or the
//! process itself fails. Each took effect, signed nothing wrongly, was refused for the
//! right reason, and left nothing behind: with it gone, all signs again without a restart.

mod client;
mod cut;
mod floods;
mod process;
mod upstream;

use std::process::Command;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::json;
use system_tests::programs::ours;
use system_tests::{Answer, Client, Key, World};

/// Asks for a signature of hi; None if the connection ended first.
async fn asked(client: &Client) -> Option<Answer> {
    let headers = [("content-type", "application/json")];
    let body = json!({"signer_kid": "ec", "message": "aGk="}).to_string();
    client.send(Method::POST, "/v1/sign", &headers, body).await.ok()
}

/// Whether each of `signatures` is `key`'s, of P-256, over hi.
fn all_verify(key: &Key, signatures: &[Vec<u8>]) {
    let base64: String = key.public_key_pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(base64).unwrap();
    // The point is what a P-256 SubjectPublicKeyInfo ends with.
    let point = &der[der.len() - 65..];
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
    for signature in signatures {
        key.verify(b"hi", signature).unwrap_or_else(|_| panic!("{signature:?} is no signature"));
    }
}

/// Whether the journal of a proxy that has stopped is whole.
fn verified_journal(world: &World) {
    let output = Command::new(ours("signctl"))
        .args(["audit", "verify", "--journal"])
        .arg(world.scratch.path("proxy/journal"))
        .arg("--signers")
        .arg(world.scratch.path("proxy/signers.json"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

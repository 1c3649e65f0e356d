//! What a consumer of signatures does: openssl and the registered public key,
//! nothing of ours. The openssl of this machine may know no ML-DSA: there aws-lc does it.

use aws_lc_rs::signature::{ML_DSA_44, ML_DSA_65, ML_DSA_87, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::kms::Key;
use crate::programs;
use crate::scratch::Scratch;

/// Whether `signature` is `key`'s over `message` under its own algorithm.
#[must_use]
pub fn verifies(key: &Key, message: &[u8], signature: &[u8]) -> bool {
    verifies_as(key, key.kind.algorithm(), message, signature)
}

/// Whether `signature` is `key`'s over `message` under the algorithm of that name
/// in AWS KMS.
#[must_use]
pub fn verifies_as(key: &Key, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
    verifies_under(&key.public_key_pem, algorithm, message, signature)
}

/// The same under a public key in PEM.
#[must_use]
pub fn verifies_under(pem: &str, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
    if algorithm == "ML_DSA_SHAKE_256" {
        return ml_dsa_verifies(pem, message, signature);
    }
    let scratch = Scratch::new();
    let public_key = scratch.write("key.pem", pem);
    let message = scratch.write("message", message);
    let signature = scratch.write("signature", signature);
    let mut openssl = programs::system("openssl");
    if algorithm == "ED25519_SHA_512" {
        openssl.args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"]);
        openssl.arg(public_key).arg("-in").arg(message).arg("-sigfile").arg(signature);
    } else {
        let hash = match algorithm.rsplit('_').next() {
            Some("256") => "-sha256",
            Some("384") => "-sha384",
            _ => "-sha512",
        };
        openssl.args(["dgst", hash]);
        if algorithm.contains("PSS") {
            openssl.args(["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]);
        }
        openssl.arg("-verify").arg(public_key).arg("-signature").arg(signature).arg(message);
    }
    openssl.output().unwrap().status.success()
}

/// The length of the key says its parameter set.
fn ml_dsa_verifies(pem: &str, message: &[u8], signature: &[u8]) -> bool {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let spki = STANDARD.decode(body).unwrap();
    let algorithm = match spki.len() {
        1334 => &ML_DSA_44,
        1974 => &ML_DSA_65,
        2614 => &ML_DSA_87,
        other => panic!("no ML-DSA key has a SubjectPublicKeyInfo of {other} bytes"),
    };
    UnparsedPublicKey::new(algorithm, spki).verify(message, signature).is_ok()
}

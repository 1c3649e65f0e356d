//! Key pairs of other implementations than the one that verifies.

use p256::pkcs8::EncodePublicKey as _;
use signing_core::key::{Batching, PublicKey, Purpose};
use signing_core::{Algorithm, Kid, Signer};

/// An Ed25519 key pair, and the registered signer it is.
pub(crate) fn ed25519(seed: u8) -> (ed25519_dalek::SigningKey, Signer) {
    let private = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
    let der = private.verifying_key().to_public_key_der().unwrap();
    (private, signer(der.as_bytes(), Algorithm::Ed25519Sha512))
}

/// A P-256 key pair, and the registered signer it is.
pub(crate) fn p256(seed: u8) -> (p256::ecdsa::SigningKey, Signer) {
    let private = p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap();
    let der = private.verifying_key().to_public_key_der().unwrap();
    (private, signer(der.as_bytes(), Algorithm::EcdsaSha256))
}

fn signer(der: &[u8], algorithm: Algorithm) -> Signer {
    Signer {
        kid: Kid::parse("ledger").unwrap(),
        public_key: PublicKey::from_spki_der(der, algorithm).unwrap(),
        purpose: Purpose::Signing,
        batch: Batching::No,
        not_after: None,
        revoked_at: None,
    }
}

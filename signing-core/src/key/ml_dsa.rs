//! What stands for a message before an ML-DSA key: FIPS 204, algorithm 7, lines 5 and 6, with an empty
//! context. KMS takes it as `EXTERNAL_MU`, so that a message longer than 4096 bytes can be signed.

use shake::{ExtendableOutput as _, Shake256, Update as _, XofReader as _};

/// Bytes of mu, and of a key's hash.
pub(super) const MU_BYTES: usize = 64;

/// The hash of a public key (tr of FIPS 204).
#[derive(Clone)]
pub(super) struct KeyHash([u8; MU_BYTES]);

impl KeyHash {
    /// Of a key's bytes, without the SubjectPublicKeyInfo around them.
    pub(super) fn of(key: &[u8]) -> Self {
        Self(shake256(&[key]))
    }

    /// Of a message, under that key.
    pub(super) fn mu(&self, message: &[u8]) -> [u8; MU_BYTES] {
        // Pure ML-DSA, and a context of no bytes.
        shake256(&[&self.0, &[0, 0], message])
    }
}

fn shake256(parts: &[&[u8]]) -> [u8; MU_BYTES] {
    let mut hash = Shake256::default();
    parts.iter().for_each(|part| hash.update(part));
    let mut bytes = [0; MU_BYTES];
    hash.finalize_xof().read(&mut bytes);
    bytes
}

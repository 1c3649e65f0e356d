//! One signature: what the token is given, and what its answer is made into.

use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use signing_core::evidence::Fault;
use signing_core::key::KeyKind;
use signing_core::worker::{Call, Failure, SIGNATURE_MAX_BYTES};
use signing_core::{Algorithm, Hash, SignatureFormat};

use crate::fault;

/// Signs with the token's key. Tokens differ in which mechanisms hash by themselves, so
/// none does here: a digest comes in, except for Ed25519.
pub(crate) fn sign(
    session: &Session,
    key: ObjectHandle,
    kind: KeyKind,
    call: &Call,
) -> Result<Vec<u8>, Failure> {
    let Call { algorithm, input, .. } = call;
    let rejected = |detail: String| Failure { fault: Fault::Rejected, detail, last: false };
    if !algorithm.key_kinds().any(|other| other == kind) {
        return Err(rejected(format!("the key does not sign with {algorithm}")));
    }
    let hash = algorithm.digest_hash();
    if !algorithm.signs_messages() && input.len() != hash.digest_bytes() {
        return Err(rejected(format!("{} bytes are no {}", input.len(), hash.name())));
    }
    let asked = |mechanism: &Mechanism<'_>, data: &[u8]| {
        // No signature is longer, so that the token need not be asked how long this one is: one
        // call less for each.
        let mut signature = vec![0; SIGNATURE_MAX_BYTES];
        let signed = session.sign_into(mechanism, key, data, &mut signature);
        let length = signed.map_err(|error| fault::of_call(&error, mechanism.mechanism_type()))?;
        signature.truncate(length);
        Ok(signature)
    };
    match algorithm {
        Algorithm::Ed25519Sha512 => {
            let scheme = EddsaParams::new(EddsaSignatureScheme::Pure);
            asked(&Mechanism::Eddsa(scheme), input)
        }
        Algorithm::EcdsaSha256 | Algorithm::EcdsaSha384 | Algorithm::EcdsaSha512 => {
            let pair = asked(&Mechanism::Ecdsa, input)?;
            // What is no pair goes on as it is: it does not verify, and that seals the signer.
            Ok(SignatureFormat::P1363.read(*algorithm, &pair).unwrap_or(pair))
        }
        Algorithm::RsaPkcs1(hash) => {
            asked(&Mechanism::RsaPkcs, &[digest_info(*hash), input].concat())
        }
        Algorithm::RsaPss(hash) => {
            let (hash_alg, mgf, salt_bytes) = match hash {
                Hash::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, 32_u64),
                Hash::Sha384 => (MechanismType::SHA384, PkcsMgfType::MGF1_SHA384, 48),
                Hash::Sha512 => (MechanismType::SHA512, PkcsMgfType::MGF1_SHA512, 64),
            };
            let s_len = salt_bytes.into();
            asked(&Mechanism::RsaPkcsPss(PkcsPssParams { hash_alg, mgf, s_len }), input)
        }
        // No such key was found.
        Algorithm::MlDsaShake256 => Err(rejected(format!("no token signs with {algorithm}"))),
    }
}

/// What stands before the digest in PKCS#1 v1.5 (RFC 8017 9.2, note 1).
fn digest_info(hash: Hash) -> &'static [u8] {
    const fn prefix(oid_last: u8, digest: u8) -> [u8; 19] {
        [
            0x30,
            digest + 17,
            0x30,
            0x0d,
            0x06,
            0x09,
            0x60,
            0x86,
            0x48,
            0x01,
            0x65,
            0x03,
            0x04,
            0x02,
            oid_last,
            0x05,
            0x00,
            0x04,
            digest,
        ]
    }
    const SHA256: [u8; 19] = prefix(1, 32);
    const SHA384: [u8; 19] = prefix(2, 48);
    const SHA512: [u8; 19] = prefix(3, 64);
    match hash {
        Hash::Sha256 => &SHA256,
        Hash::Sha384 => &SHA384,
        Hash::Sha512 => &SHA512,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_infos_are_those_of_rfc_8017() {
        for (hash, expected) in [
            (Hash::Sha256, "3031300d060960864801650304020105000420"),
            (Hash::Sha384, "3041300d060960864801650304020205000430"),
            (Hash::Sha512, "3051300d060960864801650304020305000440"),
        ] {
            assert_eq!(hex::encode(digest_info(hash)), expected);
        }
    }
}

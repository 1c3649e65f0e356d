//! One approval: an OpenSSH signature (SSHSIG) over a document's exact bytes. `ssh-key` reads its
//! form and `aws-lc-rs` verifies it. What a hardware key says of the person before it is
//! read here, since OpenSSH and the libraries take a signature that nobody touched.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use signing_core::breakglass::APPROVAL_MAX_BYTES;
use signing_core::breakglass::activation::{Approval, Hardware};
use ssh_key::public::{EcdsaPublicKey, KeyData};
use ssh_key::{Algorithm, HashAlg, PublicKey, SshSig};
use time::OffsetDateTime;

use crate::file::{Approvers, fingerprint};
use crate::spki;

/// Behind the signature of a hardware key: flags and a counter.
const TRAILER_BYTES: usize = 5;
/// Somebody touched it (user presence).
const TOUCHED: u8 = 0x01;
/// It asked for a PIN or a finger (user verification).
const VERIFIED: u8 = 0x04;

/// Who signed `document` in `namespace`, by the armored signature `armored`, at `now`.
///
/// # Errors
/// Why it does not count, as a sentence.
pub fn verify(
    armored: &[u8],
    document: &[u8],
    namespace: &str,
    approvers: &Approvers,
    now: OffsetDateTime,
) -> Result<Approval, String> {
    if armored.len() > APPROVAL_MAX_BYTES {
        return Err(format!(
            "it has {} bytes, and an approval has at most {APPROVAL_MAX_BYTES}",
            armored.len()
        ));
    }
    let signature = SshSig::from_pem(armored).map_err(|error| {
        format!("it is not what ssh-keygen -Y sign writes (SSH SIGNATURE): {error}")
    })?;
    if signature.version() != SshSig::VERSION {
        return Err(format!("it is an SSH signature of version {}, not 1", signature.version()));
    }
    if signature.namespace() != namespace {
        return Err(format!(
            "it is in the namespace {:?}, and what counts here is in {namespace:?}: ssh-keygen -Y sign \
             -n {namespace}",
            signature.namespace()
        ));
    }
    let key = PublicKey::from(signature.public_key().clone());
    let fingerprint = fingerprint(&key);
    let approver = approvers.of_key(&fingerprint).ok_or_else(|| {
        format!("it is by the key {fingerprint}, which is not in the approvers file")
    })?;
    // The keys are compared whole; a fingerprint only finds them.
    if approver.key.key_data() != key.key_data() {
        return Err(format!(
            "it is by another key than the one with the fingerprint {fingerprint}"
        ));
    }
    approver.may_approve(namespace, now)?;
    let signed = SshSig::signed_data(namespace, signature.hash_alg(), document)
        .map_err(|error| format!("it cannot be verified: {error}"))?;
    let bytes = signature.signature_bytes();
    let verified = verified(key.key_data(), &signature.signature().algorithm(), &signed, bytes)?;
    let Some(hardware) = verified else {
        return Err(format!(
            "the signature of {} does not verify over these bytes; every byte counts, so sign the \
             file that is sent, as it is",
            approver.principal
        ));
    };
    Ok(Approval {
        principal: approver.principal.clone(),
        roles: approver.roles.clone(),
        fingerprint,
        algorithm: key.algorithm().to_string(),
        key_sha256: spki::sha256_of(key.key_data()),
        hardware: hardware.0,
    })
}

/// What a signature that verified says beside it.
struct VerifiedHardware(Option<Hardware>);

/// None: it does not verify.
fn verified(
    key: &KeyData,
    named: &Algorithm,
    signed: &[u8],
    signature: &[u8],
) -> Result<Option<VerifiedHardware>, String> {
    let plain = |holds: bool| Ok(holds.then_some(VerifiedHardware(None)));
    match (key, named) {
        (KeyData::Ed25519(key), Algorithm::Ed25519) => {
            plain(holds(&ED25519, key.as_ref(), signed, signature))
        }
        (KeyData::Ecdsa(key), Algorithm::Ecdsa { .. }) => {
            let algorithm: &dyn VerificationAlgorithm = match key {
                EcdsaPublicKey::NistP256(_) => &ECDSA_P256_SHA256_FIXED,
                EcdsaPublicKey::NistP384(_) => &ECDSA_P384_SHA384_FIXED,
                EcdsaPublicKey::NistP521(_) => &ECDSA_P521_SHA512_FIXED,
            };
            let half = (key.as_sec1_bytes().len() - 1) / 2;
            let fixed = fixed(signature, half);
            plain(fixed.is_some_and(|fixed| holds(algorithm, key.as_sec1_bytes(), signed, &fixed)))
        }
        (KeyData::Rsa(key), Algorithm::Rsa { hash }) => {
            let parameters = match hash {
                Some(HashAlg::Sha256) => &RSA_PKCS1_2048_8192_SHA256,
                Some(HashAlg::Sha512) => &RSA_PKCS1_2048_8192_SHA512,
                _ => {
                    return Err("it is an RSA signature with SHA-1, which can be forged; use an \
                                Ed25519 or a hardware key"
                        .to_owned());
                }
            };
            let (n, e) = (key.n().as_positive_bytes(), key.e().as_positive_bytes());
            let (Some(n), Some(e)) = (n, e) else { return plain(false) };
            plain(RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok())
        }
        (KeyData::SkEd25519(key), Algorithm::SkEd25519) => {
            let Some((signature, by, signed)) = hardware(key.application(), signed, signature)
            else {
                return plain(false);
            };
            let holds = holds(&ED25519, key.public_key().as_ref(), &signed, signature);
            Ok(holds.then_some(VerifiedHardware(Some(by))))
        }
        (KeyData::SkEcdsaSha2NistP256(key), Algorithm::SkEcdsaSha2NistP256) => {
            let Some((signature, by, signed)) = hardware(key.application(), signed, signature)
            else {
                return plain(false);
            };
            let point = key.ec_point().as_bytes();
            let holds = fixed(signature, 32)
                .is_some_and(|fixed| holds(&ECDSA_P256_SHA256_FIXED, point, &signed, &fixed));
            Ok(holds.then_some(VerifiedHardware(Some(by))))
        }
        (key, named) => Err(format!(
            "it is by a key of kind {} with {named}; approvers use Ed25519, ECDSA, RSA with SHA-2, \
             or hardware keys (ed25519-sk, ecdsa-sk), and no certificates",
            key.algorithm()
        )),
    }
}

fn holds(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    signed: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, key).verify(signed, signature).is_ok()
}

/// What a hardware key signs: the hash of its application, flags, a counter, the hash of the
/// message (OpenSSH's PROTOCOL.u2f). The signature, what it says, and those bytes.
fn hardware<'s>(
    application: &str,
    signed: &[u8],
    signature: &'s [u8],
) -> Option<(&'s [u8], Hardware, Vec<u8>)> {
    let (signature, trailer) = signature.split_last_chunk::<TRAILER_BYTES>()?;
    let [flags, counter @ ..] = trailer;
    let sha256 = |bytes: &[u8]| digest::digest(&digest::SHA256, bytes);
    let signed =
        [sha256(application.as_bytes()).as_ref(), trailer, sha256(signed).as_ref()].concat();
    let by = Hardware {
        touched: flags & TOUCHED != 0,
        verified: flags & VERIFIED != 0,
        counter: u32::from_be_bytes(*counter),
    };
    Some((signature, by, signed))
}

/// SSH writes (r, s) as two numbers with their lengths; `aws-lc-rs` wants two halves.
fn fixed(signature: &[u8], half: usize) -> Option<Vec<u8>> {
    let (r, rest) = number(signature, half)?;
    let (s, rest) = number(rest, half)?;
    rest.is_empty().then(|| [r, s].concat())
}

fn number(bytes: &[u8], half: usize) -> Option<(Vec<u8>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (number, rest) =
        rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let number = number.strip_prefix(&[0]).unwrap_or(number);
    let zeros = half.checked_sub(number.len())?;
    Some(([&vec![0; zeros], number].concat(), rest))
}

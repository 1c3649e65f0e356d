//! Whose signature it is: under the key that is named, or under any registered key.

use std::sync::Arc;

use signing_core::batch::is_proof;
use signing_core::{Algorithm, Caller, Refusal, Rulebook, Signer};

use super::dialects::VerifyRequest;

/// A registry may have thousands of keys. Others get their turn after so many of them.
const KEYS_AT_ONCE: usize = 16;

/// What was found.
pub(super) struct Found<'r> {
    pub(super) verified: bool,
    /// The key under which it verified, else the one that was meant, if any.
    pub(super) signer: Option<&'r Arc<Signer>>,
}

/// Verifies under the signer that is named. If none is, every registered key is tried, with each
/// algorithm that the form of the signature fits; the caller's default comes first. An emergency
/// signature is found so by clients that never name a signer.
///
/// # Errors
/// The refusal of the signer that is named, or of the default, if no key takes such an input.
pub(super) async fn verify<'r>(
    rulebook: &'r Rulebook,
    caller: &Caller,
    request: &VerifyRequest,
) -> Result<Found<'r>, Refusal> {
    if let Some(name) = request.signer.as_deref() {
        let signer = rulebook.find(caller, Some(name))?;
        signer.is_of(request.key_kind)?;
        let algorithm = request.algorithm.unwrap_or_else(|| signer.algorithm());
        return Ok(Found { verified: holds(signer, algorithm, request)?, signer: Some(signer) });
    }
    let default = rulebook.find(caller, None).ok();
    let others = rulebook
        .registry()
        .iter()
        .filter(|signer| default.is_none_or(|default| default.kid != signer.kid));
    let (mut first_refusal, mut was_tried) = (None, false);
    for (number, signer) in default.into_iter().chain(others).enumerate() {
        if number > 0 && number % KEYS_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
        let algorithms = signer
            .public_key
            .algorithms()
            .filter(|algorithm| request.algorithm.is_none_or(|named| named == *algorithm));
        for algorithm in algorithms.filter(|_| signer.is_of(request.key_kind).is_ok()) {
            match holds(signer, algorithm, request) {
                Ok(true) => return Ok(Found { verified: true, signer: Some(signer) }),
                Ok(false) => was_tried = true,
                Err(refusal) => drop(first_refusal.get_or_insert(refusal)),
            }
        }
    }
    match first_refusal {
        Some(refusal) if !was_tried => Err(refusal),
        _ => Ok(Found { verified: false, signer: default }),
    }
}

/// Whether it is `signer`'s signature with `algorithm`.
fn holds(signer: &Signer, algorithm: Algorithm, request: &VerifyRequest) -> Result<bool, Refusal> {
    signer.signs_with(algorithm)?;
    let format = signer.format(request.format, algorithm)?;
    let input = signer.prepare(&request.input, algorithm);
    let input = input.map_err(|refusal| refusal.about(&signer.kid))?;
    let signature = format.read(algorithm, &request.signature);
    Ok(signature.is_some_and(|signature| {
        has_form(signer, algorithm, &signature) && signer.verify(&input, signature).is_ok()
    }))
}

/// Whether it may be a signature of that algorithm, by its length and beginning; of a batch signer,
/// whether it may be a proof.
fn has_form(signer: &Signer, algorithm: Algorithm, signature: &[u8]) -> bool {
    if signer.batch.is_batch() {
        return is_proof(signature);
    }
    match algorithm {
        Algorithm::Ed25519Sha512 => signature.len() == 64,
        // A SEQUENCE in DER.
        Algorithm::EcdsaSha256 | Algorithm::EcdsaSha384 | Algorithm::EcdsaSha512 => {
            signature.first() == Some(&0x30)
        }
        // As long as a modulus of 2048 to 4096 bits.
        Algorithm::RsaPkcs1(_) | Algorithm::RsaPss(_) => (256..=512).contains(&signature.len()),
        // Of the parameter sets (FIPS 204, table 2).
        Algorithm::MlDsaShake256 => [2420, 3309, 4627].contains(&signature.len()),
    }
}

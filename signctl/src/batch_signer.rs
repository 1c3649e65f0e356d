//! A batch signer's signatures, seen by whoever has only the registry: the name in a proof begins with
//! its deployment, which the registry does not say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signing_core::Signer;
use signing_core::batch::{is_proof, stated_deployment};

/// The bytes of a signature: base64, or the text of a proof.
///
/// # Errors
/// It is neither.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    if is_proof(text.as_bytes()) {
        return Ok(text.as_bytes().to_vec());
    }
    STANDARD.decode(text).map_err(|_| "the signature is not base64, and no proof".to_owned())
}

/// The signer as the deployment of this signature knows it: the one that is named, else the one that
/// the proof says, which then is a claim. Of any other signer nothing changes.
///
/// # Errors
/// It is no proof of that signer.
pub(crate) fn signer_of(
    signer: &Signer,
    signature: &[u8],
    deployment: Option<&str>,
) -> Result<Signer, String> {
    if !signer.batch.is_batch() {
        return Ok(signer.clone());
    }
    let kid = &signer.kid;
    let stated = deployment.or_else(|| stated_deployment(signature, kid)).ok_or_else(|| {
        format!("{kid} is a batch signer, and the signature is no proof of its key (c2sp.org/tlog-proof@v1)")
    })?;
    signer.in_deployment(stated).map_err(|error| error.to_string())
}

//! The native surface: `/v1/sign` and `/v1/verify`. Unknown fields are refused.

use serde::Deserialize;
use serde_json::{Value, json};
use signing_core::{Algorithm, Input, Reason, Refusal, SignRequest, VerifiedSignature};

use super::{base64, encode, invalid, one_input, parse, short};
use crate::time::{rfc3339, wall_now};

/// Longest justification, in characters: it stands in every record.
const JUSTIFICATION_MAX_CHARS: usize = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sign {
    digest: Option<String>,
    digest_algorithm: Option<String>,
    message: Option<String>,
    signer_kid: Option<String>,
    algorithm: Option<String>,
    signature_format: Option<String>,
    justification: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verify {
    digest: Option<String>,
    digest_algorithm: Option<String>,
    message: Option<String>,
    signer_kid: Option<String>,
    algorithm: Option<String>,
    signature_format: Option<String>,
    signature: String,
}

/// A request to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct VerifyRequest {
    pub(in crate::server) input: Input,
    pub(in crate::server) signer: Option<String>,
    pub(in crate::server) algorithm: Option<Algorithm>,
    pub(in crate::server) signature: Vec<u8>,
}

pub(super) fn read_sign(content_type: Option<&str>, body: &[u8]) -> Result<SignRequest, Refusal> {
    json_only(content_type)?;
    let sign: Sign = parse(body)?;
    check_format(sign.signature_format.as_deref())?;
    Ok(SignRequest {
        input: input(sign.digest, sign.digest_algorithm.as_deref(), sign.message)?,
        signer: sign.signer_kid,
        algorithm: sign.algorithm.as_deref().map(algorithm).transpose()?,
        justification: sign.justification.map(justification).transpose()?,
    })
}

pub(super) fn read_verify(
    content_type: Option<&str>,
    body: &[u8],
) -> Result<VerifyRequest, Refusal> {
    json_only(content_type)?;
    let verify: Verify = parse(body)?;
    check_format(verify.signature_format.as_deref())?;
    Ok(VerifyRequest {
        input: input(verify.digest, verify.digest_algorithm.as_deref(), verify.message)?,
        signer: verify.signer_kid,
        algorithm: verify.algorithm.as_deref().map(algorithm).transpose()?,
        signature: base64("signature", &verify.signature)?,
    })
}

pub(super) fn signed(signature: &VerifiedSignature, request_id: &str) -> Value {
    json!({
        "signature": encode(signature),
        "signer_kid": signature.kid().as_str(),
        "algorithm": signature.algorithm().name(),
        "ts": rfc3339(wall_now()),
        "mode": "normal",
        "request_id": request_id,
    })
}

fn json_only(content_type: Option<&str>) -> Result<(), Refusal> {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::UnsupportedMediaType,
        format!("the content type is {:?}; send application/json", short(essence)),
    ))
}

fn input(
    digest: Option<String>,
    digest_algorithm: Option<&str>,
    message: Option<String>,
) -> Result<Input, Refusal> {
    let digest = digest.map(|text| base64("digest", &text)).transpose()?;
    let message = message.map(|text| base64("message", &text)).transpose()?;
    let input = one_input(digest, message)?;
    match (&input, digest_algorithm) {
        (Input::Digest(_), Some("sha256")) | (Input::Message(_), None) => Ok(input),
        (Input::Digest(_), None) => Err(invalid(
            "\"digest_algorithm\" is missing: name the hash that made the digest, \"sha256\"",
        )),
        (Input::Digest(_), Some(other)) => Err(Refusal::new(
            Reason::InvalidDigest,
            format!("\"digest_algorithm\" {:?} is not supported; send \"sha256\"", short(other)),
        )),
        (Input::Message(_), Some(_)) => {
            Err(invalid("\"digest_algorithm\" goes with \"digest\", not with \"message\""))
        }
    }
}

fn algorithm(name: &str) -> Result<Algorithm, Refusal> {
    Algorithm::parse(name).ok_or_else(|| {
        let name = short(name);
        Refusal::new(
            Reason::AlgorithmNotSupported,
            format!("\"algorithm\" {name:?} is not one of {}", Algorithm::names()),
        )
    })
}

fn check_format(format: Option<&str>) -> Result<(), Refusal> {
    match format {
        None | Some("der") => Ok(()),
        Some(other) => {
            let other = short(other);
            Err(invalid(format!("\"signature_format\" {other:?} is not supported; send \"der\"")))
        }
    }
}

fn justification(text: String) -> Result<String, Refusal> {
    if text.chars().count() > JUSTIFICATION_MAX_CHARS || text.chars().any(char::is_control) {
        return Err(invalid(format!(
            "\"justification\" has to be at most {JUSTIFICATION_MAX_CHARS} characters without \
             control characters"
        )));
    }
    Ok(text)
}

//! `POST /sign {"hash": 64 hex}`: signs a SHA-256 digest with the caller's
//! default signer. Any content type; unknown fields are ignored.

use serde::Deserialize;
use serde_json::{Value, json};
use signing_core::{Input, Reason, Refusal, SignRequest, VerifiedSignature};

use super::{encode, parse};
use crate::time::{rfc3339, wall_now};

pub(super) const INPUT_FIELD: &str = "hash";

#[derive(Deserialize)]
struct Request {
    hash: String,
}

pub(super) fn read(body: &[u8]) -> Result<SignRequest, Refusal> {
    let Request { hash } = parse(body)?;
    let digest = hex::decode(&hash).ok().filter(|digest| digest.len() == 32).ok_or_else(|| {
        Refusal::new(
            Reason::InvalidDigest,
            format!("\"hash\" has {} characters; expected a SHA-256 in 64 hex digits", hash.len()),
        )
    })?;
    Ok(SignRequest {
        input: Input::Digest(digest),
        signer: None,
        algorithm: None,
        justification: None,
    })
}

pub(super) fn signed(signature: &VerifiedSignature) -> Value {
    json!({
        "signature": encode(signature),
        "signer_kid": signature.kid().as_str(),
        "ts": rfc3339(wall_now()),
        "mode": "normal",
    })
}

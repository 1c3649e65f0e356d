//! The ways in which clients ask to sign: each dialect is turned into the native
//! request, and its answer is written back in its own words. One file each.

mod hash;
mod native;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::Value;
use signing_core::{Input, Reason, Refusal, SignRequest, VerifiedSignature};

pub(super) use native::VerifyRequest;

/// A dialect whose request was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `/v1/sign`.
    Native,
    /// `POST /sign {"hash": 64 hex}`.
    Hash,
}

/// Reads a request to sign. The path decides between native and the dialects of
/// `/sign`; there, the input field does.
pub(super) fn read_sign(
    path: &str,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<(Dialect, SignRequest), Refusal> {
    if path == "/v1/sign" {
        return Ok((Dialect::Native, native::read_sign(content_type, body)?));
    }
    let fields: serde_json::Map<String, Value> = parse(body)?;
    let inputs: Vec<_> =
        INPUT_FIELDS.iter().copied().filter(|field| fields.contains_key(*field)).collect();
    match inputs.as_slice() {
        [hash::INPUT_FIELD] => Ok((Dialect::Hash, hash::read(body)?)),
        [] => Err(invalid(format!("no input field: expected {:?}", hash::INPUT_FIELD))),
        [other] => Err(invalid(format!(
            "the input field {other:?} is not taken here: send {:?}, or ask /v1/sign",
            hash::INPUT_FIELD
        ))),
        several => Err(invalid(format!("input fields {}: send exactly one", several.join(", ")))),
    }
}

/// The input fields of all dialects in the field: exactly one decides.
const INPUT_FIELDS: [&str; 5] = [hash::INPUT_FIELD, "payload_b64", "data", "digest_hex", "payload"];

/// Reads a request to verify.
pub(super) fn read_verify(
    content_type: Option<&str>,
    body: &[u8],
) -> Result<VerifyRequest, Refusal> {
    native::read_verify(content_type, body)
}

impl Dialect {
    /// The answer that carries `signature`.
    pub(super) fn signed(self, signature: &VerifiedSignature, request_id: &str) -> Value {
        match self {
            Self::Native => native::signed(signature, request_id),
            Self::Hash => hash::signed(signature),
        }
    }
}

/// Parses JSON: strict UTF-8, bounded depth, no duplicate of a known field.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let error = short(&error.to_string());
        invalid(format!("the body is not the JSON expected here: {error}"))
    })
}

/// Decodes standard, padded base64.
fn base64(field: &str, text: &str) -> Result<Vec<u8>, Refusal> {
    STANDARD
        .decode(text)
        .map_err(|error| invalid(format!("\"{field}\" is not standard padded base64: {error}")))
}

/// As much of a caller's text as helps to find the mistake.
fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::InvalidRequest, detail)
}

/// The one input of a request, out of a digest and a message of which exactly
/// one is there.
fn one_input(digest: Option<Vec<u8>>, message: Option<Vec<u8>>) -> Result<Input, Refusal> {
    match (digest, message) {
        (Some(digest), None) => Ok(Input::Digest(digest)),
        (None, Some(message)) => Ok(Input::Message(message)),
        (Some(_), Some(_)) => Err(invalid("both \"digest\" and \"message\": send exactly one")),
        (None, None) => Err(invalid("neither \"digest\" nor \"message\": send exactly one")),
    }
}

fn encode(signature: &VerifiedSignature) -> String {
    STANDARD.encode(signature.bytes())
}

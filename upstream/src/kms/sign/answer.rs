//! What KMS answers to `Sign`, read as the SDK reads it.
//! <https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use signing_core::json;

use crate::kms::faults::CallFailed;

/// A signature, before it is compared with what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::kms) struct Signed {
    pub(in crate::kms) key_id: Option<String>,
    pub(in crate::kms) algorithm: Option<String>,
    pub(in crate::kms) signature: Option<Vec<u8>>,
}

/// Reads an answer.
///
/// # Errors
/// What it refuses; and where it says yes and cannot be read, that it may have signed.
pub(super) fn read(
    status: u16,
    error_type: Option<&str>,
    body: &[u8],
) -> Result<Signed, CallFailed> {
    if (200..300).contains(&status) {
        return signed(body).ok_or_else(|| CallFailed::answered(status, None));
    }
    Err(CallFailed::answered(status, code(error_type, body)))
}

fn signed(body: &[u8]) -> Option<Signed> {
    // Nothing at all is an answer without any field.
    let body = if body.is_empty() { b"{}" } else { body };
    let Value::Object(mut fields) = json::from_slice(body).ok()? else { return None };
    let mut text = |name| match fields.remove(name) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => Some(Some(text)),
        Some(_) => None,
    };
    let (key_id, algorithm) = (text("KeyId")?, text("SigningAlgorithm")?);
    let signature = text("Signature")?.map(|encoded| BASE64.decode(encoded)).transpose().ok()?;
    Some(Signed { key_id, algorithm, signature })
}

/// The error's code, without the namespace and the URL that may stand around it. The header is
/// believed only beside a body that is JSON or nothing: without one, something between us and KMS
/// may have answered.
fn code(error_type: Option<&str>, body: &[u8]) -> Option<String> {
    let of_body = match body {
        [] => None,
        body => match json::from_slice(body).ok()? {
            Value::Object(fields) => {
                let text = |name| fields.get(name).and_then(Value::as_str);
                text("code").or_else(|| text("__type")).map(str::to_owned)
            }
            _ => None,
        },
    };
    let code = error_type.or(of_body.as_deref())?;
    let code = code.split(':').next().unwrap_or_default();
    Some(code.split_once('#').map_or(code, |(_, name)| name).to_owned())
}

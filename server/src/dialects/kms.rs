//! KMS's own wire form: the bodies of `Sign`, `Verify` and the operations about keys (AWS JSON 1.1).
//! Unknown fields are ignored, as KMS does. In requests that list keys they are refused: one may be a filter.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use signing_core::{
    Algorithm, Digest, Input, Reason, Refusal, SignRequest, SignatureFormat, VerifiedSignature,
};

use super::{Dialect, VerifyDialect, VerifyRequest, base64, invalid, parse, short};

/// Longest message of KMS's `Sign` and `Verify`, in bytes.
const MESSAGE_MAX_BYTES: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Sign {
    key_id: String,
    message: String,
    message_type: Option<String>,
    signing_algorithm: String,
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Verify {
    key_id: String,
    message: String,
    message_type: Option<String>,
    signature: String,
    signing_algorithm: String,
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfKey {
    key_id: String,
}

/// What `ListKeys` takes. All is on one page, whatever it says.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListKeys {
    #[serde(rename = "Limit")]
    _limit: Option<u32>,
    #[serde(rename = "Marker")]
    _marker: Option<String>,
}

/// What `ListAliases` takes.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListAliases {
    #[serde(rename = "KeyId")]
    key_id: Option<String>,
    #[serde(rename = "Limit")]
    _limit: Option<u32>,
    #[serde(rename = "Marker")]
    _marker: Option<String>,
}

/// The answer of `Sign`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Signed<'s> {
    key_id: &'s str,
    signature: String,
    signing_algorithm: &'static str,
}

/// A request to sign.
pub(super) fn read_sign(body: &[u8]) -> Result<(Dialect, SignRequest), Refusal> {
    let sign: Sign = parse(body)?;
    let algorithm = algorithm(&sign.signing_algorithm)?;
    let request = SignRequest {
        input: input(&sign.message, sign.message_type.as_deref(), algorithm)?,
        signer: Some(sign.key_id),
        algorithm: Some(algorithm),
        key_kind: None,
        format: Some(SignatureFormat::Der),
        justification: None,
    };
    Ok((Dialect::Kms { dry_run: sign.dry_run.unwrap_or(false) }, request))
}

/// A request to verify.
pub(super) fn read_verify(body: &[u8]) -> Result<VerifyRequest, Refusal> {
    let verify: Verify = parse(body)?;
    let algorithm = algorithm(&verify.signing_algorithm)?;
    Ok(VerifyRequest {
        dialect: VerifyDialect::Kms { dry_run: verify.dry_run.unwrap_or(false), algorithm },
        input: input(&verify.message, verify.message_type.as_deref(), algorithm)?,
        signer: Some(verify.key_id),
        algorithm: Some(algorithm),
        key_kind: None,
        format: None,
        signature: base64("Signature", &verify.signature)?,
    })
}

/// Which key an operation is about.
pub(crate) fn read_key_id(body: &[u8]) -> Result<String, Refusal> {
    parse(body).map(|OfKey { key_id }| key_id)
}

/// Checks that a request for the list of keys asks for no more.
pub(crate) fn read_list_keys(body: &[u8]) -> Result<(), Refusal> {
    parse_or_nothing::<ListKeys>(body).map(|_| ())
}

/// Whose aliases are asked for; None: all.
pub(crate) fn read_list_aliases(body: &[u8]) -> Result<Option<String>, Refusal> {
    parse_or_nothing::<ListAliases>(body).map(|asked| asked.key_id)
}

/// A body without a byte asks for no more than its operation does.
fn parse_or_nothing<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Refusal> {
    if body.is_empty() { Ok(T::default()) } else { parse(body) }
}

pub(super) fn signed(signature: &VerifiedSignature) -> Signed<'_> {
    use ::base64::Engine as _;
    Signed {
        key_id: signature.kid().as_str(),
        signature: ::base64::engine::general_purpose::STANDARD.encode(signature.bytes()),
        signing_algorithm: signature.algorithm().name(),
    }
}

/// KMS's names only, of those that are known here.
fn algorithm(name: &str) -> Result<Algorithm, Refusal> {
    Algorithm::ALL.iter().copied().find(|known| known.name() == name).ok_or_else(|| {
        let (name, known) = (short(name), Algorithm::all_names());
        let detail = format!("SigningAlgorithm {name:?} is not one of {known}");
        Refusal::new(Reason::AlgorithmNotSupported, detail)
    })
}

fn input(message: &str, kind: Option<&str>, algorithm: Algorithm) -> Result<Input, Refusal> {
    let bytes = base64("Message", message)?;
    if bytes.is_empty() || bytes.len() > MESSAGE_MAX_BYTES {
        let detail = format!(
            "Message has {} bytes; KMS takes 1 to {MESSAGE_MAX_BYTES}. Send the digest of a longer one, \
             with MessageType DIGEST",
            bytes.len()
        );
        let reason =
            if bytes.is_empty() { Reason::InvalidRequest } else { Reason::MessageTooLarge };
        return Err(Refusal::new(reason, detail));
    }
    match kind.unwrap_or("RAW") {
        "RAW" => Ok(Input::Message(bytes)),
        "DIGEST" if algorithm.signs_messages() => Err(invalid(format!(
            "{algorithm} takes MessageType RAW only; a digest is its message then"
        ))),
        // Verifying needs the message, and what is not verified is not answered (I1).
        "EXTERNAL_MU" if algorithm == Algorithm::MlDsaShake256 => Err(invalid(
            "MessageType EXTERNAL_MU is not served: the proxy verifies every signature over the message \
             itself. Send the message as RAW; one of more than 4096 bytes goes to POST /v1/sign, without \
             MessageType",
        )),
        "DIGEST" => Ok(Input::Digest(Digest::new(algorithm.digest_hash(), &bytes)?)),
        other => {
            let other = short(other);
            Err(invalid(format!("MessageType {other:?} is neither RAW nor DIGEST")))
        }
    }
}

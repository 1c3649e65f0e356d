//! The ways in which clients ask: each dialect is turned into the native request,
//! and its answer is written back in its own words.
//!
//! Native is strict (JSON only, unknown fields refused). The others are what
//! clients in the field already speak: any content type, unknown fields ignored,
//! and exactly one input field, which decides.

mod added;
mod answers;
mod fields;
mod kms;
mod native;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use configuration::AddedDialect;
use host::clock::rfc3339;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, TRANSFER_ENCODING};
use http::request::Parts;
use release::Release;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sign::Witness;
use sign::headers::sole;
use signing_core::batch::is_proof;
use signing_core::key::KeyKind;
use signing_core::{
    Algorithm, Digest, Hash, Input, Reason, Refusal, SignRequest, SignatureFormat, Signer, json,
};

pub(super) use answers::{public_key_der, public_key_pem};
pub(super) use fields::public_key_of;
pub(super) use kms::{read_key_id, read_list_aliases, read_list_keys};

/// Where KMS's own wire form is spoken.
pub(super) const KMS: &str = "/";

/// A dialect whose request to sign was read, with what its answer repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `/v1/sign`.
    Native { format: Option<SignatureFormat> },
    /// `/sign {"hash"}` and `/sign {"data"}`.
    Kid,
    /// `/sign {"payload_b64"}`.
    PayloadB64,
    /// `/sign {"digest_hex"}`.
    DigestHex,
    /// `/sign {"payload"}`.
    Manifest { manifest_id: Option<Value> },
    /// `/signData`.
    SignData,
    /// `/sign/hash` and `/sign/canonical`.
    Alg,
    /// A dialect by configuration, on `/sign`.
    Added { echoed: Option<(String, Value)> },
    /// KMS's own wire form. With `dry_run`, nothing is signed.
    Kms { dry_run: bool },
}

/// An answer that carries a signature.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Signed<'s> {
    Native(native::Signed<'s>),
    Kms(kms::Signed<'s>),
    Other(Value),
}

/// A request to verify, whatever dialect it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VerifyRequest {
    pub(super) dialect: VerifyDialect,
    pub(super) input: Input,
    pub(super) signer: Option<String>,
    pub(super) algorithm: Option<Algorithm>,
    pub(super) key_kind: Option<KeyKind>,
    pub(super) format: Option<SignatureFormat>,
    pub(super) signature: Vec<u8>,
}

/// How the answer to a request to verify is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VerifyDialect {
    /// `/v1/verify`.
    Native,
    /// `/verify {"payload_b64"}`.
    PayloadB64,
    /// `/verify {"digest_hex"}`.
    DigestHex,
    /// KMS's own wire form, whose requests name the algorithm. With `dry_run`, nothing is verified.
    Kms { dry_run: bool, algorithm: Algorithm },
}

/// Whether such a body is taken at all: known before the body comes.
pub(super) fn takes(head: &Parts) -> Result<(), Refusal> {
    for (header, plain) in [(CONTENT_ENCODING, "identity"), (TRANSFER_ENCODING, "chunked")] {
        let values = head.headers.get_all(&header).iter();
        let codings = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        for coding in codings.map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty()) {
            if !coding.eq_ignore_ascii_case(plain.as_bytes()) {
                let coding = short(&String::from_utf8_lossy(coding));
                return Err(Refusal::new(
                    Reason::UnsupportedMediaType,
                    format!("{header} is {coding:?}; send the body uncompressed, without {header}"),
                ));
            }
        }
    }
    let kind = content_type(&head.headers);
    match head.uri.path() {
        KMS => native::one_of(&["application/x-amz-json-1.1"], kind),
        path if path.starts_with("/v1/") => native::json_only(kind),
        _ => Ok(()),
    }
}

/// Refuses what is not declared as JSON, in whatever dialect.
pub(super) fn json_of_any_kind(content_type: Option<&str>) -> Result<(), Refusal> {
    native::one_of(&["application/json", "application/x-amz-json-1.1"], content_type)
}

pub(super) fn content_type(headers: &HeaderMap) -> Option<&str> {
    sole(headers, &CONTENT_TYPE)
}

/// What compressed a body, by how it begins. No JSON begins so.
fn compressed(body: &[u8]) -> Option<&'static str> {
    match body {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => Some("deflate"),
        _ => None,
    }
}

/// Reads a request to sign: the path decides, and on `/sign` the input field, of which the configuration
/// has `added` some. `decodes_sign_data` is the caller's setting.
pub(super) fn read_sign(
    path: &str,
    content_type: Option<&str>,
    body: &[u8],
    (decodes_sign_data, added): (bool, &[AddedDialect]),
) -> Result<(Dialect, SignRequest), Refusal> {
    match path {
        "/v1/sign" => native::read_sign(content_type, body),
        KMS => kms::read_sign(body),
        "/signData" => {
            input_field(body, &["data"])?;
            fields::sign_data(body, decodes_sign_data)
        }
        "/sign/hash" => {
            input_field(body, &["digest_hex"])?;
            fields::sign_hash(body)
        }
        "/sign/canonical" => {
            input_field(body, &["canonical"])?;
            fields::canonical(body)
        }
        _ => {
            let names = added.iter().map(|dialect| dialect.digest_field.as_str());
            let taken: Vec<_> = SIGN_FIELDS.into_iter().chain(names).collect();
            match input_field(body, &taken)? {
                "hash" => fields::hash(body),
                "payload_b64" => fields::payload_b64(body),
                "data" => fields::data(body),
                "digest_hex" => fields::digest_hex(body),
                "payload" => fields::payload(body),
                other => match added.iter().find(|dialect| dialect.digest_field == other) {
                    Some(dialect) => added::read(body, dialect),
                    None => Err(invalid(format!("{other:?} is no input here"))),
                },
            }
        }
    }
}

/// Reads a request to verify.
pub(super) fn read_verify(
    path: &str,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<VerifyRequest, Refusal> {
    match path {
        "/v1/verify" => return native::read_verify(content_type, body),
        KMS => return kms::read_verify(body),
        _ => {}
    }
    match input_field(body, &["payload_b64", "digest_hex"])? {
        "payload_b64" => fields::verify_payload_b64(body),
        _ => fields::verify_digest_hex(body),
    }
}

impl Dialect {
    /// The answer that carries `signature`. None if it has no such form, which was
    /// asked before anything was signed.
    pub(super) fn signed<'s>(
        &self,
        (release, witness): (&'s Release, Option<&'s Witness>),
        request_id: &'s str,
    ) -> Option<Signed<'s>> {
        match self {
            Self::Native { format } => {
                native::signed((release, witness), *format, request_id).map(Signed::Native)
            }
            Self::Kms { .. } => Some(Signed::Kms(kms::signed(release.signature()))),
            other => {
                let mut answer = answers::signed(other, release);
                // These answers have no receipt, but for whoever asks for the proof.
                if release.durable().proof().is_some()
                    && let Some(answer) = answer.as_object_mut()
                {
                    let receipt = native::Receipt::of(release.durable(), witness);
                    answer.insert("audit".to_owned(), json!(receipt));
                }
                Some(Signed::Other(answer))
            }
        }
    }
}

impl VerifyDialect {
    /// The answer that says whether the signature verified, and whose key `signer` is: that under
    /// which it verified, else that which was asked for.
    pub(super) fn verified(self, verified: bool, signer: Option<&Signer>) -> Value {
        let kid = signer.map(|signer| signer.kid.as_str());
        if let Self::Kms { algorithm, .. } = self {
            let name = algorithm.name();
            return json!({"KeyId": kid, "SignatureValid": verified, "SigningAlgorithm": name});
        }
        let mut body = Map::from_iter([
            ("verified".to_owned(), json!(verified)),
            ("signer_kid".to_owned(), json!(kid)),
        ]);
        if self == Self::DigestHex {
            body.insert("valid".to_owned(), json!(verified));
        }
        if let Some(signer) = signer {
            body.insert("purpose".to_owned(), json!(signer.purpose.word()));
            for (name, at) in [("revoked_at", signer.revoked_at), ("not_after", signer.not_after)] {
                if let Some(at) = at {
                    body.insert(name.to_owned(), json!(rfc3339(at)));
                }
            }
        }
        Value::Object(body)
    }
}

/// Every field that is an input in some dialect.
const INPUT_FIELDS: [&str; 6] =
    ["hash", "payload_b64", "data", "digest_hex", "payload", "canonical"];

/// Those of them that `/sign` takes.
const SIGN_FIELDS: [&str; 5] = ["hash", "payload_b64", "data", "digest_hex", "payload"];

/// The one input field of a body, which has to be one of `taken`. One that is null is not there.
fn input_field<'f>(body: &[u8], taken: &[&'f str]) -> Result<&'f str, Refusal> {
    let fields: Map<String, Value> = parse(body)?;
    let elsewhere = INPUT_FIELDS.into_iter().filter(|field| !taken.contains(field));
    let known = taken.iter().copied().chain(elsewhere);
    let is_there = |field: &&str| fields.get(*field).is_some_and(|value| !value.is_null());
    let found: Vec<_> = known.filter(is_there).collect();
    let expected = || taken.iter().map(|field| format!("{field:?}")).collect::<Vec<_>>().join(", ");
    match found.as_slice() {
        [field] if taken.contains(field) => Ok(field),
        [] => Err(invalid(format!("no input field: expected one of {}", expected()))),
        [other] => {
            let expected = expected();
            Err(invalid(format!("{other:?} is no input here: expected one of {expected}")))
        }
        several => Err(invalid(format!("input fields {}: send exactly one", several.join(", ")))),
    }
}

/// Parses JSON: strict UTF-8, bounded depth, no key twice, objects as objects.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    if let Some(by) = compressed(body) {
        return Err(invalid(format!("the body is compressed ({by}); send it uncompressed")));
    }
    json::from_slice(body).map_err(|error| {
        let error = short(&error.to_string());
        invalid(format!("the body is not the JSON expected here: {error}"))
    })
}

/// Reads a signature: base64, or the text of a batch signer's proof.
fn signature(field: &str, text: &str) -> Result<Vec<u8>, Refusal> {
    if is_proof(text.as_bytes()) { Ok(text.as_bytes().to_vec()) } else { base64(field, text) }
}

/// Decodes standard, padded base64.
fn base64(field: &str, text: &str) -> Result<Vec<u8>, Refusal> {
    STANDARD
        .decode(text)
        .map_err(|error| invalid(format!("\"{field}\" is not standard padded base64: {error}")))
}

/// Reads the name of an algorithm, if there is one, and the kind of key that it is about.
fn algorithm(name: Option<&str>) -> Result<(Option<Algorithm>, Option<KeyKind>), Refusal> {
    let Some(name) = name else { return Ok((None, None)) };
    match Algorithm::parse_with_kind(name) {
        Some((algorithm, kind)) => Ok((Some(algorithm), kind)),
        None => {
            let (name, known) = (short(name), Algorithm::all_names());
            let detail = format!("\"algorithm\" {name:?} is not one of {known}");
            Err(Refusal::new(Reason::AlgorithmNotSupported, detail))
        }
    }
}

/// A digest in hex, whose length says which hash made it.
fn hex_digest(field: &str, text: &str, hashes: &[Hash]) -> Result<Digest, Refusal> {
    let bytes = hex::decode(text).ok();
    let digest = bytes.and_then(|bytes| {
        let hash = hashes.iter().find(|hash| hash.digest_bytes() == bytes.len())?;
        Digest::new(*hash, &bytes).ok()
    });
    digest.ok_or_else(|| {
        let expected =
            |hash: &Hash| format!("{} hex digits ({})", hash.digest_bytes() * 2, hash.name());
        let expected = hashes.iter().map(expected).collect::<Vec<_>>().join(" or ");
        Refusal::new(
            Reason::InvalidDigest,
            format!("\"{field}\" has {} characters; expected {expected}", text.chars().count()),
        )
    })
}

/// As much of a caller's text as helps to find the mistake.
fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::InvalidRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use configuration::ASKED;

    #[test]
    fn no_dialect_by_configuration_takes_an_input_field_of_another() {
        for field in INPUT_FIELDS {
            assert!(ASKED.contains(&field), "{field}");
        }
    }
}

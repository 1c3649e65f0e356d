//! The native surface: `/v1/sign` and `/v1/verify`. Unknown fields are refused.

use audit::Durable;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::clock::{rfc3339, rfc3339_millis, wall_now};
use release::Release;
use serde::{Deserialize, Serialize};
use sign::Witness;
use signing_core::{Digest, Hash, Input, Reason, Refusal, SignRequest, SignatureFormat};

use super::answers::mode;
use super::{
    Dialect, VerifyDialect, VerifyRequest, algorithm, base64, invalid, parse, short, signature,
};

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

/// The answer to a request to sign. A struct, since a tree of values would take an
/// allocation for each name and each text.
#[derive(Serialize)]
pub(crate) struct Signed<'s> {
    signature: String,
    /// Of a batch signer, whose signature is the text of a proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_format: Option<&'static str>,
    signer_kid: &'s str,
    algorithm: &'static str,
    ts: String,
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    breakglass: Option<Breakglass<'s>>,
    request_id: &'s str,
    audit: Box<Receipt>,
}

/// In whose name an emergency key signed.
#[derive(Serialize)]
struct Breakglass<'s> {
    session: &'s str,
    incident: &'s str,
    expires_at: String,
}

/// Where the signature is recorded: whoever keeps it can tell later whether the journal
/// was cut short, and with the proof without the journal that it was recorded.
#[derive(Serialize)]
pub(super) struct Receipt {
    log: String,
    seq: u64,
    leaf: String,
    /// Base64 of the record's bytes, if the caller asked for the proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<String>,
    /// A `c2sp.org/tlog-proof@v1` of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
    /// In a break-glass session, with the proof: the emergency signer's own record.
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<Box<Self>>,
}

pub(super) fn read_sign(
    content_type: Option<&str>,
    body: &[u8],
) -> Result<(Dialect, SignRequest), Refusal> {
    json_only(content_type)?;
    let sign: Sign = parse(body)?;
    let format = format(sign.signature_format.as_deref())?;
    let (algorithm, key_kind) = algorithm(sign.algorithm.as_deref())?;
    let request = SignRequest {
        input: input(sign.digest, sign.digest_algorithm.as_deref(), sign.message)?,
        signer: sign.signer_kid,
        algorithm,
        key_kind,
        format,
        justification: sign.justification.map(justification).transpose()?,
    };
    Ok((Dialect::Native { format }, request))
}

pub(super) fn read_verify(
    content_type: Option<&str>,
    body: &[u8],
) -> Result<VerifyRequest, Refusal> {
    json_only(content_type)?;
    let verify: Verify = parse(body)?;
    let (algorithm, key_kind) = algorithm(verify.algorithm.as_deref())?;
    Ok(VerifyRequest {
        dialect: VerifyDialect::Native,
        input: input(verify.digest, verify.digest_algorithm.as_deref(), verify.message)?,
        signer: verify.signer_kid,
        algorithm,
        key_kind,
        format: format(verify.signature_format.as_deref())?,
        signature: signature("signature", &verify.signature)?,
    })
}

pub(super) fn signed<'s>(
    (release, witness): (&'s Release, Option<&'s Witness>),
    format: Option<SignatureFormat>,
    request_id: &'s str,
) -> Option<Signed<'s>> {
    let (signature, durable, session) = (release.signature(), release.durable(), release.session());
    let format = format.unwrap_or(signature.own_format());
    let bytes = signature.bytes_in(format)?;
    let (text, signature_format) = match format {
        SignatureFormat::TlogProof => (String::from_utf8(bytes).ok()?, Some(format.name())),
        SignatureFormat::Der | SignatureFormat::P1363 => (STANDARD.encode(bytes), None),
    };
    Some(Signed {
        signature: text,
        signature_format,
        signer_kid: signature.kid().as_str(),
        algorithm: signature.algorithm().name(),
        ts: rfc3339_millis(wall_now()),
        mode: mode(session),
        breakglass: session.map(|armed| Breakglass {
            session: &armed.session,
            incident: &armed.incident,
            expires_at: rfc3339(armed.expires_at),
        }),
        request_id,
        audit: Box::new(Receipt::of(durable, witness)),
    })
}

impl Receipt {
    pub(super) fn of(durable: &Durable, witness: Option<&Witness>) -> Self {
        let proof = durable.proof();
        let witness = witness.filter(|_| proof.is_some());
        Self {
            log: durable.log().origin(),
            seq: durable.seq(),
            leaf: durable.leaf().hash.to_string(),
            record: proof.map(|proof| STANDARD.encode(&proof.record)),
            proof: proof.map(|proof| proof.inclusion.to_text()),
            signer: witness.map(|witness| Box::new(Self::of_signer(witness))),
        }
    }

    fn of_signer(Witness { record, origin, proof }: &Witness) -> Self {
        Self {
            log: origin.clone(),
            seq: record.seq,
            leaf: record.leaf.clone(),
            record: proof.as_ref().map(|proof| proof.record.clone()),
            proof: proof.as_ref().map(|proof| proof.proof.clone()),
            signer: None,
        }
    }
}

pub(super) fn json_only(content_type: Option<&str>) -> Result<(), Refusal> {
    one_of(&["application/json"], content_type)
}

/// Refuses every content type but `types`, of which the first is recommended.
pub(super) fn one_of(types: &[&str], content_type: Option<&str>) -> Result<(), Refusal> {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if types.iter().any(|taken| essence.eq_ignore_ascii_case(taken)) {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::UnsupportedMediaType,
        format!("the content type is {:?}; send {}", short(essence), types.join(" or ")),
    ))
}

fn input(
    digest: Option<String>,
    digest_algorithm: Option<&str>,
    message: Option<String>,
) -> Result<Input, Refusal> {
    match (digest, digest_algorithm, message) {
        (Some(digest), Some(hash), None) => {
            Ok(Input::Digest(Digest::new(named_hash(hash)?, &base64("digest", &digest)?)?))
        }
        (None, None, Some(message)) => Ok(Input::Message(base64("message", &message)?)),
        (Some(_), None, None) => Err(invalid(
            "\"digest_algorithm\" is missing: name the hash that made the digest, such as \"sha256\"",
        )),
        (None, Some(_), _) => {
            Err(invalid("\"digest_algorithm\" goes with \"digest\", not with \"message\""))
        }
        (Some(_), _, Some(_)) => Err(invalid("both \"digest\" and \"message\": send exactly one")),
        (None, None, None) => Err(invalid("neither \"digest\" nor \"message\": send exactly one")),
    }
}

fn named_hash(name: &str) -> Result<Hash, Refusal> {
    Hash::parse(name).ok_or_else(|| {
        let known = Hash::ALL.map(Hash::name).join(", ");
        Refusal::new(
            Reason::InvalidDigest,
            format!("\"digest_algorithm\" {:?} is not one of {known}", short(name)),
        )
    })
}

fn format(name: Option<&str>) -> Result<Option<SignatureFormat>, Refusal> {
    let read = |name| {
        SignatureFormat::parse(name).ok_or_else(|| {
            let name = short(name);
            invalid(format!("\"signature_format\" {name:?} is not one of der, p1363, tlog-proof"))
        })
    };
    name.map(read).transpose()
}

fn justification(text: String) -> Result<String, Refusal> {
    if text.chars().count() > JUSTIFICATION_MAX_CHARS || text.chars().any(char::is_control) {
        return Err(invalid(format!(
            "\"justification\" must be at most {JUSTIFICATION_MAX_CHARS} characters without \
             control characters"
        )));
    }
    Ok(text)
}

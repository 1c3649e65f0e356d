//! Requests of the dialects, one function for each input field. Unknown fields
//! are ignored.

use serde::Deserialize;
use serde_json::Value;
use signing_core::{Hash, Input, SignRequest, SignatureFormat};

use super::{
    Dialect, Refusal, VerifyDialect, VerifyRequest, algorithm, base64, hex_digest, invalid, parse,
    signature as read_signature,
};

type Read = Result<(Dialect, SignRequest), Refusal>;

/// `/sign {"hash": 64 hex}`: a SHA-256 digest, by the default signer.
pub(super) fn hash(body: &[u8]) -> Read {
    #[derive(Deserialize)]
    struct Fields {
        hash: String,
    }
    let Fields { hash } = parse(body)?;
    let digest = hex_digest("hash", &hash, &[Hash::Sha256])?;
    Ok((Dialect::Kid, request(Input::Digest(digest), None, None)?))
}

/// `/sign {"payload_b64", "key_id"?}`: a message.
pub(super) fn payload_b64(body: &[u8]) -> Read {
    #[derive(Deserialize)]
    struct Fields {
        payload_b64: String,
        key_id: Option<String>,
    }
    let Fields { payload_b64, key_id } = parse(body)?;
    let input = Input::Message(base64("payload_b64", &payload_b64)?);
    Ok((Dialect::PayloadB64, request(input, key_id, None)?))
}

/// `/sign {"data": base64, "algorithm"?, "kid"?}`: a message.
pub(super) fn data(body: &[u8]) -> Read {
    #[derive(Deserialize)]
    struct Fields {
        data: String,
        algorithm: Option<String>,
        kid: Option<String>,
    }
    let Fields { data, algorithm, kid } = parse(body)?;
    let input = Input::Message(base64("data", &data)?);
    Ok((Dialect::Kid, request(input, kid, algorithm.as_deref())?))
}

/// `/sign {"digest_hex", "algorithm"?, "canonical_payload"?}`: a digest. The
/// payload, if it is there, has to hash to it.
pub(super) fn digest_hex(body: &[u8]) -> Read {
    #[derive(Deserialize)]
    struct Fields {
        digest_hex: String,
        algorithm: Option<String>,
        canonical_payload: Option<String>,
    }
    let Fields { digest_hex, algorithm, canonical_payload } = parse(body)?;
    let digest = hex_digest("digest_hex", &digest_hex, &Hash::ALL)?;
    let hash = digest.hash();
    let input = Input::Digest(digest);
    if let Some(payload) = canonical_payload
        && Input::digest_of(hash, payload.as_bytes())? != input
    {
        let hash = hash.name();
        return Err(invalid(format!("\"digest_hex\" is not the {hash} of \"canonical_payload\"")));
    }
    Ok((Dialect::DigestHex, request(input, None, algorithm.as_deref())?))
}

/// `/sign/hash {"digest_hex"}`: a digest, by the default signer.
pub(super) fn sign_hash(body: &[u8]) -> Read {
    #[derive(Deserialize)]
    struct Fields {
        digest_hex: String,
    }
    let Fields { digest_hex } = parse(body)?;
    let digest = hex_digest("digest_hex", &digest_hex, &Hash::ALL)?;
    Ok((Dialect::Alg, request(Input::Digest(digest), None, None)?))
}

/// `/sign {"signerId", "payload": string, "manifestId"?}`: a message.
pub(super) fn payload(body: &[u8]) -> Read {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Fields {
        signer_id: String,
        payload: String,
        manifest_id: Option<Value>,
    }
    let Fields { signer_id, payload, manifest_id } = parse(body)?;
    let request = request(Input::Message(payload.into_bytes()), Some(signer_id), None)?;
    Ok((Dialect::Manifest { manifest_id }, request))
}

/// `/signData {"signerId", "data": string}`: a message. Some clients mean the bytes that `data` encodes
/// in base64; which one is a caller's setting, since a text may be both.
pub(super) fn sign_data(body: &[u8], decodes: bool) -> Read {
    #[derive(Deserialize)]
    struct Fields {
        #[serde(rename = "signerId")]
        signer_id: String,
        data: String,
    }
    let Fields { signer_id, data } = parse(body)?;
    let message = if decodes { base64("data", &data)? } else { data.into_bytes() };
    let request = request(Input::Message(message), Some(signer_id), None)?;
    Ok((Dialect::SignData, request))
}

/// `/sign/canonical {"canonical": string}`: the SHA-256 of its bytes is the
/// digest, for Ed25519 too, so that `/verify {"digest_hex"}` of it holds.
pub(super) fn canonical(body: &[u8]) -> Read {
    #[derive(Deserialize)]
    struct Fields {
        canonical: String,
    }
    let Fields { canonical } = parse(body)?;
    let input = Input::digest_of(Hash::Sha256, canonical.as_bytes())?;
    Ok((Dialect::Alg, request(input, None, None)?))
}

/// `/verify {"payload_b64", "signature_b64", "signer_id"?, "algorithm"?}`.
pub(super) fn verify_payload_b64(body: &[u8]) -> Result<VerifyRequest, Refusal> {
    #[derive(Deserialize)]
    struct Fields {
        payload_b64: String,
        signature_b64: String,
        signer_id: Option<String>,
        algorithm: Option<String>,
    }
    let Fields { payload_b64, signature_b64, signer_id, algorithm: named } = parse(body)?;
    let (algorithm, key_kind) = algorithm(named.as_deref())?;
    Ok(VerifyRequest {
        dialect: VerifyDialect::PayloadB64,
        input: Input::Message(base64("payload_b64", &payload_b64)?),
        signer: signer_id,
        algorithm,
        key_kind,
        format: None,
        signature: read_signature("signature_b64", &signature_b64)?,
    })
}

/// `/verify {"digest_hex", "signature_b64" or "signature", "signer_id"?, "algorithm"?}`.
pub(super) fn verify_digest_hex(body: &[u8]) -> Result<VerifyRequest, Refusal> {
    #[derive(Deserialize)]
    struct Fields {
        digest_hex: String,
        signature_b64: Option<String>,
        signature: Option<String>,
        signer_id: Option<String>,
        algorithm: Option<String>,
    }
    let Fields { digest_hex, signature_b64, signature, signer_id, algorithm: named } = parse(body)?;
    let (algorithm, key_kind) = algorithm(named.as_deref())?;
    let digest = hex_digest("digest_hex", &digest_hex, &Hash::ALL)?;
    let signature = match (signature_b64, signature) {
        (Some(text), None) => read_signature("signature_b64", &text)?,
        (None, Some(text)) => read_signature("signature", &text)?,
        _ => return Err(invalid("send exactly one of \"signature_b64\" and \"signature\"")),
    };
    Ok(VerifyRequest {
        dialect: VerifyDialect::DigestHex,
        input: Input::Digest(digest),
        signer: signer_id,
        algorithm,
        key_kind,
        format: None,
        signature,
    })
}

/// `/publicKey {"signerId"}`: whose key is asked for.
pub(crate) fn public_key_of(body: &[u8]) -> Result<String, Refusal> {
    #[derive(Deserialize)]
    struct Fields {
        #[serde(rename = "signerId")]
        signer_id: String,
    }
    let Fields { signer_id } = parse(body)?;
    Ok(signer_id)
}

pub(super) fn request(
    input: Input,
    signer: Option<String>,
    named: Option<&str>,
) -> Result<SignRequest, Refusal> {
    let (algorithm, key_kind) = algorithm(named)?;
    Ok(SignRequest {
        input,
        signer,
        algorithm,
        key_kind,
        // A proof has no place in these answers.
        format: Some(SignatureFormat::Der),
        justification: None,
    })
}

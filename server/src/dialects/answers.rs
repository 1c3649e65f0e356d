//! Answers of the dialects, each in the words that its clients read.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::clock::{rfc3339_millis, wall_now};
use release::Release;
use serde_json::{Value, json};
use signing_core::gate::Armed;
use signing_core::key::KeyKind;
use signing_core::{Algorithm, Mode, Signer};

use super::Dialect;

/// A signature, in `dialect`'s words.
pub(super) fn signed(dialect: &Dialect, release: &Release) -> Value {
    let signature = release.signature();
    let encoded = STANDARD.encode(signature.bytes());
    let (kid, word) = (signature.kid().as_str(), algorithm_word(signature.algorithm()));
    let mut body = match dialect {
        Dialect::Native { .. } | Dialect::Kms { .. } | Dialect::Kid => {
            json!({"signature": encoded, "signer_kid": kid, "ts": rfc3339_millis(wall_now())})
        }
        Dialect::PayloadB64 => json!({"signature_b64": encoded, "signer_id": kid}),
        Dialect::DigestHex => json!({"signature": encoded, "signer_kid": kid, "algorithm": word}),
        Dialect::Manifest { manifest_id } => json!({
            "signature": encoded,
            "signer_id": kid,
            "signerId": kid,
            "algorithm": word,
            "ts": rfc3339_millis(wall_now()),
            "manifest_id": manifest_id,
        }),
        Dialect::SignData => json!({"signature": encoded, "signerId": kid, "signer_id": kid}),
        Dialect::Added { .. } => json!({
            "signature": encoded,
            "algorithm": word,
            "ts": rfc3339_millis(wall_now()),
        }),
        Dialect::Alg => json!({"kid": kid, "alg": word, "signature": encoded}),
    };
    if let Some(fields) = body.as_object_mut() {
        fields.insert("signer_kid".to_owned(), json!(kid));
        fields.insert("mode".to_owned(), json!(mode(release.session())));
        if let Dialect::Added { echoed: Some((name, value)) } = dialect {
            fields.insert(name.clone(), value.clone());
        }
    }
    body
}

/// By which key it was signed: the signer's own, or an emergency key of a session.
pub(super) fn mode(session: Option<&Arc<Armed>>) -> &'static str {
    if session.is_some() { Mode::Breakglass } else { Mode::Normal }.word()
}

/// `GET /public-key?kid=`.
pub(crate) fn public_key_pem(signer: &Signer) -> Value {
    json!({"publicKeyPem": signer.public_key.to_pem(), "signer_kid": signer.kid.as_str()})
}

/// `GET /publicKeys/{kid}` and `POST /publicKey {"signerId"}`.
pub(crate) fn public_key_der(signer: &Signer) -> Value {
    json!({
        "publicKey": STANDARD.encode(signer.public_key.spki_der()),
        "signerId": signer.kid.as_str(),
        "signer_kid": signer.kid.as_str(),
        "algorithm": algorithm_word(signer.algorithm()),
    })
}

/// The name that dialects' clients know an algorithm by.
fn algorithm_word(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Ed25519Sha512 => algorithm.registry_name(KeyKind::Ed25519),
        Algorithm::RsaPkcs1(_) | Algorithm::RsaPss(_) => algorithm.registry_name(KeyKind::Rsa),
        Algorithm::EcdsaSha256
        | Algorithm::EcdsaSha384
        | Algorithm::EcdsaSha512
        | Algorithm::MlDsaShake256 => algorithm.name(),
    }
}

//! What KMS says of a key, said of a registered signer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use signing_core::key::{KeyKind, Purpose};
use signing_core::{Kid, Rulebook, Signer};
use time::OffsetDateTime;

/// No account of AWS.
const ACCOUNT: &str = "000000000000";

/// `GetPublicKey`.
pub(super) fn public_key(signer: &Signer) -> Value {
    let spec = spec(signer);
    json!({
        "KeyId": signer.kid.as_str(),
        "PublicKey": STANDARD.encode(signer.public_key.spki_der()),
        "CustomerMasterKeySpec": spec,
        "KeySpec": spec,
        "KeyUsage": "SIGN_VERIFY",
        "SigningAlgorithms": algorithms(signer),
    })
}

/// `DescribeKey`. A key that the registry has withdrawn is `Disabled`, as KMS says of one that signs
/// nothing.
pub(super) fn describe(rulebook: &Rulebook, signer: &Signer, now: OffsetDateTime) -> Value {
    let (spec, enabled) = (spec(signer), signer.usable_at(now).is_ok());
    json!({"KeyMetadata": {
        "AWSAccountId": ACCOUNT,
        "KeyId": signer.kid.as_str(),
        "Arn": arn(rulebook, signer),
        "CreationDate": 0,
        "Enabled": enabled,
        "Description": "",
        "KeyUsage": "SIGN_VERIFY",
        "KeyState": if enabled { "Enabled" } else { "Disabled" },
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": spec,
        "KeySpec": spec,
        "SigningAlgorithms": algorithms(signer),
        "MultiRegion": false,
    }})
}

/// `ListKeys`: the keys that sign for callers, on one page.
pub(super) fn list(rulebook: &Rulebook) -> Value {
    let keys = rulebook.registry().iter().filter(|signer| signer.purpose == Purpose::Signing);
    let keys: Vec<_> = keys
        .map(|signer| json!({"KeyId": signer.kid.as_str(), "KeyArn": arn(rulebook, signer)}))
        .collect();
    json!({"Keys": keys, "Truncated": false})
}

/// `ListAliases`: other names for these keys, or for one of them, on one page.
pub(super) fn list_aliases(rulebook: &Rulebook, of: Option<&Kid>) -> Value {
    let aliases: Vec<_> = rulebook
        .aliases()
        .filter(|(_, kid)| of.is_none_or(|of| of == *kid))
        .map(|(alias, kid)| {
            json!({"AliasName": alias, "AliasArn": alias, "TargetKeyId": kid.as_str()})
        })
        .collect();
    json!({"Aliases": aliases, "Truncated": false})
}

/// The ARN that the configuration gives the key by `[aliases]`, else its kid.
fn arn<'r>(rulebook: &'r Rulebook, signer: &'r Signer) -> &'r str {
    let is_its = |(alias, kid): &(&str, &signing_core::Kid)| {
        **kid == signer.kid && alias.starts_with("arn:") && alias.contains(":key/")
    };
    rulebook.aliases().find(is_its).map_or(signer.kid.as_str(), |(alias, _)| alias)
}

fn algorithms(signer: &Signer) -> Vec<&'static str> {
    signer.public_key.algorithms().map(signing_core::Algorithm::name).collect()
}

/// KMS's `KeySpec`.
fn spec(signer: &Signer) -> String {
    match signer.public_key.kind() {
        KeyKind::Ed25519 => "ECC_NIST_EDWARDS25519".to_owned(),
        KeyKind::P256 => "ECC_NIST_P256".to_owned(),
        KeyKind::Secp256k1 => "ECC_SECG_P256K1".to_owned(),
        KeyKind::P384 => "ECC_NIST_P384".to_owned(),
        KeyKind::P521 => "ECC_NIST_P521".to_owned(),
        KeyKind::MlDsa44 => "ML_DSA_44".to_owned(),
        KeyKind::MlDsa65 => "ML_DSA_65".to_owned(),
        KeyKind::MlDsa87 => "ML_DSA_87".to_owned(),
        KeyKind::Rsa => format!("RSA_{}", rsa_bits(signer.public_key.spki_der())),
    }
}

/// The size of an RSA key, of those that KMS has: its public key is that long, and 38 bytes.
fn rsa_bits(spki_der: &[u8]) -> usize {
    let bits = spki_der.len().saturating_sub(38) * 8;
    [2048, 3072, 4096].into_iter().min_by_key(|size: &usize| size.abs_diff(bits)).unwrap_or(2048)
}

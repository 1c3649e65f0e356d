//! Whether an answer is the signature that was asked for, by the registry on this machine.

use serde::Deserialize;
use signing_core::key::Purpose;
use signing_core::{Algorithm, Input, Mode, Registry};
use time::OffsetDateTime;

use crate::batch_signer;

/// An answer of `/v1/sign`, as far as it is looked at here.
#[derive(Deserialize)]
pub(super) struct Answer {
    pub(super) signature: String,
    pub(super) signer_kid: String,
    pub(super) algorithm: String,
    pub(super) mode: String,
    pub(super) breakglass: Option<Breakglass>,
    pub(super) request_id: String,
    pub(super) audit: Receipt,
}

/// In whose name an emergency key signed.
#[derive(Deserialize)]
pub(super) struct Breakglass {
    pub(super) session: String,
    pub(super) incident: String,
    pub(super) expires_at: String,
}

/// Where it is recorded.
#[derive(Deserialize)]
pub(super) struct Receipt {
    pub(super) log: String,
    pub(super) seq: u64,
}

/// What was asked for.
pub(super) struct Asked<'a> {
    pub(super) signer: Option<&'a str>,
    pub(super) algorithm: Option<Algorithm>,
    pub(super) input: &'a Input,
    /// The deployment that a batch signer's proof has to be of, if it is known.
    pub(super) deployment: Option<&'a str>,
}

/// Holds an answer against what was asked for and the registry: the registered key of that purpose
/// signed that input, and may sign at `now`.
///
/// # Errors
/// What does not fit.
pub(super) fn check(
    answer: &Answer,
    registry: &Registry,
    asked: &Asked<'_>,
    now: OffsetDateTime,
) -> Result<(), String> {
    let kid = &answer.signer_kid;
    let signer = registry.get(kid).ok_or_else(|| {
        format!("the answer names the signer {kid:?}, which this registry does not have")
    })?;
    signer.usable_at(now).map_err(|refusal| refusal.detail)?;
    let is_normal = answer.mode == Mode::Normal.word();
    match signer.purpose {
        Purpose::Signing if is_normal => {}
        Purpose::Breakglass if answer.mode == Mode::Breakglass.word() => {}
        Purpose::Signing | Purpose::Breakglass | Purpose::Audit => {
            let mode = &answer.mode;
            return Err(format!("{kid} is not registered for what signs in the mode {mode:?}"));
        }
    }
    // An alias is the proxy's: which kid it means is not known here.
    let other =
        asked.signer.filter(|name| is_normal && *name != kid && registry.get(name).is_some());
    if let Some(asked) = other {
        return Err(format!("{asked} was asked, and {kid} signed"));
    }
    let algorithm = Algorithm::parse(&answer.algorithm)
        .ok_or_else(|| format!("the algorithm {:?} is unknown", answer.algorithm))?;
    if let Some(asked) = asked.algorithm.filter(|asked| *asked != algorithm) {
        return Err(format!("{asked} was asked for, and {algorithm} was used"));
    }
    let signature = batch_signer::bytes(&answer.signature)?;
    let signer = batch_signer::signer_of(signer, &signature, asked.deployment)?;
    let input = signer.prepare(asked.input, algorithm).map_err(|refusal| refusal.detail.clone())?;
    match signer.verify(&input, signature) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("the signature does not verify under the registered key of {kid}")),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};
    use signing_core::Kid;
    use signing_core::key::{Batching, PublicKey, Signer};
    use signing_core::registry::{Document, Entry};

    use super::*;

    /// A key of `development`'s kind would need another crate: one that aws-lc-rs makes.
    fn key() -> aws_lc_rs::signature::Ed25519KeyPair {
        aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap()
    }

    fn entry(kid: &str, key: &aws_lc_rs::signature::Ed25519KeyPair, purpose: Purpose) -> Entry {
        use aws_lc_rs::encoding::AsDer as _;
        use aws_lc_rs::signature::KeyPair as _;
        let der = key.public_key().as_der().unwrap();
        let public_key = PublicKey::from_spki_der(der.as_ref(), Algorithm::Ed25519Sha512).unwrap();
        let kid = Kid::parse(kid).unwrap();
        let batch = Batching::No;
        let (not_after, revoked_at) = (None, None);
        Entry::publish(&Signer { kid, public_key, purpose, batch, not_after, revoked_at })
    }

    #[test]
    fn what_was_not_asked_for_or_does_not_verify_is_told() {
        let (a, b, emergency) = (key(), key(), key());
        let mut revoked = entry("old", &key(), Purpose::Signing);
        revoked.revoked_at = Some("2026-01-01T00:00:00Z".to_owned());
        let entries = vec![
            entry("a", &a, Purpose::Signing),
            entry("b", &b, Purpose::Signing),
            entry("e", &emergency, Purpose::Breakglass),
            revoked,
        ];
        let document = serde_json::to_string(&Document { signers: entries }).unwrap();
        let registry = Registry::from_json(&document).unwrap();
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(30_000);
        let message = Input::Message(b"hello".to_vec());
        let answer = |kid: &str, mode: &str, key: &aws_lc_rs::signature::Ed25519KeyPair| {
            let signature = STANDARD.encode(key.sign(b"hello"));
            json!({
                "signature": signature, "signer_kid": kid, "algorithm": "ED25519_SHA_512",
                "mode": mode, "request_id": "r", "audit": {"log": "l", "seq": 1},
            })
        };
        let check = |value: Value, signer: Option<&str>, input: &Input| {
            let answer = serde_json::from_value(value).unwrap();
            let asked = Asked { signer, algorithm: None, input, deployment: None };
            check(&answer, &registry, &asked, now)
        };
        assert_eq!(check(answer("a", "normal", &a), Some("a"), &message), Ok(()));
        assert_eq!(check(answer("a", "normal", &a), Some("an-alias"), &message), Ok(()));
        assert_eq!(check(answer("e", "breakglass", &emergency), Some("a"), &message), Ok(()));
        let other = Input::Message(b"other".to_vec());
        for (value, signer, input, said) in [
            (answer("a", "normal", &b), None, &message, "does not verify"),
            (answer("a", "normal", &a), None, &other, "does not verify"),
            (answer("b", "normal", &b), Some("a"), &message, "a was asked, and b signed"),
            (answer("e", "normal", &emergency), None, &message, "not registered for"),
            (answer("a", "breakglass", &a), None, &message, "not registered for"),
            (answer("none", "normal", &a), None, &message, "does not have"),
            (answer("old", "normal", &a), None, &message, "was revoked"),
        ] {
            let why = check(value, signer, input).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }
}

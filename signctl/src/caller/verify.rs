//! `signctl verify`: asks the proxy whose signature it is, and looks itself under the registry here.

use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::out;
use serde_json::{Value, json};
use signing_core::key::{Hash, Signer};
use signing_core::{Algorithm, Input};

use super::input::{self, CallerInput, WholeInput};
use super::reach::{Reach, Reached, VARIABLES};
use super::sign;
use crate::{batch_signer, show};

pub(crate) fn help() -> String {
    format!(
        "{VARIABLES}\n\nExample: signctl verify release.tar --answer release.tar.receipt\n         \
         signctl verify --digest HEX --signature BASE64 --signer payments-2026"
    )
}

/// What to verify.
#[derive(clap::Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    input: input::Flags,
    #[command(flatten)]
    reach: Reach,
    /// The signature, in base64; of a batch signer, the text of the proof or its base64.
    #[arg(long, value_name = "BASE64", required_unless_present = "answer")]
    signature: Option<String>,
    /// The whole answer that `signctl sign --json` or `--receipt` gave, instead of the signature.
    #[arg(long, value_name = "FILE", conflicts_with = "signature")]
    answer: Option<PathBuf>,
    /// AWS KMS's name of the algorithm; else the key's.
    #[arg(long, value_name = "NAME", value_parser = crate::signers::algorithm)]
    algorithm: Option<Algorithm>,
}

/// Verifies. Exit 0 only if the proxy and the registry here say that it is the signature of a key that
/// is not revoked.
pub(crate) fn run(flags: &Verify, as_json: bool) -> anyhow::Result<ExitCode> {
    let reached = flags.reach.find()?;
    let answer = flags.answer.as_deref().map(sign::of_file).transpose()?.unwrap_or_default();
    let of_answer = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    let signature = flags.signature.clone().or_else(|| of_answer("signature")).unwrap_or_default();
    let algorithm =
        flags.algorithm.map(|it| it.name().to_owned()).or_else(|| of_answer("algorithm"));
    // What an answer says of its key is what is to be verified; a variable does not stand above that.
    let signer = of_answer("signer_kid").or_else(|| reached.signer.clone());
    let (wholes, is_long) = match flags.input.open()? {
        CallerInput::Whole(whole) => (vec![whole], false),
        // Only ML-DSA has signatures of these lengths, and signs long messages as they are.
        CallerInput::Digested(long) if is_ml_dsa(&signature) => (vec![long.whole()?], false),
        // Which hash its signer takes is not known here, and which signer it is perhaps neither.
        CallerInput::Digested(long) => (long.digests(&Hash::ALL)?, true),
    };
    let mut last = None;
    for whole in wholes {
        let mut body = input::fields(&whole.input);
        if let Some(body) = body.as_object_mut() {
            body.insert("signature".to_owned(), signature.clone().into());
            body.extend(signer.clone().map(|it| ("signer_kid".to_owned(), it.into())));
            body.extend(algorithm.clone().map(|it| ("algorithm".to_owned(), it.into())));
        }
        let reply = reached.post("/v1/verify", &body, false)?;
        let is_verified = reply.body.get("verified") == Some(&Value::Bool(true));
        if reply.status == 200 && is_verified {
            return said(&reached, (&whole, is_long), &signature, &reply.body, as_json);
        }
        // Of several digests the one that fits the signer says most.
        let is_other_hash = reply.body.get("reason").is_some_and(|it| it == "invalid_digest");
        if last.is_none() || !is_other_hash {
            last = Some(reply);
        }
    }
    match last {
        Some(reply) if reply.status != 200 => sign::refused(&reply, as_json),
        _ => differs("the proxy knows no registered key of which this is the signature", as_json),
    }
}

/// Looks again, under the registry here, at what the proxy says is verified.
fn said(
    reached: &Reached,
    (whole, is_long): (&WholeInput, bool),
    signature: &str,
    answer: &Value,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let kid = answer.get("signer_kid").and_then(Value::as_str).unwrap_or_default();
    let found = reached.registry.get(kid).and_then(|signer| {
        let bytes = batch_signer::bytes(signature).ok()?;
        let signer = batch_signer::signer_of(signer, &bytes, reached.deployment.as_deref()).ok()?;
        let algorithm = verified_with(&signer, &whole.input, &bytes)?;
        Some((signer, algorithm))
    });
    let Some((signer, algorithm)) = found else {
        let registry = reached.signers.display();
        let why = format!(
            "the proxy says that it is a signature of {kid:?}, and under the registry {registry} it is not"
        );
        return differs(&why, as_json);
    };
    if is_long && algorithm.signs_messages() && !signer.batch.is_batch() {
        let why =
            format!("{kid} signed the digest, not {}; give the digest (--digest)", whole.name);
        return differs(&why, as_json);
    }
    let state = signer.usable_at(host::clock::wall_now()).err().map(|refusal| refusal.detail);
    let is_good = signer.revoked_at.is_none();
    if as_json {
        let said = json!({
            "ok": is_good, "verified": true, "input": whole.name, "signer_kid": kid,
            "algorithm": algorithm.name(), "note": state,
        });
        out::report_json(&said)?;
    } else {
        let mut rows =
            vec![("verified", whole.name.clone()), ("signer", format!("{kid}, {algorithm}"))];
        // Without --deployment it is what the proof says, and no more.
        rows.extend(signer.batch.key_name().map(|name| ("key name", name.to_string())));
        rows.push((
            "by",
            format!("the proxy, and here under the registry {}", reached.signers.display()),
        ));
        rows.extend(state.map(|state| (if is_good { "note" } else { "REVOKED" }, state)));
        out::report(&show::rows(&rows))?;
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether a signature, in base64, has the length of one of the parameter sets (FIPS 204, table 2).
fn is_ml_dsa(signature: &str) -> bool {
    let bytes = STANDARD.decode(signature).map_or(0, |bytes| bytes.len());
    [2420, 3309, 4627].contains(&bytes)
}

/// The algorithm of `signer` with which it is its signature.
fn verified_with(signer: &Signer, input: &Input, signature: &[u8]) -> Option<Algorithm> {
    let mut algorithms = signer.public_key.algorithms();
    algorithms.find(|algorithm| {
        let prepared = signer.prepare(input, *algorithm);
        prepared.is_ok_and(|input| signer.verify(&input, signature.to_vec()).is_ok())
    })
}

fn differs(why: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    if as_json {
        out::report_json(&json!({"ok": false, "verified": false, "detail": why}))?;
    } else {
        out::report(&format!("NOT VERIFIED: {why}"))?;
    }
    Ok(ExitCode::FAILURE)
}

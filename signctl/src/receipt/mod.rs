//! `signctl receipt verify`: an answer with a receipt, held against itself, far from the journal.

mod proof;
mod proven;
mod witness;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use host::{files, out};
use serde::Deserialize;
use serde_json::{Value, json};
use signing_core::journal::Kind;
use signing_core::{Algorithm, Digest, Hash, Input, Registry, SignatureFormat, ToBeSigned};

use crate::{batch_signer, show};
use proven::{Proven, Receipt};

/// Receipts.
#[derive(Args)]
pub(crate) struct Flags {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check an answer that was asked for with `Signing-Receipt: proof`: its record, signature,
    /// signer and proof against each other, without the journal. Exit 0 only if all of it fits.
    #[command(
        after_help = "Example: signctl receipt verify answer.json --signers signers.json --input release.tar"
    )]
    Verify(Verify),
}

#[derive(Args)]
struct Verify {
    /// The whole answer of /v1/sign.
    file: PathBuf,
    /// The registry, with the audit key and the signer's public key.
    #[arg(long, value_name = "FILE")]
    signers: PathBuf,
    /// What was signed: the message, or the file of which a digest was signed.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The deployment that a batch signer's proof has to be from; else it is only what the proof says.
    #[arg(long, value_name = "NAME")]
    deployment: Option<String>,
}

/// An answer, as far as it can be held against its record.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    signature: String,
    signature_format: Option<String>,
    signer_kid: String,
    algorithm: String,
    ts: String,
    mode: String,
    breakglass: Option<Breakglass>,
    request_id: String,
    audit: Receipt,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Breakglass {
    session: String,
    incident: String,
    expires_at: String,
}

/// What a receipt that fits says.
struct VerifiedReceipt {
    caller: String,
    at: String,
    input_digest: String,
    size: u64,
    /// The emergency signer's own record: where it is, and how much its log has.
    witness: Option<(String, u64, u64)>,
    /// What nothing in it proves.
    unproven: Vec<&'static str>,
    signature: &'static str,
}

pub(crate) fn run(flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    let Verb::Verify(verify) = &flags.verb;
    let name = verify.file.display();
    let text = read(&verify.file)?;
    let text = String::from_utf8(text).map_err(|_| anyhow!("{name}: it is not text"))?;
    let answer: Answer = signing_core::json::from_slice(text.as_bytes())
        .map_err(|error| anyhow!("{name}: it is not an answer of /v1/sign: {error}"))?;
    let registry = read(&verify.signers).and_then(|text| Ok(files::text(text)?))?;
    let registry = Registry::from_json(&registry)
        .map_err(|mistakes| anyhow!("--signers: {}", mistakes.join("; ")))?;
    let input = verify.input.as_deref().map(read).transpose()?;
    let found = answer.check(&registry, input.as_deref(), verify.deployment.as_deref());
    match &found {
        Ok(fits) if as_json => out::report_json(&answer.to_json(fits))?,
        Ok(fits) => out::report(&answer.table(fits))?,
        Err(what) if as_json => {
            out::report_json(&json!({"ok": false, "differs": what.to_string()}))?;
        }
        Err(what) => out::report(&format!("DIFFERS: {what}"))?,
    }
    Ok(if found.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether an answer's receipt proves what the answer says, of `input`.
///
/// # Errors
/// What in the receipt does not verify.
pub(crate) fn prove(answer: &[u8], registry: &Registry, input: &Input) -> Result<(), String> {
    let answer: Answer = signing_core::json::from_slice(answer)
        .map_err(|error| format!("it is not an answer of /v1/sign: {error}"))?;
    let message = match input {
        Input::Message(message) => Some(message.as_slice()),
        Input::Digest(_) => None,
    };
    answer.check(registry, message, None).map(|_| ())
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| file.display().to_string())
}

impl Answer {
    /// Holds everything in it against everything else.
    fn check(
        &self,
        registry: &Registry,
        input: Option<&[u8]>,
        deployment: Option<&str>,
    ) -> Result<VerifiedReceipt, String> {
        let Proven { outline, size } = self.audit.proven("audit", Kind::Signed, registry)?;
        let of = |name: &str| outline.text(name).unwrap_or_default();
        for (what, here, there) in [
            ("signer_kid", &self.signer_kid, of("signer_kid")),
            ("algorithm", &self.algorithm, of("algorithm")),
            ("mode", &self.mode, of("mode")),
            ("request_id", &self.request_id, of("request_id")),
        ] {
            same(what, here, "the record's", there)?;
        }
        let (session, incident) = self.breakglass.as_ref().map_or(("", ""), |breakglass| {
            (breakglass.session.as_str(), breakglass.incident.as_str())
        });
        same("breakglass.session", session, "the record's", of("session"))?;
        same("breakglass.incident", incident, "the record's", of("incident"))?;
        let witness = witness::check(&self.audit, &outline, registry)?;
        let batch = outline.data.get("batch");
        let recorded = (of("signature"), batch, of("input_digest"));
        let signature = self.check_signature(registry, recorded, (input, deployment))?;
        let mut unproven = vec!["ts"];
        unproven.extend(self.breakglass.as_ref().map(|_| "breakglass.expires_at"));
        Ok(VerifiedReceipt {
            caller: of("caller").to_owned(),
            at: outline.at.clone(),
            input_digest: of("input_digest").to_owned(),
            size,
            witness,
            unproven,
            signature,
        })
    }

    /// Checks the signature against the record, the signer's key and the input; what was checked.
    fn check_signature(
        &self,
        registry: &Registry,
        (recorded, batch, input_digest): (&str, Option<&Value>, &str),
        (input, deployment): (Option<&[u8]>, Option<&str>),
    ) -> Result<&'static str, String> {
        let signer = registry
            .get(&self.signer_kid)
            .ok_or_else(|| format!("signer_kid {:?} is not in --signers", self.signer_kid))?;
        let algorithm = Algorithm::parse(&self.algorithm)
            .ok_or_else(|| format!("algorithm {:?} is unknown", self.algorithm))?;
        let recorded =
            STANDARD.decode(recorded).map_err(|_| "the record's signature is not base64")?;
        let given = batch_signer::bytes(&self.signature)?;
        if signer.batch.is_batch() || batch.is_some() {
            let record = (batch, recorded.as_slice(), input_digest);
            let given = (given.as_slice(), self.signature_format.as_deref());
            return proof::check(signer, given, record, (input, deployment));
        }
        let as_given = SignatureFormat::P1363.read(algorithm, &given);
        if given != recorded && as_given.as_ref() != Some(&recorded) {
            return Err("signature is not the record's".to_owned());
        }
        let (hash, digits) =
            input_digest.split_once(':').ok_or("the record's input_digest is not a digest")?;
        let hash = Hash::parse(hash).ok_or("the record's input_digest is of an unknown hash")?;
        if let Some(input) = input {
            let digest = hex::encode(hash.of(input).bytes());
            same("the digest of --input", &digest, "the record's", digits)?;
        }
        let (to_verify, checked) = match (algorithm, input) {
            (algorithm, Some(input)) if algorithm.signs_messages() => {
                let message = Input::Message(input.to_vec());
                if self.verifies(signer, &message, algorithm, &recorded) {
                    return Ok("verified, over the input");
                }
                // A digest is signed as the message that it is.
                (Input::Digest(hash.of(input)), "verified, over the digest of the input")
            }
            (Algorithm::Ed25519Sha512, None) => {
                return Ok("the record's; Ed25519 signs the message, so give it with --input");
            }
            (Algorithm::MlDsaShake256, None) => {
                return Ok("the record's; ML-DSA signs the message, so give it with --input");
            }
            (_, given) => {
                let bytes = hex::decode(digits).ok();
                let digest = bytes.and_then(|bytes| Digest::new(hash, &bytes).ok());
                let digest = digest.ok_or("the record's input_digest is not a digest")?;
                let checked = if given.is_some() {
                    "verified, over the input"
                } else {
                    "verified, over the record's digest; give the input with --input to compare it"
                };
                (Input::Digest(digest), checked)
            }
        };
        if self.verifies(signer, &to_verify, algorithm, &recorded) {
            Ok(checked)
        } else {
            Err(format!("the signature is not {}'s, by --signers, over that", self.signer_kid))
        }
    }

    fn verifies(
        &self,
        signer: &signing_core::Signer,
        input: &Input,
        algorithm: Algorithm,
        signature: &[u8],
    ) -> bool {
        let input = ToBeSigned::prepare(input, algorithm);
        input.is_ok_and(|input| signer.public_key.verifies(&input, signature))
    }

    fn to_json(&self, fits: &VerifiedReceipt) -> Value {
        let witness = fits.witness.as_ref();
        let witness = witness.map(|(log, seq, size)| json!({"log": log, "seq": seq, "size": size}));
        json!({
            "ok": true,
            "breakglass_signer": witness,
            "log": self.audit.log,
            "seq": self.audit.seq,
            "size": fits.size,
            "recorded_at": fits.at,
            "caller": fits.caller,
            "signer_kid": self.signer_kid,
            "algorithm": self.algorithm,
            "input_digest": fits.input_digest,
            "signature": fits.signature,
            "unproven": fits.unproven,
        })
    }

    fn table(&self, fits: &VerifiedReceipt) -> String {
        let expires = self.breakglass.as_ref().map(|breakglass| breakglass.expires_at.as_str());
        let unproven = match expires {
            Some(expires) => format!("ts ({}), breakglass.expires_at ({expires})", self.ts),
            None => format!("ts ({})", self.ts),
        };
        let witness = fits.witness.as_ref().map(|(log, seq, size)| {
            (
                "emergency",
                format!("record {seq} of {size} of the emergency signer's {log} says the same"),
            )
        });
        let mut rows = vec![
            ("verdict", "it fits: what is below was recorded, and is in the signed log".to_owned()),
            ("log", self.audit.log.clone()),
            ("record", format!("{} of {}, at {}", self.audit.seq, fits.size, fits.at)),
            ("caller", fits.caller.clone()),
            ("signer", format!("{}, {}", self.signer_kid, self.algorithm)),
            ("input", fits.input_digest.clone()),
            ("signature", fits.signature.to_owned()),
        ];
        rows.extend(witness);
        rows.push(("not proven", unproven));
        show::rows(&rows)
    }
}

fn same(what: &str, here: &str, whose: &str, there: &str) -> Result<(), String> {
    if here == there {
        return Ok(());
    }
    Err(format!("{what} is {here:?}, and {whose} is {there:?}"))
}

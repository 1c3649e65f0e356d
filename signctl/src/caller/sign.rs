//! `signctl sign`: asks for one signature, and says that it is one only after it verified here.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::out;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize as _;
use serde_json::{Value, json};
use signing_core::batch::is_proof;
use signing_core::key::Signer;
use signing_core::{Algorithm, Mode};

use super::answer::{self, Answer, Asked};
use super::input::{self, CallerInput, WholeInput};
use super::reach::{Reach, Reached, VARIABLES};
use crate::client::Reply;
use crate::{receipt, show};

pub(crate) fn help() -> String {
    format!(
        "{VARIABLES}\n\nExample: signctl sign release.tar --signer payments-2026 --receipt release.tar.receipt\n         \
         sha256sum release.tar | cut -d ' ' -f 1 | xargs signctl sign --json --digest"
    )
}

/// What to sign, and how.
#[derive(clap::Args)]
pub(crate) struct Sign {
    #[command(flatten)]
    input: input::Flags,
    #[command(flatten)]
    reach: Reach,
    /// AWS KMS's name of an algorithm; else the signer's own.
    #[arg(long, value_name = "NAME", value_parser = crate::signers::algorithm)]
    algorithm: Option<Algorithm>,
    /// Why, for the journal: one line.
    #[arg(long, value_name = "TEXT")]
    justification: Option<String>,
    /// Ask for the record and its proof too, and write the whole answer to this new file: what
    /// `signctl receipt verify` reads.
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
}

/// `EX_TEMPFAIL` of sysexits.h: the same command later may work.
const LATER: u8 = 75;

/// Signs. Exit 0 only if the signature verified.
pub(crate) fn run(flags: &Sign, as_json: bool) -> anyhow::Result<ExitCode> {
    let reached = flags.reach.find()?;
    if let Some(file) = flags.receipt.as_deref().filter(|file| file.exists()) {
        bail!("--receipt {}: it is there already; name a new file", file.display());
    }
    let what = flags.whole(&reached)?;
    let mut body = input::fields(&what.input);
    let mut put = |name: &str, value: Option<&str>| {
        if let (Some(body), Some(value)) = (body.as_object_mut(), value) {
            body.insert(name.to_owned(), value.into());
        }
    };
    put("signer_kid", reached.signer.as_deref());
    put("algorithm", flags.algorithm.map(Algorithm::name));
    put("justification", flags.justification.as_deref());
    let reply = reached.post("/v1/sign", &body, flags.receipt.is_some())?;
    if reply.status != 200 {
        return refused(&reply, as_json);
    }
    let answer = Answer::deserialize(&reply.body)
        .map_err(|error| anyhow!("the proxy's answer cannot be read: {error}"))?;
    let asked = Asked {
        signer: reached.signer.as_deref(),
        algorithm: flags.algorithm,
        input: &what.input,
        deployment: reached.deployment.as_deref(),
    };
    answer::check(&answer, &reached.registry, &asked, host::clock::wall_now())
        .map_err(|why| anyhow!("NOT VERIFIED, and not to be used: {why}"))?;
    if let Some(file) = &flags.receipt {
        keep(file, &reply.body, &reached, &what)?;
    }
    if as_json {
        let mut said = reply.body;
        if let Some(said) = said.as_object_mut() {
            said.insert("input".to_owned(), what.name.into());
            said.insert("verified".to_owned(), true.into());
        }
        out::report_json(&said)?;
    } else {
        out::report(&table(&answer, &what, &reached, flags.receipt.as_deref()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the proxy says when it does not sign. Exit 75 if it names a time to come back (`Retry-After`), which
/// each 429 and 503 does, else 1.
pub(super) fn refused(reply: &Reply, as_json: bool) -> anyhow::Result<ExitCode> {
    if as_json {
        out::report_json(&reply.body)?;
    } else {
        out::say(&format!("signctl: {}", reply.refused()));
    }
    Ok(if matches!(reply.status, 429 | 503) { ExitCode::from(LATER) } else { ExitCode::FAILURE })
}

impl Sign {
    /// What is sent: the input or, of a long one, the digest that the signer takes.
    fn whole(&self, reached: &Reached) -> anyhow::Result<WholeInput> {
        let long = match self.input.open()? {
            CallerInput::Whole(whole) => return Ok(whole),
            CallerInput::Digested(long) => long,
        };
        let (algorithm, is_batch) = match self.algorithm {
            Some(algorithm) => (algorithm, false),
            None => {
                let signer = signer(reached)?;
                (signer.algorithm(), signer.batch.is_batch())
            }
        };
        // A batch signer's leaf says that it is a digest's, as its verifier sees.
        match algorithm {
            Algorithm::Ed25519Sha512 if !is_batch => return Err(input::too_long(long.name())),
            Algorithm::MlDsaShake256 => return long.whole(),
            _ => {}
        }
        let digests = long.digests(&[algorithm.digest_hash()])?;
        digests.into_iter().next().ok_or_else(|| anyhow!("no digest was made"))
    }
}

/// The registered signer that the proxy will ask: the one that is named, or what the proxy says that
/// an alias or no name means.
fn signer(reached: &Reached) -> anyhow::Result<&Signer> {
    let named = reached.signer.as_deref();
    let of_registry = named.and_then(|kid| reached.registry.get(kid));
    if let Some(signer) = of_registry {
        return Ok(signer);
    }
    let path = match named {
        Some(alias) => {
            format!("/public-key?kid={}", utf8_percent_encode(alias, NON_ALPHANUMERIC))
        }
        None => "/public-key".to_owned(),
    };
    let reply = reached.get(&path)?;
    if reply.status != 200 {
        bail!("{}", reply.refused());
    }
    let kid = reply.body.get("signer_kid").and_then(Value::as_str).unwrap_or_default();
    let signer = reached.registry.get(kid);
    signer.map(AsRef::as_ref).ok_or_else(|| {
        anyhow!("the signer {kid:?} is not in the registry {}", reached.signers.display())
    })
}

/// Writes the answer, once its receipt proves what it says.
fn keep(file: &Path, answer: &Value, reached: &Reached, what: &WholeInput) -> anyhow::Result<()> {
    let text = format!("{answer:#}\n");
    receipt::prove(text.as_bytes(), &reached.registry, &what.input)
        .map_err(|why| anyhow!("the receipt DIFFERS, and was not written: {why}"))?;
    let shown = || format!("--receipt {}", file.display());
    let mut out = OpenOptions::new().write(true).create_new(true).open(file).with_context(shown)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).with_context(shown)
}

fn table(answer: &Answer, what: &WholeInput, reached: &Reached, receipt: Option<&Path>) -> String {
    let mode = match &answer.breakglass {
        Some(session) => format!(
            "BREAK-GLASS, an emergency key: session {}, incident {}, until {}",
            session.session, session.incident, session.expires_at
        ),
        None if answer.mode == Mode::Normal.word() => "normal".to_owned(),
        None => "BREAK-GLASS, an emergency key".to_owned(),
    };
    let mut rows = vec![
        ("signed", what.name.clone()),
        ("signature", in_one_line(&answer.signature)),
        ("signer", format!("{}, {}", answer.signer_kid, answer.algorithm)),
        ("mode", mode),
        ("verified", format!("here, under the registry {}", reached.signers.display())),
        ("record", format!("{} of {}", answer.audit.seq, answer.audit.log)),
        ("request", answer.request_id.clone()),
    ];
    rows.extend(receipt.map(|file| ("receipt", file.display().to_string())));
    show::rows(&rows)
}

/// A batch signer's proof has many lines; its base64 is taken wherever the proof is.
fn in_one_line(signature: &str) -> String {
    if is_proof(signature.as_bytes()) { STANDARD.encode(signature) } else { signature.to_owned() }
}

/// The JSON of a whole answer, read again.
pub(super) fn of_file(file: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read(file).with_context(|| format!("--answer {}", file.display()))?;
    let answer: Value = signing_core::json::from_slice(&text)
        .map_err(|error| anyhow!("--answer {} is not JSON: {error}", file.display()))?;
    if answer.get("signature").and_then(Value::as_str).is_none() {
        let said = json!(file.display().to_string());
        bail!("--answer {said} is no answer of `signctl sign --json`: it has no signature");
    }
    Ok(answer)
}

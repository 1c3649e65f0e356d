//! `signctl drill --breakglass`: the whole ceremony, with the real approvers and a key that is nobody's. A signer of
//! the rehearsal's own takes the request, so that the real one is not even asked; its deployment, instance, key and
//! document are others', so that no approval of it counts anywhere else; no consumer has its key.

mod peer;
mod stage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use host::clock::{rfc3339_seconds, wall_now};
use host::out;
use serde_json::json;
use signing_core::admin::{Drill, Rehearsal, path};
use signing_core::breakglass::wire::operator::Unlocked;
use signing_core::breakglass::wire::{
    self, Answer, Ask, Input, JournalHead, OutageClaim, Show, Signed, State, Welcome,
};
use signing_core::breakglass::{APPROVAL_MAX_BYTES, Draft, TYPE};
use signing_core::journal::Head;
use signing_core::key::ToBeSigned;
use signing_core::{Algorithm, Registry, request};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use peer::Peer;
use stage::{KID, Stage};

use super::approve::signed;
use super::operator;
use super::review::sources::{Document, bounded};
use crate::audit;
use crate::client;

/// What it is called, where an incident has its name.
const INCIDENT: &str = "REHEARSAL";
/// What is signed begins with this: no consumer takes it for anything.
const MESSAGE: &[u8] = b"signing-proxy breakglass rehearsal v1\0";
/// Signatures of a rehearsal.
const SIGNATURES: u64 = 3;
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the session could last; it ends after its signatures.
const SESSION: time::Duration = time::Duration::minutes(10);

/// What is rehearsed with whom.
#[derive(Args)]
pub(crate) struct Flags {
    /// Rehearse a whole break-glass ceremony instead, with the real approvers and a key of its own. No signer fails,
    /// no real key is touched.
    #[arg(long, conflicts_with_all = ["signer", "seconds", "i_understand"])]
    breakglass: bool,
    /// The registry, for the signing keys that there are.
    #[arg(
        long,
        value_name = "FILE",
        env = "SIGNCTL_SIGNERS",
        default_value = "/etc/signing-proxy/signers.json"
    )]
    signers: PathBuf,
    /// The emergency signer's configuration: who has to approve, and with which keys.
    #[arg(
        long,
        value_name = "FILE",
        env = "SIGNCTL_SIGNER_CONFIG",
        default_value = "/etc/breakglass-signer/breakglass-signer.toml"
    )]
    signer_config: PathBuf,
    /// The key of an approver who sits here, as `ssh-keygen -f` takes it. Repeatable. Without it the rehearsal waits
    /// for the files that `signctl breakglass approve` writes.
    #[arg(long, value_name = "KEY", requires = "breakglass")]
    key: Vec<PathBuf>,
    /// A new directory for the request and its approvals [default: rehearsal-TIME]
    #[arg(long, value_name = "DIR", requires = "breakglass")]
    dir: Option<PathBuf>,
    /// How long to wait for approvals.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, requires = "breakglass", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    within: u64,
}

impl Flags {
    pub(crate) fn is_asked(&self) -> bool {
        self.breakglass
    }
}

/// What was done, in order: step and words.
type Steps = Vec<(&'static str, String)>;

/// Runs it. It is recorded in the proxy's journal before it begins, and with what it came to.
pub(crate) fn run(flags: &Flags, socket: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let begun = Rehearsal {
        ok: None,
        detail: "a break-glass ceremony is rehearsed: no outage, and no real key".to_owned(),
        approved_by: Vec::new(),
    };
    record(socket, begun).context("nothing was rehearsed, since it could not be recorded")?;
    let (mut steps, mut approved_by) = (Steps::new(), Vec::new());
    let outcome = rehearsed(flags, &mut steps, &mut approved_by);
    let (ok, detail) = match &outcome {
        Ok(()) => (true, "every step was as it has to be".to_owned()),
        Err(error) => {
            let after = steps.last().map_or("the beginning", |(step, _)| *step);
            (false, text::clipped(&format!("failed after {after}: {error:#}"), 500))
        }
    };
    record(socket, Rehearsal { ok: Some(ok), detail: detail.clone(), approved_by })
        .context("what the rehearsal came to could not be recorded")?;
    if as_json {
        let steps: Vec<_> =
            steps.iter().map(|(step, words)| json!({"step": step, "says": words})).collect();
        out::report_json(&json!({"ok": ok, "detail": detail, "steps": steps}))?;
    } else {
        let mut lines: Vec<_> =
            steps.iter().map(|(step, words)| format!("{step:<10}  {words}")).collect();
        lines.push(format!("{}: {detail}", if ok { "held" } else { "DID NOT HOLD" }));
        out::report(&lines.join("\n"))?;
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn record(socket: &Path, rehearsal: Rehearsal) -> anyhow::Result<()> {
    let body =
        Drill { signer_kid: None, seconds: None, i_understand: false, rehearsal: Some(rehearsal) };
    let reply = client::post(socket, path::DRILL, &body)?;
    if reply.status != 200 {
        bail!("the proxy: {}", reply.refused());
    }
    Ok(())
}

fn rehearsed(
    flags: &Flags,
    steps: &mut Steps,
    approved_by: &mut Vec<String>,
) -> anyhow::Result<()> {
    let dir = flags
        .dir
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("rehearsal-{}", wall_now().unix_timestamp())));
    let mut stage = Stage::set((&flags.signers, &flags.signer_config), dir)?;
    let mut peer = Peer::connect(&stage.socket("signer.sock"))?;
    let hello = wire::Hello {
        id: 0,
        version: wire::VERSION,
        deployment: stage.deployment.clone(),
        log: stage.proxy_log.checkpoint().log.to_string(),
    };
    let Answer::Welcome(Welcome { state, .. }) =
        peer.ask(|id| Ask::Hello(wire::Hello { id, ..hello }))?
    else {
        bail!("it did not answer a hello");
    };
    let Answer::Believed(_) = peer.ask(|id| Ask::Show(Show::new(id, 0, &stage.proxy_log, None)))?
    else {
        bail!("it did not say that it believes the log of the proxy");
    };
    steps.push(("key", format!("a key {KID} was made, and is in no registry but the rehearsal's")));
    let (document, not_before) = requested(&stage, &state)?;
    steps.push((
        "request",
        format!("{} names the deployment {:?}", document.file.display(), stage.deployment),
    ));
    let approvals = approvals(flags, &stage, &state, &document)?;
    steps.push(("approve", format!("{} approvals", approvals.len())));
    while wall_now() < not_before {
        std::thread::sleep(LOOK_EVERY);
    }
    unlock(&stage)?;
    steps.push(("unlock", "the passphrase went to the operator socket".to_owned()));
    let activate = activation(&stage, &document, &approvals);
    let Answer::Activated(activated) = peer.ask(&activate)? else {
        bail!("it did not say that the session is in force");
    };
    approved_by.clone_from(&activated.session.approved_by);
    let session = activated.session.session;
    steps.push(("activate", format!("{session}, approved by {}", approved_by.join(", "))));
    sign(&mut peer, &stage, &session)?;
    steps.push(("sign", format!("{SIGNATURES} signatures verify under the rehearsal's key")));
    let reason = "the rehearsal is over".to_owned();
    let end = wire::End { id: 0, reason, by: by(), own: None };
    peer.ask(|id| Ask::End(wire::End { id, ..end }))?;
    steps.push(("end", "the session is over, and the key wiped".to_owned()));
    match peer.refused(&activate)?.as_str() {
        "nonce_used" => {
            steps.push((
                "again",
                "the same request and approvals are refused: nonce_used".to_owned(),
            ));
        }
        other => bail!("the same request was to be refused with nonce_used, and was with {other}"),
    }
    let destroy = wire::Destroy {
        id: 0,
        emergency_kid: KID.to_owned(),
        reason: "the rehearsal is over".to_owned(),
        attested: Vec::new(),
        by: by(),
    };
    peer.ask(|id| Ask::Destroy(wire::Destroy { id, ..destroy }))?;
    steps.push(("destroy", format!("the key {KID} is destroyed")));
    drop(peer);
    stage.stop()?;
    let found = audit::verified_whole(&stage.journal(), Some(&stage.registry()), None)?;
    let found = found.map_err(|defect| anyhow!("the journal has a DEFECT: {defect}"))?;
    steps.push(("verify", found));
    Ok(())
}

fn by() -> String {
    host::user::ourselves()
}

/// Writes the request.
fn requested(stage: &Stage, state: &State) -> anyhow::Result<(Document, OffsetDateTime)> {
    let key = state.keys.iter().find(|key| key.kid == KID).context("it holds no such key")?;
    let mut nonce = [0; 16];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| anyhow!("the system gives no randomness"))?;
    // Times of requests are whole seconds; the journal began within this one.
    let now = wall_now();
    let not_before = now.replace_nanosecond(0)? + time::Duration::seconds(1);
    let draft = Draft {
        r#type: TYPE.to_owned(),
        id: "rehearsal".to_owned(),
        audience: stage.deployment.clone(),
        instances: vec![state.instance.clone()],
        incident: INCIDENT.to_owned(),
        justification: "a rehearsal: there is no outage, and the key is no real one".to_owned(),
        emergency_kid: KID.to_owned(),
        emergency_key_sha256: key.sha256.clone(),
        replaces: vec![stage.replaces.to_string()],
        callers: vec!["local:rehearsal".to_owned()],
        outage_since: rfc3339_seconds(not_before - time::Duration::minutes(1)),
        not_before: rfc3339_seconds(not_before),
        expires_at: rfc3339_seconds(not_before + SESSION + time::Duration::hours(1)),
        // The last one would end the session.
        max_signatures: SIGNATURES + 1,
        under_freeze: None,
        nonce: STANDARD.encode(nonce),
    };
    let bytes = draft.to_bytes().map_err(|error| anyhow!("no such request: {error}"))?;
    let file = stage.shown.join("request.json");
    std::fs::write(&file, bytes)?;
    Ok((Document::read(&file)?, not_before))
}

/// The approvals: made here with the keys that were named, and those that people left.
fn approvals(
    flags: &Flags,
    stage: &Stage,
    state: &State,
    document: &Document,
) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut made = Vec::new();
    for key in &flags.key {
        made.push(signed(key, document)?);
    }
    let wanted = state.required_roles.len();
    if made.len() >= wanted {
        return Ok(made);
    }
    out::say(&format!(
        "each of {} approves, with a key of their own:\n  signctl breakglass approve {} --key KEY --signers {} \
         --signer-config {}",
        state.required_roles.join(", "),
        document.file.display(),
        stage.registry().display(),
        stage.config().display()
    ));
    let began = Instant::now();
    loop {
        let files: Vec<_> =
            state.required_roles.iter().map(|role| document.approval_of(role)).collect();
        let left: Vec<_> = files.iter().filter(|file| file.exists()).collect();
        if made.len() + left.len() >= wanted {
            for file in left {
                made.push(bounded(file, APPROVAL_MAX_BYTES)?);
            }
            return Ok(made);
        }
        if began.elapsed() > Duration::from_secs(flags.within) {
            bail!(
                "{} of {wanted} approvals came within {} s (--within)",
                made.len() + left.len(),
                flags.within
            );
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The passphrase of the rehearsal's key, the way that the real one's goes.
fn unlock(stage: &Stage) -> anyhow::Result<()> {
    let length = u32::try_from(stage.passphrase.len())?.to_le_bytes();
    let mut frame = Zeroizing::new(Vec::with_capacity(length.len() + stage.passphrase.len()));
    frame.extend_from_slice(&length);
    frame.extend_from_slice(stage.passphrase.as_bytes());
    let answer: Unlocked = operator::entrust(&stage.socket("operator.sock"), &frame)?;
    if !answer.unlocked {
        bail!("{}", answer.detail);
    }
    Ok(())
}

fn activation(
    stage: &Stage,
    document: &Document,
    approvals: &[Vec<u8>],
) -> impl Fn(u64) -> Ask + use<> {
    let claim = OutageClaim {
        signer_kid: stage.replaces.to_string(),
        since: rfc3339_seconds(wall_now() - time::Duration::minutes(1)),
        seconds: 60,
    };
    let activate = wire::Activate {
        id: 0,
        request_b64: STANDARD.encode(&document.bytes),
        approvals_b64: approvals.iter().map(|armored| STANDARD.encode(armored)).collect(),
        outages: vec![claim],
        freeze: None,
        proxy_head: head(stage),
        by: by(),
    };
    move |id| Ask::Activate(wire::Activate { id, ..activate.clone() })
}

/// What stands for the proxy's journal.
fn head(stage: &Stage) -> JournalHead {
    let checkpoint = stage.proxy_log.checkpoint();
    JournalHead::new(checkpoint.log, Head::of(checkpoint))
}

/// Has it sign, and checks each signature.
fn sign(peer: &mut Peer, stage: &Stage, session: &str) -> anyhow::Result<()> {
    let registry = host::files::read_text(&stage.registry())?;
    let registry =
        Registry::from_json(&registry).map_err(|mistakes| anyhow!(mistakes.join("; ")))?;
    let key = registry.get(KID).context("the rehearsal's registry has no such key")?;
    let algorithm = Algorithm::Ed25519Sha512;
    for number in 0..SIGNATURES {
        let message = [MESSAGE, format!("{session} {number}").as_bytes()].concat();
        let prepared = ToBeSigned::prepare(&request::Input::Message(message), algorithm)
            .map_err(|refusal| anyhow!(refusal.detail))?;
        let sign = wire::Sign {
            id: 0,
            session: session.to_owned(),
            caller: "local:rehearsal".to_owned(),
            request_id: format!("rehearsal-{number}"),
            signer_kid: stage.replaces.to_string(),
            algorithm: algorithm.name().to_owned(),
            input: Input::of(&prepared),
            justification: None,
            proxy_head: head(stage),
            proves: false,
        };
        let Answer::Signed(Signed { signature, .. }) =
            peer.ask(|id| Ask::Sign(wire::Sign { id, ..sign }))?
        else {
            bail!("it answered no signature");
        };
        if !key.public_key.verifies(&prepared, &STANDARD.decode(signature)?) {
            bail!("a signature does not verify under the rehearsal's key");
        }
    }
    Ok(())
}

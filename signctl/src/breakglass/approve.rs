//! `signctl breakglass approve`: the page, a yes, and `ssh-keygen -Y sign` over the very bytes that were
//! shown. Nothing is called an approval before it was judged as the emergency signer judges it.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use host::out;
use serde_json::json;
use signing_core::breakglass::activation::{Approval, missing_roles, person};
use signing_core::breakglass::{APPROVAL_MAX_BYTES, NAMESPACE};

use super::review::page::Page;
use super::review::risks;
use super::review::sources::{Document, Known, Sources, Who, bounded};

/// How long a person has to type a passphrase and to touch the token.
const SIGNING_MAX: Duration = Duration::from_secs(180);
const SIGNING_LOOK: Duration = Duration::from_millis(20);
/// Longest answer to a question.
const ANSWER_MAX_BYTES: u64 = 64;

/// Which request, with which key.
#[derive(Args)]
pub(super) struct Flags {
    /// The request.
    #[arg(value_name = "REQUEST")]
    request: PathBuf,
    /// Your approver key, as `ssh-keygen -f` takes it: the private key, the handle of a hardware key, or the
    /// public key (.pub) of a key that your agent holds.
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
    /// The file to write; else REQUEST.ROLE.sig, by your role.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    sources: Sources,
}

/// Shows the page, asks, signs, judges, writes.
pub(super) fn run(flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    let document = Document::read(&flags.request)?;
    let now = host::clock::wall_now();
    let known = flags.sources.read(&document, now);
    let risks = risks::of(&document.request, &known, now);
    let page = Page { document: &document, known: &known, risks: &risks, now };
    // The person has to see it, also where a program reads what is printed.
    out::say(&page.words());
    if !page.is_open() {
        bail!("nothing was signed: the page says why this request must not be approved");
    }
    let who = compared(&known)?;
    if !is_yes(&document)? {
        bail!(
            "nothing was signed: the answer was not yes; tell the person who sent you the request why"
        );
    }
    let armored = signed(&flags.key, &document)?;
    // Judged now: the person may have taken their time.
    let now = host::clock::wall_now();
    let registry = known.registry.as_ref().ok();
    let approval = who
        .judge(&armored, &document, registry, now)
        .map_err(|why| anyhow!("this is no approval, and nothing was written: {why}"))?;
    is_another_person(&approval, &known)?;
    let file = match &flags.out {
        Some(file) => file.clone(),
        None => document.approval_of(role_of(&approval, &known, who)),
    };
    write(&file, &armored)?;
    said(
        &Done { document: &document, known: &known, who, approval: &approval, file: &file },
        as_json,
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Who has to approve, if all that a judgement needs could be read.
fn compared(known: &Known) -> anyhow::Result<&Who> {
    let missing: Vec<&str> = [known.registry.as_ref().err(), known.who.as_ref().err()]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    match &known.who {
        Ok(who) if missing.is_empty() => Ok(who),
        _ => bail!(
            "nothing was signed, since nothing could say whether your approval counts: {}; name your own \
             copies with --signers, --signer-config and --approvers",
            missing.join("; ")
        ),
    }
}

/// Asks. Only a whole `yes` counts as one.
fn is_yes(document: &Document) -> anyhow::Result<bool> {
    let request = &document.request;
    out::say(&format!(
        "\nApprove {} for the incident {}, SHA-256 {}? Type yes to sign it:",
        request.id(),
        request.incident(),
        request.sha256()
    ));
    let mut answer = String::new();
    io::Read::take(io::stdin().lock(), ANSWER_MAX_BYTES)
        .read_line(&mut answer)
        .context("the answer could not be read")?;
    Ok(answer.trim() == "yes")
}

/// Has `ssh-keygen` sign the bytes that were shown. They are in a directory of their own, so that nobody
/// changes them meanwhile, and a `.sig` that lies beside the request is not asked about.
pub(super) fn signed(key: &Path, document: &Document) -> anyhow::Result<Vec<u8>> {
    let scratch = Scratch::new()?;
    let file = scratch.0.join("request.json");
    fs::write(&file, &document.bytes)?;
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-Y", "sign", "-n", NAMESPACE, "-f"]).arg(key).arg(&file);
    // A passphrase is asked for at the terminal; what a pipe has left is no passphrase.
    let stdin = if io::stdin().is_terminal() { Stdio::inherit() } else { Stdio::null() };
    // What it prints names the file of the scratch directory; what it asks is on the terminal.
    keygen.stdin(stdin).stdout(Stdio::null());
    let mut child = keygen.spawn().map_err(|error| {
        anyhow!("ssh-keygen does not start: {error}; install OpenSSH 8.9 or later")
    })?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() >= SIGNING_MAX {
            let _ = child.kill();
            let _ = child.wait();
            bail!(
                "nothing was signed: ssh-keygen did not end within {} s; is the token plugged in, and was \
                 it touched?",
                SIGNING_MAX.as_secs()
            );
        }
        std::thread::sleep(SIGNING_LOOK);
    };
    if !status.success() {
        bail!(
            "nothing was signed: ssh-keygen ended with {status}; it said above why (--key {})",
            key.display()
        );
    }
    bounded(&scratch.0.join("request.json.sig"), APPROVAL_MAX_BYTES)
        .context("ssh-keygen wrote no signature")
}

/// A directory that nobody else can look into, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let template = std::env::temp_dir().join("signctl-approve-XXXXXX");
        let made = nix::unistd::mkdtemp(&template);
        let directory = made.with_context(|| format!("a directory {}", template.display()))?;
        Ok(Self(directory))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It holds the request and its signature, and no secret.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Two approvals of one person, or by one key, are one.
fn is_another_person(approval: &Approval, known: &Known) -> anyhow::Result<()> {
    let twice = known.approvals.iter().find(|(_, other)| {
        other.as_ref().is_ok_and(|other| {
            person(&other.principal) == person(&approval.principal)
                || other.fingerprint == approval.fingerprint
        })
    });
    match twice {
        None => Ok(()),
        Some((file, _)) => bail!(
            "nothing was written: {} approved already, in {}; each role has a person of its own",
            approval.principal,
            file.display()
        ),
    }
}

/// For which role it counts: the first that is still missing.
fn role_of<'a>(approval: &'a Approval, known: &Known, who: &'a Who) -> &'a str {
    let required = &who.settings.rules.required_roles;
    let missing = missing_roles(required, &known.counting());
    let mut roles = required.iter().filter(|role| approval.roles.contains(*role));
    let first = roles.clone().next();
    let role = roles.find(|role| missing.contains(&role.as_str())).or(first);
    role.map_or("approval", String::as_str)
}

/// Writes a new file, whole and on disk, or none.
fn write(file: &Path, armored: &[u8]) -> anyhow::Result<()> {
    let no = || {
        format!(
            "the approval is good and could not be written: {}: name a new file with --out",
            file.display()
        )
    };
    let mut out =
        OpenOptions::new().write(true).create_new(true).mode(0o644).open(file).with_context(no)?;
    let written = out.write_all(armored).and_then(|()| out.sync_all());
    if written.is_err() {
        // Half an approval does not count.
        let _ = fs::remove_file(file);
    }
    written.with_context(no)
}

/// What was done, and what is left.
struct Done<'d> {
    document: &'d Document,
    known: &'d Known,
    who: &'d Who,
    approval: &'d Approval,
    file: &'d Path,
}

fn said(done: &Done<'_>, as_json: bool) -> anyhow::Result<()> {
    let Done { document, known, who, approval, file } = done;
    let mut given = known.counting();
    given.push(approval);
    let missing = missing_roles(&who.settings.rules.required_roles, &given);
    let request = document.file.display();
    if as_json {
        return Ok(out::report_json(&json!({
            "approved": true, "file": file, "request": document.file, "sha256": document.request.sha256(),
            "principal": approval.principal, "roles": approval.roles, "fingerprint": approval.fingerprint,
            "algorithm": approval.algorithm, "hardware": approval.hardware.is_some(),
            "touched": approval.hardware.map(|by| by.touched), "missing_roles": missing,
        }))?);
    }
    let counted = known.approvals.iter().filter(|(_, approval)| approval.is_ok());
    let files = counted.map(|(file, _)| file.as_path()).chain([*file]);
    let approvals: String = files.map(|file| format!(" --approval {}", file.display())).collect();
    let next = match missing[..] {
        [] => format!(
            "Every role has approved. Next, on the proxy's machine: signctl breakglass unlock, then\n  \
             signctl breakglass activate --request {request}{approvals}"
        ),
        ref roles => format!(
            "Send {} to the person who sent you the request. {} still has to approve: signctl breakglass \
             approve {request} --key KEY",
            file.display(),
            roles.join(" and ")
        ),
    };
    Ok(out::report(&format!(
        "approved by {} with {} {}: {} is the approval\n{next}",
        approval.who(),
        approval.algorithm,
        approval.fingerprint,
        file.display()
    ))?)
}

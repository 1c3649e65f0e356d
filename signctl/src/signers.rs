//! `signctl signers`: the registry, edited so that no reader ever sees half of it, and no edit
//! leaves one that the proxy would refuse.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use signing_core::Registry;
use signing_core::registry::Entry;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Which registry, and what to do with it.
#[derive(Args)]
pub(crate) struct Flags {
    /// The registry.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SIGNCTL_SIGNERS",
        default_value = "/etc/signing-proxy/signers.json"
    )]
    signers: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List every key, its algorithm, purpose and whether it is revoked.
    #[command(after_help = "Example: signctl signers list --signers signers.json --json")]
    List,
    /// Add an entry: a JSON object as `breakglass-signer keygen` prints it, from a file or with - from
    /// standard input. A kid and a key are there once.
    #[command(
        after_help = "Example: breakglass-signer keygen --kid breakglass-2026 --algorithm ed25519 --out key.pem | signctl signers add -"
    )]
    Add {
        /// The entry's file, or - .
        #[arg(value_name = "FILE")]
        entry: PathBuf,
    },
    /// Set `revokedAt`, now. What was revoked stays revoked.
    #[command(after_help = "Example: signctl signers revoke breakglass-2026 && signctl reload")]
    Revoke {
        /// The key's kid.
        kid: String,
    },
}

/// Carries out one verb.
pub(crate) fn run(flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    let file = flags.signers.as_path();
    match &flags.verb {
        Verb::List => list(file, as_json)?,
        Verb::Add { entry } => {
            let kid = add(file, entry)?;
            said(as_json, &json!({"added": kid}), &format!("{kid} is added to {}", file.display()));
        }
        Verb::Revoke { kid } => {
            let at = revoke(file, kid)?;
            let words = format!("{kid} is revoked in {} since {at}", file.display());
            said(as_json, &json!({"revoked": kid, "revokedAt": at}), &words);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Revokes a key; since when it is.
pub(crate) fn revoke(file: &Path, kid: &str) -> anyhow::Result<String> {
    let mut document = read(file)?;
    let entry = entries(&mut document, file)?.iter_mut().find(|entry| kid_of(entry) == Some(kid));
    let entry = entry.and_then(Value::as_object_mut);
    let entry = entry.ok_or_else(|| anyhow!("{kid} is not in {}", file.display()))?;
    if let Some(at) = entry.get("revokedAt").and_then(Value::as_str) {
        return Ok(at.to_owned());
    }
    let now = OffsetDateTime::now_utc();
    let at = now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339)?;
    entry.insert("revokedAt".to_owned(), json!(at));
    replace(file, &document)?;
    Ok(at)
}

fn add(file: &Path, from: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if from == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = fs::read_to_string(from).with_context(|| from.display().to_string())?;
    }
    let entry: Value = serde_json::from_str(&text).context("the entry is not JSON")?;
    let kid = kid_of(&entry).ok_or_else(|| anyhow!("the entry has no \"signer_kid\""))?.to_owned();
    let mut document = read(file)?;
    entries(&mut document, file)?.push(entry);
    replace(file, &document)?;
    Ok(kid)
}

fn list(file: &Path, as_json: bool) -> anyhow::Result<()> {
    let document = read(file)?;
    if as_json {
        println!("{document:#}");
        return Ok(());
    }
    let registry = Registry::from_json(&document.to_string())
        .map_err(|mistakes| anyhow!("{}: {}", file.display(), mistakes.join("; ")))?;
    for Entry { signer_kid, algorithm, purpose, not_after, revoked_at, .. } in
        registry.to_document().signers
    {
        let purpose = purpose.as_deref().unwrap_or("signing");
        let ends = match (revoked_at, not_after) {
            (Some(at), _) => format!("  revoked {at}"),
            (None, Some(at)) => format!("  until {at}"),
            (None, None) => String::new(),
        };
        println!("{signer_kid:<32}  {algorithm:<20}  {purpose:<10}{ends}");
    }
    Ok(())
}

fn said(as_json: bool, value: &Value, words: &str) {
    if as_json {
        println!("{value:#}");
    } else {
        println!("{words}");
    }
}

fn kid_of(entry: &Value) -> Option<&str> {
    entry.get("signer_kid").or_else(|| entry.get("signerId"))?.as_str()
}

fn read(file: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
}

fn entries<'d>(document: &'d mut Value, file: &Path) -> anyhow::Result<&'d mut Vec<Value>> {
    let entries = document.get_mut("signers").and_then(Value::as_array_mut);
    entries.ok_or_else(|| anyhow!("{} has no list \"signers\"", file.display()))
}

/// Puts a registry in the place of another: whole, with the same owner and mode, on disk before
/// it has the name. One that has a mistake is not written.
fn replace(file: &Path, document: &Value) -> anyhow::Result<()> {
    let text = format!("{document:#}\n");
    if let Err(mistakes) = Registry::from_json(&text) {
        bail!("nothing changed: {}", mistakes.join("; "));
    }
    let before = fs::metadata(file)?;
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = PathBuf::from(name);
    let written = write(&new, &text, &before).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        // What is left of it is of no use.
        let _ = fs::remove_file(&new);
    }
    written.with_context(|| file.display().to_string())?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

fn write(new: &Path, text: &str, before: &fs::Metadata) -> std::io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    out.write_all(text.as_bytes())?;
    let same_owner = (before.uid(), before.gid()) == (out.metadata()?.uid(), out.metadata()?.gid());
    if !same_owner {
        fchown(&out, Some(before.uid()), Some(before.gid()))?;
    }
    out.set_permissions(before.permissions())?;
    out.sync_all()
}

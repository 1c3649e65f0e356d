//! `signctl signers`: the registry, edited so that no reader ever sees half of it, and no edit
//! leaves one that the proxy would refuse.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use host::{files, out};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};
use signing_core::key::{KeyKind, PublicKey};
use signing_core::registry::{Entry, Foreign, foreign_keys};
use signing_core::{Algorithm, Registry, json};
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
    /// standard input; or of a public key in PEM. A kid and a key are there once.
    #[command(
        after_help = "Example: breakglass-signer keygen --kid breakglass-2026 --algorithm ed25519 --out key.pem | signctl signers add -\n         openssl pkey -in key.pem -pubout -out public.pem && signctl signers add --public-key public.pem --kid breakglass-2026 --algorithm ed25519 --purpose breakglass"
    )]
    Add(Add),
    /// Set `revokedAt`, now. What was revoked stays revoked.
    #[command(after_help = "Example: signctl signers revoke breakglass-2026 && signctl reload")]
    Revoke {
        /// The key's kid.
        kid: String,
    },
}

/// A key, by its entry or by its public key.
#[derive(Args)]
pub(crate) struct Key {
    /// The entry's file, or - .
    #[arg(value_name = "FILE", required_unless_present = "public_key")]
    entry: Option<PathBuf>,
    /// Make the entry of this public key: PEM, as `openssl pkey -pubout` writes it.
    #[arg(long, value_name = "FILE.pem", conflicts_with = "entry", requires_all = ["kid", "algorithm"])]
    public_key: Option<PathBuf>,
    /// Its kid.
    #[arg(long, requires = "public_key")]
    kid: Option<String>,
    /// Its algorithm: ed25519, ecdsa-p256-sha256, ml-dsa-65 and so on, or AWS KMS's name.
    #[arg(long, requires = "public_key", value_parser = algorithm_and_kind)]
    algorithm: Option<(Algorithm, Option<KeyKind>)>,
    /// It signs batches and nothing else ("mode": "batch"): a key that signed nothing before.
    #[arg(long, requires = "public_key")]
    batch: bool,
}

/// What to add.
#[derive(Args)]
struct Add {
    #[command(flatten)]
    key: Key,
    /// What it is for: signing, breakglass or audit.
    #[arg(long, requires = "public_key", required_unless_present = "entry", value_parser = ["signing", BREAKGLASS, "audit"])]
    purpose: Option<String>,
}

/// Carries out one verb.
pub(crate) fn run(flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    let file = flags.signers.as_path();
    match &flags.verb {
        Verb::List => list(file, as_json)?,
        Verb::Add(what) => {
            let kid = add(file, what.key.entry(what.purpose.as_deref().unwrap_or_default())?)?;
            let words = format!("{kid} is added to {}", file.display());
            said(as_json, &json!({"added": kid}), &words)?;
        }
        Verb::Revoke { kid } => {
            let at = revoke(file, kid)?;
            let words = format!("{kid} is revoked in {} since {at}", file.display());
            said(as_json, &json!({"revoked": kid, "revokedAt": at}), &words)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How long an edit waits for those before it; each takes milliseconds.
const LOCK_MAX: Duration = Duration::from_secs(20);
const LOCK_LOOK: Duration = Duration::from_millis(5);

/// The purpose of emergency keys.
pub(crate) const BREAKGLASS: &str = "breakglass";

/// What a registered key is for.
pub(crate) fn purpose_of(file: &Path, kid: &str) -> anyhow::Result<String> {
    let mut document = read(file)?;
    let entry = entries(&mut document, file)?.iter().find(|entry| kid_of(entry) == Some(kid));
    let entry = entry.ok_or_else(|| anyhow!("{kid} is not in {}", file.display()))?;
    // As the registry is read: nothing said is "signing".
    Ok(entry.get("purpose").and_then(Value::as_str).unwrap_or("signing").to_owned())
}

/// Revokes a key; since when it is.
pub(crate) fn revoke(file: &Path, kid: &str) -> anyhow::Result<String> {
    let _lock = Lock::of(file)?;
    let mut document = read(file)?;
    let entry = entries(&mut document, file)?.iter_mut().find(|entry| kid_of(entry) == Some(kid));
    let entry = entry.and_then(Value::as_object_mut);
    let entry = entry.ok_or_else(|| anyhow!("{kid} is not in {}", file.display()))?;
    if let Some(at) = entry.get("revokedAt").and_then(Value::as_str) {
        return Ok(at.to_owned());
    }
    let now = host::clock::wall_now();
    let at = now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339)?;
    entry.insert("revokedAt".to_owned(), json!(at));
    replace(file, &document)?;
    Ok(at)
}

fn add(file: &Path, entry: Value) -> anyhow::Result<String> {
    let kid = kid_of(&entry).ok_or_else(|| anyhow!("the entry has no \"signer_kid\""))?.to_owned();
    let _lock = Lock::of(file)?;
    let mut document = read(file)?;
    entries(&mut document, file)?.push(entry);
    replace(file, &document)?;
    Ok(kid)
}

/// Has that entry in the registry: adds it or, if its key is there already for break-glass, gives the entry
/// the same end. The kid, and whether it is new.
pub(crate) fn put(file: &Path, entry: Value) -> anyhow::Result<(String, bool)> {
    let kid = kid_of(&entry).ok_or_else(|| anyhow!("the entry has no \"signer_kid\""))?.to_owned();
    let _lock = Lock::of(file)?;
    let mut document = read(file)?;
    let all = entries(&mut document, file)?;
    let Some(there) = all.iter_mut().find(|there| kid_of(there) == Some(&kid)) else {
        all.push(entry);
        replace(file, &document)?;
        return Ok((kid, true));
    };
    let alone = |entry: &Value| {
        let text = json!({ "signers": [entry] }).to_string();
        let registry =
            Registry::from_json(&text).map_err(|mistakes| anyhow!(mistakes.join("; ")))?;
        registry.get(&kid).cloned().ok_or_else(|| {
            anyhow!("{kid} has a third-party algorithm, which this product does not sign with")
        })
    };
    let (known, given) = (alone(there)?, alone(&entry)?);
    let is_same = known.public_key.spki_der() == given.public_key.spki_der();
    if !is_same || known.purpose != given.purpose || known.revoked_at.is_some() {
        bail!(
            "nothing changed: {} has {kid} already, with another key or purpose, or revoked; a kid names one key \
             for ever: make a key with another kid",
            file.display()
        );
    }
    if known.not_after != given.not_after {
        if let Some(there) = there.as_object_mut() {
            there.insert("notAfter".to_owned(), entry.get("notAfter").cloned().unwrap_or_default());
        }
        replace(file, &document)?;
    }
    Ok((kid, false))
}

impl Key {
    /// Its entry; `purpose` is that of a public key.
    pub(crate) fn entry(&self, purpose: &str) -> anyhow::Result<Value> {
        let Self { entry, public_key, kid, algorithm, batch } = self;
        if let (Some(file), Some((algorithm, kind))) = (public_key, *algorithm) {
            let shown = file.display();
            let pem = given("--public-key", file)?;
            // Written anew, so that nothing else that the file has gets into the registry.
            let key = PublicKey::from_pem(&pem, algorithm)
                .map_err(|error| anyhow!("--public-key {shown} {error}"))?;
            if kind.is_some_and(|kind| kind != key.kind()) {
                bail!(
                    "--public-key {shown} is a key of kind {}: name --algorithm {}, or another file",
                    key.kind().name(),
                    key.registry_name()
                );
            }
            let mut entry = json!({
                "signer_kid": kid,
                "algorithm": key.registry_name(),
                "public_key_pem": key.to_pem(),
                "purpose": purpose,
            });
            if let Some(entry) = entry.as_object_mut().filter(|_| *batch) {
                entry.insert("mode".to_owned(), "batch".into());
            }
            return Ok(entry);
        }
        let text = match entry.as_deref() {
            Some(file) if file != Path::new("-") => given("the entry's file", file)?,
            _ => std::io::read_to_string(std::io::stdin())?,
        };
        json::from_str(&text).context("the entry is not JSON")
    }
}

/// Reads the name of an algorithm, as a flag has it.
pub(crate) fn algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::parse(name)
        .ok_or_else(|| format!("--algorithm {name:?} is not one of {}", Algorithm::all_names()))
}

/// The same, with the kind of key that the name is about.
fn algorithm_and_kind(name: &str) -> Result<(Algorithm, Option<KeyKind>), String> {
    let known = Algorithm::parse_with_kind(name);
    known.ok_or_else(|| algorithm(name).err().unwrap_or_default())
}

/// Reads what a flag names.
fn given(what: &str, file: &Path) -> anyhow::Result<String> {
    fs::read(file).and_then(files::text).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!(
            "{what} {} is not there; `breakglass-signer keygen` prints an entry, and of a key that \
             openssl made --public-key makes one: signctl signers add --help",
            file.display()
        ),
        _ => anyhow!("{what} {}: {error}", file.display()),
    })
}

fn list(file: &Path, as_json: bool) -> anyhow::Result<()> {
    let mut document = read(file)?;
    let text = document.to_string();
    let registry = Registry::from_json(&text)
        .map_err(|mistakes| anyhow!("{}: {}", file.display(), mistakes.join("; ")))?;
    let ignored = foreign_keys(&text).unwrap_or_default();
    if as_json {
        let ignored: Vec<_> = ignored
            .into_iter()
            .map(|Foreign { signer_kid, key, .. }| json!({"signer_kid": signer_kid, "key": key}))
            .collect();
        if let Some(document) = document.as_object_mut() {
            document.insert("ignored".to_owned(), ignored.into());
        }
        return Ok(out::show_json(&document)?);
    }
    let mut lines = out::Stream::default();
    for Entry { signer_kid, algorithm, purpose, mode, not_after, revoked_at, .. } in
        registry.to_document().signers
    {
        let purpose = purpose.as_deref().unwrap_or("signing");
        let ends = match (revoked_at, not_after) {
            (Some(at), _) => format!("  revoked {at}"),
            (None, Some(at)) => format!("  until {at}"),
            (None, None) => String::new(),
        };
        let mode = mode.map(|mode| format!("  {mode}")).unwrap_or_default();
        let line = format!("{signer_kid:<32}  {algorithm:<20}  {purpose:<10}{mode}{ends}");
        lines.collect(&text::line(&line))?;
    }
    for Foreign { signer_kid, key, .. } in ignored {
        let of = signer_kid.unwrap_or_else(|| "the file".to_owned());
        lines.collect(&text::line(&format!(
            "ignored: the key {key:?} of {of}, which this product does not use"
        )))?;
    }
    Ok(lines.flush()?)
}

fn said(as_json: bool, value: &Value, words: &str) -> Result<(), out::Unprinted> {
    if as_json { out::report_json(value) } else { out::report(words) }
}

fn kid_of(entry: &Value) -> Option<&str> {
    entry.get("signer_kid").or_else(|| entry.get("signerId"))?.as_str()
}

fn read(file: &Path) -> anyhow::Result<Value> {
    let text = fs::read(file).and_then(files::text).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!(
            "the registry {} is not there; name it with --signers FILE (SIGNCTL_SIGNERS). A new one \
             begins as {{\"signers\": []}}, readable to the proxy's user",
            file.display()
        ),
        _ => anyhow!("{}: {error}", file.display()),
    })?;
    json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
}

fn entries<'d>(document: &'d mut Value, file: &Path) -> anyhow::Result<&'d mut Vec<Value>> {
    let entries = document.get_mut("signers").and_then(Value::as_array_mut);
    entries.ok_or_else(|| anyhow!("{} has no list \"signers\"", file.display()))
}

/// Held from before a registry is read until after it is replaced, so that no edit undoes another.
struct Lock {
    _directory: Flock<File>,
}

impl Lock {
    /// Waits for whoever edits it, for a while. The lock is the directory's: the file itself is replaced, and a
    /// file beside it would be left behind. It ends with this process, however that ends.
    fn of(file: &Path) -> anyhow::Result<Self> {
        let directory = directory_of(file);
        let opened = File::open(directory).with_context(|| {
            format!("the directory of the registry {}: {}", file.display(), directory.display())
        })?;
        let began = Instant::now();
        let mut unlocked = opened;
        loop {
            let failed = match Flock::lock(unlocked, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => return Ok(Self { _directory: locked }),
                Err((_, error)) if error != Errno::EWOULDBLOCK => error.to_string(),
                Err(_) if began.elapsed() >= LOCK_MAX => {
                    format!("another process holds it for {} s", LOCK_MAX.as_secs())
                }
                Err((back, _)) => {
                    unlocked = back;
                    std::thread::sleep(LOCK_LOOK);
                    continue;
                }
            };
            bail!("nothing changed: {} cannot be locked: {failed}", directory.display());
        }
    }
}

fn directory_of(file: &Path) -> &Path {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
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
    File::open(directory_of(file))?.sync_all()?;
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

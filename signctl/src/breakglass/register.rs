//! `signctl breakglass register`: an emergency key becomes one that verifiers know. The registry gets its
//! entry with an end, the proxy takes the registry and records its digest, and the file that consumers take
//! is written: the very bytes of that digest. Run again after a failure, it goes on from there.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use host::files;
use host::out;
use serde_json::{Value, json};
use signing_core::Registry;
use signing_core::admin::breakglass::Breakglass;
use signing_core::admin::{Nothing, Reloaded, path};
use signing_core::key::Purpose;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::{self, Reply};
use crate::signers::{self, BREAKGLASS};
use crate::socket::Socket;

/// Which key, and where it becomes known.
#[derive(Args)]
pub(super) struct Flags {
    #[command(flatten)]
    entry: signers::Key,
    /// RFC 3339: the key signs nothing from then on, whatever becomes of its file.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    not_after: OffsetDateTime,
    /// The registry that the proxy's configuration names.
    #[arg(
        long,
        value_name = "FILE",
        env = "SIGNCTL_SIGNERS",
        default_value = "/etc/signing-proxy/signers.json"
    )]
    signers: PathBuf,
    /// Where to write the signers.json that consumers take; a file that is there is replaced as a whole.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    pub(super) socket: Socket,
}

fn instant(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "expected a time of RFC 3339 such as 2027-01-31T00:00:00Z".to_owned())
}

/// Registers it. What fails says how far it came; the same command goes on.
pub(super) fn run(flags: &Flags, socket: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let file = flags.signers.as_path();
    let entry = emergency(flags)?;
    let (kid, is_new) = signers::put(file, entry)?;
    let registered = if is_new { "is registered" } else { "was registered already" };
    let so_far = format!("{kid} {registered} in {}", file.display());
    let not_yet = |why: anyhow::Error| {
        anyhow!(
            "{so_far}, and consumers have nothing yet: {why:#}; fix that, and run the same command again"
        )
    };
    let done = in_force(flags, socket, &kid).map_err(not_yet)?;
    if as_json {
        out::report_json(&json!({
            "registered": kid, "new": is_new, "signers": file, "not_after": shown(flags.not_after),
            "generation": done.generation, "registry_sha256": done.registry_sha256, "out": flags.out,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    out::report(&format!(
        "{so_far}, until {}\nthe proxy has it in force (configuration {}); its journal has the SHA-256 {}\n{} is what \
         consumers take: give it to every verifier, who compares it with sha256sum\nNext: name the key's file in \
         [[emergency_keys]] of the emergency signer, restart breakglass-signer, then: signctl breakglass preflight",
        shown(flags.not_after),
        done.generation,
        done.registry_sha256,
        flags.out.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The entry, for break-glass and with its end.
fn emergency(flags: &Flags) -> anyhow::Result<Value> {
    let now = host::clock::wall_now();
    if flags.not_after <= now {
        bail!(
            "--not-after {}: has passed, so that the key would sign nothing; give a later time",
            shown(flags.not_after)
        );
    }
    let mut entry = flags.entry.entry(BREAKGLASS)?;
    let purpose = entry.get("purpose").and_then(Value::as_str).unwrap_or("signing").to_owned();
    if purpose != BREAKGLASS {
        bail!(
            "the entry has the \"purpose\" {purpose:?}, and an emergency key has \"breakglass\": take the entry that \
             breakglass-signer keygen printed"
        );
    }
    let named = entry.get("notAfter").cloned();
    let end = json!(shown(flags.not_after));
    if named.is_some_and(|named| named != end) {
        bail!("the entry has another \"notAfter\" than --not-after; make both the same");
    }
    let object = entry.as_object_mut().ok_or_else(|| anyhow!("the entry is no JSON object"))?;
    object.insert("notAfter".to_owned(), end);
    Ok(entry)
}

/// Has the proxy take the registry, and writes what consumers take.
fn in_force(flags: &Flags, socket: &Path, kid: &str) -> anyhow::Result<Reloaded> {
    let reply = client::post(socket, path::RELOAD, &Nothing {})?;
    if reply.status != 200 {
        bail!("the proxy did not reload: {}", refused(&reply));
    }
    let done: Reloaded = reply.read()?;
    let text = files::read_text(&flags.signers)?;
    let registry = Registry::from_json(&text).map_err(|mistakes| anyhow!(mistakes.join("; ")))?;
    // Nobody is given what is not in force.
    if done.registry_sha256 != registry.sha256_hex() {
        bail!(
            "the proxy has a registry in force that is not {}: name the file of its [registry] with --signers, \
             or somebody changed the file meanwhile",
            flags.signers.display()
        );
    }
    let known: Breakglass = client::get(socket, path::BREAKGLASS)?.read()?;
    let own = registry
        .get(kid)
        .filter(|signer| signer.purpose == Purpose::Breakglass)
        .map(|signer| signer.public_key.sha256_hex());
    if own.is_none() || known.emergency_keys_registered.get(kid) != own.as_ref() {
        bail!("the proxy does not take {kid} as an emergency key: look at signctl signers list");
    }
    write(&flags.out, &registry.to_json())
        .with_context(|| format!("--out {}", flags.out.display()))?;
    Ok(done)
}

fn refused(reply: &Reply) -> String {
    let mistakes = reply.body.get("mistakes").and_then(Value::as_array);
    let mistakes: Vec<_> = mistakes.into_iter().flatten().filter_map(Value::as_str).collect();
    if mistakes.is_empty() { reply.refused() } else { mistakes.join("; ") }
}

/// Puts the file in place of another: whole and on disk before it has the name.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = PathBuf::from(name);
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    let written =
        out.write_all(bytes).and_then(|()| out.sync_all()).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        // What is left of it is of no use.
        let _ = fs::remove_file(&new);
    }
    written
}

fn shown(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

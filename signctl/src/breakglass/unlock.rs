//! The passphrase goes straight to the signer, never through the proxy, an argument or a
//! variable: to be used by one activation, or only to be tried.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use host::out;
use serde_json::json;
use signing_core::breakglass::wire::operator::Unlocked;
use signing_core::breakglass::wire::{KeyState, State};
use zeroize::Zeroizing;

use super::operator;

/// The socket that the passphrase is sent to.
#[derive(Args)]
pub(crate) struct Flags {
    /// The signer's operator socket.
    #[arg(
        long,
        value_name = "PATH",
        env = "SIGNCTL_OPERATOR_SOCKET",
        default_value = "/run/breakglass-signer/operator.sock"
    )]
    operator_socket: PathBuf,
    /// Only try it: the signer opens the key once, says whether it opened, and wipes it. Nothing is armed.
    #[arg(long)]
    check: bool,
    /// The emergency key to try it on; else the only one that is sealed and ready.
    #[arg(long, value_name = "KID", requires = "check")]
    emergency_kid: Option<String>,
}

/// Brings it. Whether it is the right one shows at the activation; or now, with --check.
pub(crate) fn run(flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    if flags.check {
        return check(flags, as_json);
    }
    let passphrase = passphrase()?;
    let length = u32::try_from(passphrase.len())?.to_le_bytes();
    let mut frame = Zeroizing::new(Vec::with_capacity(length.len() + passphrase.len()));
    frame.extend_from_slice(&length);
    frame.extend_from_slice(&passphrase);
    let answer: Unlocked = operator::entrust(&flags.operator_socket, &frame)?;
    let Unlocked { unlocked, detail, waits_s } = answer;
    if as_json {
        out::report_json(&json!({
            "handed_over": unlocked, "tried": false, "detail": detail, "waits_s": waits_s,
        }))?;
    } else if unlocked {
        out::report(&format!("handed over, and not tried yet: {detail}"))?;
    } else {
        out::say(&format!("signctl: {detail}"));
    }
    Ok(if unlocked { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tries it, and says whether the key opened.
fn check(flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    let socket = flags.operator_socket.as_path();
    let kid = match &flags.emergency_kid {
        Some(kid) => kid.clone(),
        None => only_key(&operator::state(socket)?)?,
    };
    let passphrase = passphrase()?;
    let opened = operator::open(socket, &kid, &passphrase)?;
    drop(passphrase);
    let (reason, detail) = match &opened {
        Ok(()) => {
            let detail = format!(
                "the passphrase opens {kid}, which is the registered key; it is wiped again, and nothing is armed"
            );
            (None, detail)
        }
        Err((reason, detail)) => (Some(reason), detail.clone()),
    };
    if as_json {
        out::report_json(&json!({
            "opened": opened.is_ok(), "armed": false, "emergency_kid": kid, "reason": reason, "detail": detail,
        }))?;
    } else if let Some(reason) = reason {
        out::say(&format!("signctl: NOT OPENED: {kid}: {reason}: {detail}"));
    } else {
        out::report(&format!("opened: {detail}"))?;
    }
    Ok(if opened.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks for the passphrase.
pub(super) fn passphrase() -> anyhow::Result<Zeroizing<Vec<u8>>> {
    // Before it is read: as the signer itself does.
    host::hardening::harden().context(
        "core dumps and tracing cannot be turned off, and no passphrase is read before they are; a \
         container's seccomp profile may be in the way",
    )?;
    host::hardening::lock_memory_where_allowed();
    Ok(host::passphrase::read("Passphrase of the emergency key: ")?)
}

/// The keys that a session could open.
pub(super) fn ready(signer: &State) -> Vec<&str> {
    let ready = signer.keys.iter().filter(|key| key.state == KeyState::Sealed);
    ready.map(|key| key.kid.as_str()).collect()
}

fn only_key(signer: &State) -> anyhow::Result<String> {
    match ready(signer)[..] {
        [only] => Ok(only.to_owned()),
        [] => bail!("no emergency key is sealed and ready: look at signctl breakglass status"),
        ref kids => {
            bail!("which emergency key of {} is not said; give --emergency-kid", kids.join(", "))
        }
    }
}

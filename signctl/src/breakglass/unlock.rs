//! The passphrase goes straight to the signer, never through the proxy, an argument or a
//! variable.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use host::out;
use serde_json::json;
use signing_core::breakglass::wire::operator::Unlocked;
use zeroize::Zeroizing;

use super::operator;

/// Where to.
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
}

/// Brings it. Whether it is the right one shows at the activation: before two people have approved, the
/// key is not opened (I5).
pub(crate) fn run(flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    // Before it is read: as the signer itself does.
    host::hardening::harden().context(
        "core dumps and tracing cannot be turned off, and no passphrase is read before they are; a \
         container's seccomp profile may be in the way",
    )?;
    host::hardening::lock_memory_where_allowed();
    let passphrase = host::passphrase::read("Passphrase of the emergency key: ")?;
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

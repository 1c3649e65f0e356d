//! The passphrase goes straight to the signer, never through the proxy, an argument or a
//! variable.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;
use signing_core::breakglass::wire;
use signing_core::breakglass::wire::operator::Unlocked;
use zeroize::Zeroizing;

/// A signer that does not answer in this time is not well.
const TIMEOUT: Duration = Duration::from_secs(10);

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

/// Brings it.
pub(crate) fn run(flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    let socket = flags.operator_socket.display();
    let passphrase = host::passphrase::read("Passphrase of the emergency key: ")?;
    let mut stream = UnixStream::connect(&flags.operator_socket).with_context(|| {
        format!(
            "the operator socket {socket} does not answer; is breakglass-signer running, is \
             --operator-socket right, may this user open it?"
        )
    })?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let length = u32::try_from(passphrase.len())?.to_le_bytes();
    let mut frame = Zeroizing::new(Vec::with_capacity(length.len() + passphrase.len()));
    frame.extend_from_slice(&length);
    frame.extend_from_slice(&passphrase);
    let refused =
        || format!("{socket} closed the connection; operator.allowed_uids says who may use it");
    stream.write_all(&frame).with_context(refused)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(wire::FRAME_MAX_BYTES)?;
    stream.take(limit).read_to_end(&mut bytes).with_context(refused)?;
    let Some((Unlocked { unlocked, detail, waits_s }, _)) = wire::read(&bytes)? else {
        bail!("{}", refused());
    };
    if as_json {
        println!("{:#}", json!({"unlocked": unlocked, "detail": detail, "waits_s": waits_s}));
    } else if unlocked {
        println!("unlocked: {detail}");
    } else {
        eprintln!("signctl: {detail}");
    }
    Ok(if unlocked { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! The trail of `dev`: a child process that carries both journals to a database. Its credentials go into its own
//! configuration, and nowhere else.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use development::{Material, MaterialError};

use super::child::{Running, beside_me};

/// Its configuration.
pub(super) const CONFIG: &str = "signing-trail.toml";
const PROGRAM: &str = "signing-trail";

/// What the trail runs with.
#[derive(Debug)]
pub(super) struct Trail {
    program: PathBuf,
    config: PathBuf,
    /// Where it shows its status.
    pub(super) status: SocketAddr,
}

impl Trail {
    /// Makes its key and its configuration for the database `url`; the inner error says why there is no trail.
    pub(super) fn prepare(
        material: &Material,
        (url, status): (&str, SocketAddr),
        (has_signer, is_in_fleet): (bool, bool),
    ) -> Result<Result<Self, String>, MaterialError> {
        let Some(program) = beside_me(PROGRAM).filter(|program| program.exists()) else {
            let why = format!(
                "--trail: {PROGRAM} is not beside signing-proxy; build it (cargo build --release --locked), then start \
                 `dev` again"
            );
            return Ok(Err(why));
        };
        let status = match free(status) {
            Ok(status) => status,
            Err(error) => return Ok(Err(format!("--trail-metrics {status}: {error}"))),
        };
        let key = material.trail_key()?;
        let signer = if has_signer { "signer = \"breakglass/journal\"\n" } else { "" };
        let fleet = if is_in_fleet { "\n[fleet]\nsocket = \"run/admin.sock\"\n" } else { "" };
        let text = format!(
            "# Written by `signing-proxy dev --trail` at each start; changes here are lost.\n\n\
             [journals]\nproxy = \"journal\"\n{signer}\n\
             [audit]\nkey_file = \"keys/{}\"\n\n[registry]\nfile = \"signers.json\"\n\n\
             [metrics]\nlisten = \"{status}\"\n\n[postgres]\nurl = \"{}\"\n{fleet}",
            key.file_name().unwrap_or_default().display(),
            url.replace('\\', "\\\\").replace('"', "\\\""),
        );
        material.write(CONFIG, text.as_bytes())?;
        Ok(Ok(Self { program, config: material.path(CONFIG), status }))
    }

    /// Starts it, watched. A mistake in what it was given is said before.
    pub(super) fn start(&self) -> Result<Running, String> {
        let checked = self.verb("check").stdin(Stdio::null()).output();
        let checked = checked.map_err(|error| format!("{PROGRAM} does not start: {error}"))?;
        if !checked.status.success() {
            let said = [checked.stdout, checked.stderr].concat();
            return Err(format!("--trail: {}", String::from_utf8_lossy(&said).trim()));
        }
        let again = format!("{} serve --config {}", self.program.display(), self.config.display());
        Running::start(PROGRAM, self.verb("serve"), move |how| {
            tracing::error!(
                target: "trail", how, again,
                "THE TRAIL ENDED: nothing is shipped until it is started again, by the command `again`"
            );
        })
    }

    fn verb(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).arg("--config").arg(&self.config);
        command
    }
}

/// The same address, with a free port for port 0.
fn free(address: SocketAddr) -> std::io::Result<SocketAddr> {
    if address.port() != 0 {
        return Ok(address);
    }
    // Whoever takes it in between makes the trail say so.
    TcpListener::bind(address)?.local_addr()
}

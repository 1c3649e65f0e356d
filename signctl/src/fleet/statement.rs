//! Statements that end freezes of the fleet.

use std::path::Path;

use anyhow::anyhow;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::files;
use signing_core::admin::FleetStatement;
use signing_core::fleet::{NAMESPACE, Statement};

/// A statement and its signature, as `ssh-keygen -Y sign` leaves them side by side. What is no statement
/// is found here already; whether it counts is for the proxy to say.
pub(super) fn files(file: &Path) -> anyhow::Result<(Statement, Vec<u8>, Vec<u8>)> {
    let name = file.display();
    let bytes = files::read(file).map_err(|why| anyhow!("--statement {name}: {why}"))?;
    let statement =
        Statement::parse(&bytes).map_err(|error| anyhow!("--statement {name}: {error}"))?;
    let mut signature = file.as_os_str().to_owned();
    signature.push(".sig");
    let signature = files::read(Path::new(&signature)).map_err(|why| {
        anyhow!(
            "{name}.sig: {why}; sign the statement: ssh-keygen -Y sign -n {NAMESPACE} -f KEY {name}"
        )
    })?;
    Ok((statement, bytes, signature))
}

/// The same, as the admin socket takes it.
pub(crate) fn statement(file: &Path) -> anyhow::Result<FleetStatement> {
    let (_, bytes, signature) = files(file)?;
    let (statement_b64, signature_b64) = (STANDARD.encode(&bytes), STANDARD.encode(&signature));
    Ok(FleetStatement { statement_b64, signature_b64 })
}

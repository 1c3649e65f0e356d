//! What `dev` writes for whoever works on this machine: variables, as a shell and `signctl` read them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use development::{Material, MaterialError};

use super::emergency;

/// The file, for its owner only: it says which registry is believed.
pub(super) const FILE: &str = "env";

/// Lines `export NAME='value'`. Paths are absolute, so that they hold in any directory.
///
/// # Errors
/// [`MaterialError::Io`] if the directory has no path.
pub(super) fn of_caller(
    material: &Material,
    (listen, metrics): (SocketAddr, SocketAddr),
) -> Result<String, MaterialError> {
    let dir = material.dir.canonicalize();
    let dir = dir.map_err(|error| MaterialError::Io { path: material.dir.clone(), error })?;
    let path = |name: &str| dir.join(name).display().to_string();
    let reached = |at: SocketAddr| {
        let ip = if at.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { at.ip() };
        SocketAddr::new(ip, at.port())
    };
    let (url, metrics) = (format!("https://{}", reached(listen)), reached(metrics));
    let lines = [
        ("SIGNING_PROXY_URL", url),
        ("SIGNING_PROXY_CA", path("pki/ca.pem")),
        ("SIGNING_PROXY_CLIENT_CERT", path("pki/client.pem")),
        ("SIGNING_PROXY_CLIENT_KEY", path("pki/client.key")),
        ("SIGNCTL_SIGNERS", path("signers.json")),
        ("SIGNCTL_SOCKET", path("run/admin.sock")),
        ("SIGNCTL_OPERATOR_SOCKET", path("run/operator.sock")),
        ("SIGNCTL_JOURNAL", path("journal")),
        ("SIGNCTL_HEALTH_URL", format!("http://{metrics}/health")),
        ("SIGNCTL_METRICS_URL", format!("http://{metrics}/metrics")),
        ("SIGNCTL_PROXY_CONFIG", path(super::CONFIG)),
        ("SIGNCTL_SIGNER_CONFIG", path(emergency::CONFIG)),
        ("SIGNCTL_SIGNER_JOURNAL", path("breakglass/journal")),
    ];
    let lines =
        lines.map(|(name, value)| format!("export {name}='{}'\n", value.replace('\'', r"'\''")));
    let shown = path(FILE);
    Ok(format!(
        "# Written by `signing-proxy dev` at each start. In a shell: . '{shown}'\n{}",
        lines.concat()
    ))
}

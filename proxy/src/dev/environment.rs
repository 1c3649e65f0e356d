//! What `dev` writes for whoever works on this machine: variables, as a shell and `signctl` read them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use development::{Material, MaterialError};

/// The file, for its owner only: it says which registry is believed.
pub(super) const FILE: &str = "env";

/// Lines `export NAME='value'`. Paths are absolute, so that they hold in any directory.
///
/// # Errors
/// [`MaterialError::Io`] if the directory has no path.
pub(super) fn of_caller(material: &Material, listen: SocketAddr) -> Result<String, MaterialError> {
    let dir = material.dir.canonicalize();
    let dir = dir.map_err(|error| MaterialError::Io { path: material.dir.clone(), error })?;
    let path = |name: &str| dir.join(name).display().to_string();
    let ip =
        if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    let url = format!("https://{}", SocketAddr::new(ip, listen.port()));
    let lines = [
        ("SIGNING_PROXY_URL", url),
        ("SIGNING_PROXY_CA", path("pki/ca.pem")),
        ("SIGNING_PROXY_CLIENT_CERT", path("pki/client.pem")),
        ("SIGNING_PROXY_CLIENT_KEY", path("pki/client.key")),
        ("SIGNCTL_SIGNERS", path("signers.json")),
        ("SIGNCTL_SOCKET", path("run/admin.sock")),
        ("SIGNCTL_OPERATOR_SOCKET", path("run/operator.sock")),
        ("SIGNCTL_JOURNAL", path("journal")),
    ];
    let lines =
        lines.map(|(name, value)| format!("export {name}='{}'\n", value.replace('\'', r"'\''")));
    let shown = path(FILE);
    Ok(format!(
        "# Written by `signing-proxy dev` at each start. In a shell: . '{shown}'\n{}",
        lines.concat()
    ))
}

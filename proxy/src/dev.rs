//! `signing-proxy dev`: the whole product on one machine with one command, on
//! material made up for it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use development::{Material, MaterialError};
use serde_json::json;

use crate::app::App;
use crate::config::Config;
use crate::init::{InitError, init};
use crate::materials::Materials;
use crate::monitor::Store;

const CONFIG: &str = "signing-proxy.toml";

/// How long `dev` waits for its gates before it says that they do not open.
const PATIENCE: Duration = Duration::from_secs(15);

/// What `dev` runs with.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration it wrote.
    pub config_file: PathBuf,
    material: Material,
}

/// Makes what is missing under `dir`, and writes the configuration.
///
/// # Errors
/// [`MaterialError`].
pub fn prepare(
    dir: &Path,
    listen: SocketAddr,
    metrics: SocketAddr,
) -> Result<Prepared, MaterialError> {
    let material = Material::prepare(dir)?;
    material.write(CONFIG, config(&material, listen, metrics).as_bytes())?;
    Ok(Prepared { config_file: material.path(CONFIG), material })
}

/// Makes the journal if there never was one here. One that is gone is not replaced
/// silently: the start says what to do.
///
/// # Errors
/// [`InitError`].
pub fn journal(materials: &Materials) -> Result<(), InitError> {
    let Config { audit, state_dir, .. } = &materials.config;
    let was_here = Store::open(state_dir)?.1.witness.is_some();
    if !was_here && !audit.dir.exists() {
        init(materials)?;
    }
    Ok(())
}

/// Says what runs where and what to paste, for a person on stderr, and in one
/// line `ready {json}` on stdout for a program.
///
/// # Errors
/// [`MaterialError`] if the example message can not be written.
pub fn announce(prepared: &Prepared, app: &App) -> Result<(), MaterialError> {
    let material = &prepared.material;
    material.write("message.txt", b"hello from signing-proxy dev\n")?;
    let healthy = app.wait_until_healthy(PATIENCE);
    eprintln!("{}", guide(material, app, healthy));
    let path = |name: &str| material.path(name).display().to_string();
    let ready = json!({
        "url": format!("https://{}", app.listen),
        "metrics_url": format!("http://{}/metrics", app.metrics_listen),
        "health_url": format!("http://{}/health", app.metrics_listen),
        "healthy": healthy,
        "admin_socket": path("run/admin.sock"),
        "ca": path("pki/ca.pem"),
        "client_certificate": path("pki/client.pem"),
        "client_key": path("pki/client.key"),
        "registry": path("signers.json"),
        "journal": path("journal"),
        "config": path(CONFIG),
        "signers": material.signers().map(|(kid, _)| kid).collect::<Vec<_>>(),
    });
    println!("ready {ready}");
    Ok(())
}

fn config(material: &Material, listen: SocketAddr, metrics: SocketAddr) -> String {
    let mut text = format!(
        r#"# Written by `signing-proxy dev` at each start; changes here are lost.

[deployment]
name = "dev"
environment = "development"

[server]
listen = "{listen}"

[server.tls]
certificate_file = "pki/server.pem"
private_key_file = "pki/server.key"
client_ca_file = "pki/ca.pem"

[metrics]
listen = "{metrics}"

[admin]
socket = "run/admin.sock"
allowed_uids = [{uid}]

[state]
dir = "state"

[audit]
dir = "journal"
key_file = "keys/dev-audit.pem"
segment_bytes = 16777216

[registry]
file = "signers.json"

[gate]
recovery_probe_interval_ms = 200
recovery_min_ms = 400

[[callers]]
name = "spiffe://dev.localhost/client"
default_signer = "dev-ed25519"
[[callers.signers]]
kid = "dev-ed25519"
algorithms = ["ED25519_SHA_512"]
[[callers.signers]]
kid = "dev-p256"
algorithms = ["ECDSA_SHA_256"]
"#,
        uid = nix::unistd::geteuid()
    );
    for (kid, _) in material.signers() {
        // Writing to a String does not fail.
        let _ = write!(
            text,
            r#"
[[signers]]
kid = "{kid}"
[[signers.upstreams]]
provider = "development"
key_file = "keys/{kid}.pem"
"#
        );
    }
    text
}

fn guide(material: &Material, app: &App, healthy: bool) -> String {
    let dir = quoted(&material.dir);
    let url = format!("https://{}", app.listen);
    let metrics = app.metrics_listen;
    let signctl = std::env::current_exe()
        .map_or_else(|_| "signctl".into(), |me| quoted(&me.with_file_name("signctl")));
    let state = if healthy {
        "Every gate is open."
    } else {
        "NOT every gate is open (a freeze or a seal of an earlier run?): see `status` below."
    };
    format!(
        r#"
DEVELOPMENT: the signing keys lie in plain files under {dir}/keys. {state}

Sign a message:
  curl -s --cacert {dir}/pki/ca.pem --cert {dir}/pki/client.pem --key {dir}/pki/client.key \
    -H 'content-type: application/json' -d "{{\"message\":\"$(base64 -w0 < {dir}/message.txt)\"}}" {url}/v1/sign | tee {dir}/signed.json

Verify it with openssl:
  sed -n 's/.*"signature":"\([^"]*\)".*/\1/p' {dir}/signed.json | base64 -d > {dir}/signature.bin
  openssl pkeyutl -verify -pubin -inkey {dir}/keys/dev-ed25519.pub.pem -rawin -in {dir}/message.txt -sigfile {dir}/signature.bin

The same with P-256:
  curl -s --cacert {dir}/pki/ca.pem --cert {dir}/pki/client.pem --key {dir}/pki/client.key \
    -H 'content-type: application/json' -d "{{\"signer_kid\":\"dev-p256\",\"message\":\"$(base64 -w0 < {dir}/message.txt)\"}}" {url}/v1/sign | tee {dir}/signed.json
  sed -n 's/.*"signature":"\([^"]*\)".*/\1/p' {dir}/signed.json | base64 -d > {dir}/signature.bin
  openssl dgst -sha256 -verify {dir}/keys/dev-p256.pub.pem -signature {dir}/signature.bin {dir}/message.txt

Look:
  curl -s http://{metrics}/health
  curl -s http://{metrics}/metrics
  {signctl} --socket {dir}/run/admin.sock status

Look at what was recorded, and check all of it (with --follow, tail goes on):
  {signctl} audit tail --journal {dir}/journal
  {signctl} audit verify --journal {dir}/journal --signers {dir}/signers.json

Stop all signing, and allow it again:
  {signctl} --socket {dir}/run/admin.sock freeze --reason "trying it out"
  {signctl} --socket {dir}/run/admin.sock unfreeze

Ctrl-C stops it. The next `dev` on {dir} uses the same keys and certificates.
"#
    )
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain =
        text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-'));
    if is_plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

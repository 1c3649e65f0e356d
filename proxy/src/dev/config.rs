//! The configurations that `dev` writes: the proxy's and the emergency signer's.

use std::fmt::Write as _;
use std::path::PathBuf;

use development::{EmergencyKey, Material};

use super::{Fleet, Places};

/// The proxy's; with break-glass where there is an emergency signer.
pub(super) fn proxy(material: &Material, places: &Places, has_signer: bool) -> String {
    let Places { listen, metrics, .. } = places;
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

"#,
        uid = nix::unistd::geteuid()
    );
    text.push_str(&grants("spiffe://dev.localhost/client"));
    if has_local_door() {
        // Writing to a String does not fail.
        let _ = write!(
            text,
            r#"
# Whoever runs as the same user needs no certificate here.
[[server.local]]
listen = "unix:{LOCAL_DOOR}"
[[server.local.callers]]
name = "dev"
uid = {uid}
"#,
            uid = nix::unistd::geteuid()
        );
        text.push_str(&grants("local:dev"));
    }
    if has_signer {
        let min_outage_s = places.min_outage.as_secs();
        // Writing to a String does not fail.
        let _ = write!(
            text,
            r#"
[breakglass]
signer_socket = "run/signer.sock"
min_outage_s = {min_outage_s}
"#
        );
    }
    if let Some(fleet) = &places.fleet {
        text.push_str(&member(material, fleet));
    }
    for (kid, _) in material.signers() {
        let _ = write!(
            text,
            r#"
# The key is out of reach while its file is not there: move it away to try an outage.
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

/// The fleet that it is a member of, whose freezes people of the role Security end.
fn member(material: &Material, Fleet { name, approvers }: &Fleet) -> String {
    let own = || PathBuf::from("approvers/allowed_signers");
    // Relative paths of a configuration are beside it, and this one is from where `dev` was started.
    let file = approvers
        .as_ref()
        .map_or_else(own, |file| std::path::absolute(file).unwrap_or_else(|_| file.clone()));
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = format!(
        "\n# docs/operating/fleet.md\n[fleet]\nname = {}\n\n[fleet.approvers]\nfile = {}\n\
         # Their keys lie in plain files.\nhardware_required = false\n",
        quoted(name),
        quoted(&file.to_string_lossy())
    );
    for approver in material.approvers() {
        let (role, principal) = (approver.role, approver.principal);
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "[[fleet.approvers.roles]]\nrole = \"{role}\"\nprincipals = [\"{principal}\"]\n"
        );
    }
    text
}

/// The socket of the local door.
pub(super) const LOCAL_DOOR: &str = "run/local.sock";

/// The user `nobody` is no proof of who calls.
pub(super) fn has_local_door() -> bool {
    nix::unistd::geteuid().as_raw() != 65_534
}

/// What a caller may use: every signer.
fn grants(caller: &str) -> String {
    format!(
        r#"
[[callers]]
name = "{caller}"
default_signer = "dev-ed25519"
[[callers.signers]]
kid = "dev-ed25519"
algorithms = ["ED25519_SHA_512"]
[[callers.signers]]
kid = "dev-p256"
algorithms = ["ECDSA_SHA_256"]
[[callers.signers]]
kid = "dev-rsa"
algorithms = [
  "RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
  "RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
]
"#
    )
}

/// The emergency signer's.
pub(super) fn signer(material: &Material, places: &Places, keys: &[EmergencyKey]) -> String {
    let (mut roles, mut emergency_keys) = (String::new(), String::new());
    for approver in material.approvers() {
        let (role, principal) = (approver.role, approver.principal);
        // Writing to a String does not fail.
        let _ = write!(
            roles,
            "\n[[approvers.roles]]\nrole = \"{role}\"\nprincipals = [\"{principal}\"]\n"
        );
    }
    for EmergencyKey { kid, .. } in keys {
        let _ = write!(
            emergency_keys,
            "\n[[emergency_keys]]\nkid = \"{kid}\"\nfile = \"breakglass/keys/{kid}.pem\"\n"
        );
    }
    format!(
        r#"# Written by `signing-proxy dev` at each start; changes here are lost.

[deployment]
name = "dev"
environment = "development"

[signer]
socket = "run/signer.sock"
allowed_uids = [{uid}]

[operator]
socket = "run/operator.sock"
allowed_uids = [{uid}]

[state]
dir = "breakglass/state"

[audit]
dir = "breakglass/journal"
key_file = "keys/dev-breakglass-audit.pem"
segment_bytes = 16777216

[registry]
file = "signers.json"

[approvers]
file = "approvers/allowed_signers"
# Their keys lie in plain files.
hardware_required = false
{roles}{emergency_keys}
[outage]
min_s = {min_outage_s}
"#,
        uid = nix::unistd::geteuid(),
        min_outage_s = places.min_outage.as_secs(),
    )
}

//! People who may or may not end freezes of a fleet: real OpenSSH keys, an allowed_signers file, and
//! statements that they sign with the real `ssh-keygen -Y sign`.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::breakglass::{approve_with, succeeds};
use crate::programs::system;
use crate::scratch::Scratch;

/// As documented: the harness does not ask the product.
const NAMESPACE: &str = "fleet@signing-proxy";
const TYPE: &str = "signing-proxy/fleet-unfreeze/v1";
/// The fleet of all tests.
pub const FLEET: &str = "test-fleet";
/// Whose signature ends a freeze.
pub const SECURITY: &str = "security";
/// Who is in the file, in another role.
pub const FINANCE: &str = "finance";
/// Who is in no file.
pub const STRANGER: &str = "stranger";

/// The people.
#[derive(Debug)]
pub struct People {
    scratch: Scratch,
}

impl People {
    /// Makes their keys and the file.
    #[must_use]
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let mut lines = String::new();
        for name in [SECURITY, FINANCE, STRANGER] {
            let mut keygen = system("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
            succeeds(keygen.arg(scratch.path(name)));
            let public = fs::read_to_string(scratch.path(&format!("{name}.pub"))).unwrap();
            if name != STRANGER {
                lines += &format!("{name}@test {public}");
            }
        }
        scratch.write("approvers", lines);
        Self { scratch }
    }

    /// `[fleet]` of a member, with more lines of it.
    #[must_use]
    pub fn section(&self, lines: &str) -> String {
        format!(
            "[fleet]\nname = \"{FLEET}\"\n{lines}\n\
             [fleet.approvers]\nfile = {:?}\nhardware_required = false\n\
             [[fleet.approvers.roles]]\nrole = \"Security\"\nprincipals = [\"{SECURITY}@test\"]\n\
             [[fleet.approvers.roles]]\nrole = \"Finance\"\nprincipals = [\"{FINANCE}@test\"]\n",
            self.scratch.path("approvers")
        )
    }

    /// The allowed_signers file.
    #[must_use]
    pub fn file(&self) -> std::path::PathBuf {
        self.scratch.path("approvers")
    }

    /// A statement that ends these freezes and counts for ten minutes from `age` seconds ago on.
    #[must_use]
    pub fn statement(&self, ends: &[&str], age: i64) -> Vec<u8> {
        let issued = OffsetDateTime::now_utc() - Duration::seconds(age);
        let at = |time: OffsetDateTime| time.format(&Rfc3339).unwrap();
        let document = json!({
            "type": TYPE,
            "fleet": FLEET,
            "ends": ends,
            "reason": "all is well again",
            "issued_at": at(issued),
            "expires_at": at(issued + Duration::minutes(10)),
        });
        serde_json::to_vec_pretty(&document).unwrap()
    }

    /// The signature of one of them.
    #[must_use]
    pub fn signature(&self, name: &str, statement: &[u8]) -> Vec<u8> {
        approve_with(&self.scratch.path(name), NAMESPACE, statement)
    }

    /// Both as the admin socket takes them.
    #[must_use]
    pub fn presented(&self, name: &str, statement: &[u8]) -> Value {
        let signature = self.signature(name, statement);
        json!({
            "statement_b64": STANDARD.encode(statement),
            "signature_b64": STANDARD.encode(signature),
        })
    }

    /// Both as files, as `ssh-keygen` leaves them; the statement's path.
    #[must_use]
    pub fn files(&self, name: &str, statement: &[u8]) -> String {
        let file = self.scratch.write(&format!("{name}.json"), statement);
        self.scratch.write(&format!("{name}.json.sig"), self.signature(name, statement));
        file.display().to_string()
    }
}

impl Default for People {
    fn default() -> Self {
        Self::new()
    }
}

//! Tokens of other kinds than SoftHSM, each with a server of its own behind its library: a TPM and
//! opencryptoki. Between library and worker stands the one that makes faults.

mod opencryptoki;
mod tpm;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::faulty::Faulty;
use crate::kms::{Key, Kind};
use crate::programs::system;
use crate::scratch::Scratch;
use crate::softhsm::done;
use opencryptoki::Opencryptoki;
use tpm::Tpm;

/// The PIN of every token's user.
pub const PIN: &str = "123456";

/// The label of every token, and of its key.
const LABEL: &str = "other";

/// A token with one key.
#[derive(Debug)]
pub struct OtherToken {
    /// Its key, which it made itself.
    pub key: Key,
    /// Between its library and the worker.
    pub faults: Faulty,
    behind: Behind,
    scratch: Scratch,
}

/// What its library speaks with.
#[derive(Debug)]
enum Behind {
    Tpm(Tpm),
    Opencryptoki(Opencryptoki),
}

impl OtherToken {
    /// tpm2-pkcs11, tpm2-abrmd and swtpm, with a P-256 key.
    pub async fn tpm() -> Self {
        let scratch = Scratch::new();
        let tpm = Tpm::new(scratch.dir()).await;
        let public = tpm.make_key(LABEL, PIN);
        let key = Key::foreign(LABEL, Kind::P256, &public);
        Self::of(scratch, key, Tpm::module(), Behind::Tpm(tpm))
    }

    /// opencryptoki's soft token, with an RSA key: it has no curves.
    pub async fn opencryptoki() -> Self {
        let scratch = Scratch::new();
        let token = Opencryptoki::new(scratch.dir()).await;
        let public = token.make_key(LABEL, PIN);
        let key = Key::foreign(LABEL, Kind::Rsa2048, &public);
        let module = Opencryptoki::module();
        Self::of(scratch, key, module, Behind::Opencryptoki(token))
    }

    fn of(scratch: Scratch, key: Key, module: PathBuf, behind: Behind) -> Self {
        let faults = Faulty::new(scratch.dir(), &module);
        scratch.write("pin", PIN);
        Self { key, faults, behind, scratch }
    }

    /// The file of the PIN.
    #[must_use]
    pub fn pin_file(&self) -> PathBuf {
        self.scratch.path("pin")
    }

    /// The lines of its upstream.
    #[must_use]
    pub fn upstream(&self, lines: &str) -> String {
        let worker = match &self.behind {
            Behind::Tpm(_) => String::new(),
            Behind::Opencryptoki(token) => format!("worker = \"{}\"", token.worker().display()),
        };
        format!(
            "[[signers.upstreams]]\nprovider = \"pkcs11\"\nmodule = \"{}\"\n\
             token_label = \"{LABEL}\"\nkey_label = \"{LABEL}\"\npin_file = \"{}\"\n{worker}\n{lines}\n",
            self.faults.module.display(),
            self.pin_file().display(),
        )
    }

    /// What its libraries need to find in their environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let of_server = match &self.behind {
            Behind::Tpm(tpm) => tpm.environment(),
            Behind::Opencryptoki(_) => Vec::new(),
        };
        [of_server, self.faults.environment()].concat()
    }

    /// Kills what the library speaks with.
    pub async fn kill_server(&mut self) {
        match &mut self.behind {
            Behind::Tpm(tpm) => tpm.kill().await,
            Behind::Opencryptoki(token) => token.kill().await,
        }
    }

    /// Starts it again.
    pub async fn start_server(&mut self) {
        match &mut self.behind {
            Behind::Tpm(tpm) => tpm.start().await,
            Behind::Opencryptoki(token) => token.start().await,
        }
    }
}

/// The public key with that label, as the token shows it to a tool that is not ours.
fn public_key(mut pkcs11_tool: Command, module: &Path, directory: &Path) -> Vec<u8> {
    let file = directory.join("public.der");
    pkcs11_tool.arg("--module").arg(module).args(["--token-label", LABEL]);
    pkcs11_tool.args(["--read-object", "--type", "pubkey", "--label", LABEL, "-o"]).arg(&file);
    done(pkcs11_tool.output());
    let mut openssl = system("openssl");
    openssl.args(["pkey", "-pubin", "-inform", "DER", "-pubout", "-outform", "DER", "-in"]);
    let output = openssl.arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// A library, wherever Debian has it for this machine.
fn library(name: &str) -> PathBuf {
    let found = std::fs::read_dir("/usr/lib").unwrap().find_map(|entry| {
        let file = entry.unwrap().path().join(name);
        file.exists().then_some(file)
    });
    found.unwrap_or_else(|| panic!("{name} is missing: run ./tests/run.sh, which installs it"))
}

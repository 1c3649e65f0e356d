//! A PKCS#11 token: Debian's SoftHSM2 in a directory of its own, and between it and the
//! worker a library that makes faults when it is told to.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Output;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::faulty::Faulty;
use crate::kms::{Key, Kind};
use crate::programs::system;
use crate::scratch::Scratch;

/// The PIN of every token's user.
pub const PIN: &str = "5678";

/// Where Debian puts SoftHSM's library.
const MODULES: [&str; 2] =
    ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];

/// A token with keys.
#[derive(Debug)]
pub struct SoftHsm {
    scratch: Scratch,
    /// Its label.
    pub label: String,
    /// The library to load: the one that makes faults.
    pub module: PathBuf,
    faults: Faulty,
}

impl Deref for SoftHsm {
    type Target = Faulty;

    fn deref(&self) -> &Faulty {
        &self.faults
    }
}

impl SoftHsm {
    /// Makes a token of that label.
    #[must_use]
    pub fn new(label: &str) -> Self {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path("tokens")).unwrap();
        let tokens = scratch.path("tokens");
        let settings = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        scratch.write("softhsm2.conf", settings);
        scratch.write("pin", format!("{PIN}\n"));
        let faults = Faulty::new(scratch.dir(), module());
        let module = faults.module.clone();
        let token = Self { scratch, label: label.to_owned(), module, faults };
        token.init(label);
        token
    }

    /// Makes a key with that label, outside, and imports it, so that its public key is known
    /// from somewhere else than the token.
    #[must_use]
    pub fn key(&self, label: &str, kind: Kind) -> Key {
        let private = self.scratch.path(&format!("{label}.pem"));
        let public = self.scratch.path(&format!("{label}.der"));
        let mut openssl = system("openssl");
        openssl.arg("genpkey").arg("-out").arg(&private).args(match kind {
            Kind::Ed25519 => ["-algorithm", "ed25519"].as_slice(),
            Kind::P256 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Kind::Secp256k1 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
            Kind::P384 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            Kind::P521 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
            Kind::MlDsa44 | Kind::MlDsa65 | Kind::MlDsa87 => panic!("SoftHSM has no ML-DSA"),
            Kind::Rsa2048 | Kind::Rsa3072 | Kind::Rsa4096 => {
                &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
            }
        });
        done(openssl.output());
        self.import(label, &private);
        let mut openssl = system("openssl");
        openssl.args(["pkey", "-pubout", "-outform", "DER", "-in"]).arg(&private);
        done(openssl.arg("-out").arg(&public).output());
        Key::foreign(label, kind, &std::fs::read(public).unwrap())
    }

    /// Puts a KMS's key into the token too, under that label.
    #[must_use]
    pub fn same_key(&self, label: &str, key: &Key) -> Key {
        let private =
            self.scratch.write(&format!("{label}.pem"), crate::kms::Kms::private_key_pem(key));
        self.import(label, &private);
        key.named(label)
    }

    /// Makes another token, in a slot of its own, that holds `key` of this one too.
    pub fn another_slot(&self, label: &str, key: &Key) {
        self.init(label);
        self.import_into(label, &key.id, &self.scratch.path(&format!("{}.pem", key.id)));
    }

    /// Takes the token of that label out for good.
    pub fn delete(&self, label: &str) {
        self.tool(&["--delete-token", "--token", label]);
    }

    fn init(&self, label: &str) {
        self.tool(&["--init-token", "--free", "--label", label, "--so-pin", "1234", "--pin", PIN]);
    }

    fn import(&self, label: &str, private: &Path) {
        self.import_into(&self.label, label, private);
    }

    fn import_into(&self, token: &str, label: &str, private: &Path) {
        // An id of its own, from its label.
        let (id, file) = (hex::encode(label), private.display().to_string());
        let import = ["--import", &file, "--token", token, "--label", label, "--id", &id];
        self.tool(&[&import[..], &["--pin", PIN]].concat());
    }

    /// The lines of an upstream that uses `key` of it.
    #[must_use]
    pub fn upstream(&self, key: &Key, lines: &str) -> String {
        self.upstream_in(&self.label, key, lines)
    }

    /// The same of the slot of another token.
    #[must_use]
    pub fn upstream_in(&self, label: &str, key: &Key, lines: &str) -> String {
        format!(
            "[[signers.upstreams]]\nprovider = \"pkcs11\"\nmodule = \"{}\"\ntoken_label = \"{}\"\n\
             key_label = \"{}\"\npin_file = \"{}\"\n{lines}\n",
            self.module.display(),
            label,
            key.id,
            self.pin_file().display(),
        )
    }

    /// What the worker's libraries need to find in their environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let settings = self.scratch.path("softhsm2.conf").display().to_string();
        [vec![("SOFTHSM2_CONF", settings)], self.faults.environment()].concat()
    }

    /// The file of the PIN.
    #[must_use]
    pub fn pin_file(&self) -> PathBuf {
        self.scratch.path("pin")
    }

    /// Takes the token out.
    pub fn remove(&self) {
        std::fs::rename(self.scratch.path("tokens"), self.scratch.path("removed")).unwrap();
        std::fs::create_dir(self.scratch.path("tokens")).unwrap();
    }

    /// Puts it back.
    pub fn put_back(&self) {
        std::fs::remove_dir(self.scratch.path("tokens")).unwrap();
        std::fs::rename(self.scratch.path("removed"), self.scratch.path("tokens")).unwrap();
    }

    fn tool(&self, arguments: &[&str]) {
        let mut tool = system("softhsm2-util");
        tool.args(arguments).arg("--module").arg(module());
        done(tool.env("SOFTHSM2_CONF", self.scratch.path("softhsm2.conf")).output());
    }
}

/// The ids of the workers that `proxy`, a process id, has started and that live.
#[must_use]
pub fn workers_of(proxy: u32) -> Vec<u32> {
    let children = format!("/proc/{proxy}/task");
    let mut workers = Vec::new();
    for task in std::fs::read_dir(children).into_iter().flatten().flatten() {
        let listed = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let ids = listed.split_whitespace().map(|id| id.parse::<u32>().unwrap());
        workers.extend(ids.filter(|id| is_worker(*id)));
    }
    workers
}

/// Whether that process is a worker, and no zombie.
#[must_use]
pub fn is_worker(id: u32) -> bool {
    let command = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
    command.split('\0').next().is_some_and(|program| program.ends_with("pkcs11-worker"))
}

/// Whether every thread of that process is stopped.
#[must_use]
pub fn is_stopped(id: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    })
}

/// SoftHSM's own library.
#[must_use]
pub fn module() -> &'static Path {
    let found = MODULES.iter().map(Path::new).find(|module| module.exists());
    found.unwrap_or_else(|| panic!("SoftHSM is missing: run ./tests/run.sh, which installs it"))
}

pub(crate) fn done(output: std::io::Result<Output>) {
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Sends a worker a signal.
pub fn signal(worker: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(worker).unwrap()), signal).unwrap();
}

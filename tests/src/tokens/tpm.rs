//! A TPM: Debian's swtpm, tpm2-abrmd as its resource manager on a bus of its own, and tpm2-pkcs11.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use super::{library, public_key};
use crate::process::Process;
use crate::programs::system;
use crate::softhsm::done;
use crate::wait::eventually;

/// A software TPM, with what lies between it and the library.
#[derive(Debug)]
pub(super) struct Tpm {
    directory: PathBuf,
    _bus: Process,
    swtpm: Process,
    manager: Process,
}

impl Tpm {
    pub(super) fn module() -> PathBuf {
        library("pkcs11/libtpm2_pkcs11.so")
    }

    /// A new TPM, without a token.
    pub(super) async fn new(directory: &Path) -> Self {
        for name in ["state", "store"] {
            std::fs::create_dir(directory.join(name)).unwrap();
        }
        let socket = directory.join("bus");
        let mut bus = system("dbus-daemon");
        bus.args(["--session", "--nofork", "--nopidfile"]);
        bus.arg(format!("--address=unix:path={}", socket.display()));
        let bus = Process::start(bus);
        eventually("a bus", || std::future::ready(socket.exists().then_some(()))).await;
        let swtpm = Process::start(swtpm(directory));
        let manager = manager(directory, &swtpm).await;
        Self { directory: directory.to_owned(), _bus: bus, swtpm, manager }
    }

    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let bus = format!("unix:path={}", self.directory.join("bus").display());
        let store = self.directory.join("store").display().to_string();
        let tcti = "tabrmd:bus_type=session".to_owned();
        vec![
            ("DBUS_SESSION_BUS_ADDRESS", bus),
            ("TPM2_PKCS11_STORE", store),
            ("TPM2_PKCS11_TCTI", tcti.clone()),
            ("TPM2TOOLS_TCTI", tcti),
            // Each of its refusals is many lines long.
            ("TPM2_PKCS11_LOG_LEVEL", "0".to_owned()),
            ("TSS2_LOG", "all+none".to_owned()),
        ]
    }

    /// Sets a token up that makes a P-256 key; its public key.
    pub(super) fn make_key(&self, label: &str, pin: &str) -> Vec<u8> {
        let (label, user) = (format!("--label={label}"), format!("--userpin={pin}"));
        let name = format!("--key-{}", &label[2..]);
        for arguments in [
            vec!["init"],
            vec!["addtoken", "--pid=1", "--sopin=12345678", &label, &user],
            vec!["addkey", "--algorithm=ecc256", &label, &user, &name],
        ] {
            let mut tool = self.tool("tpm2_ptool");
            tool.args(arguments).arg("--path").arg(self.directory.join("store"));
            done(tool.output());
        }
        public_key(self.tool("pkcs11-tool"), &Self::module(), &self.directory)
    }

    fn tool(&self, name: &str) -> Command {
        let mut tool = system(name);
        tool.envs(self.environment());
        tool
    }

    pub(super) async fn kill(&mut self) {
        for process in [&mut self.manager, &mut self.swtpm] {
            process.signal(Signal::SIGKILL);
            process.ended().await;
        }
    }

    pub(super) async fn start(&mut self) {
        self.swtpm = Process::start(swtpm(&self.directory));
        self.manager = manager(&self.directory, &self.swtpm).await;
    }
}

fn swtpm(directory: &Path) -> Command {
    let path = |name: &str| directory.join(name).display().to_string();
    // What an earlier one left.
    for name in ["tpm", "tpm.ctrl"] {
        let _ = std::fs::remove_file(directory.join(name));
    }
    let mut swtpm = system("swtpm");
    swtpm.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]);
    swtpm.args(["--tpmstate", &format!("dir={}", path("state"))]);
    swtpm.args(["--server", &format!("type=unixio,path={}", path("tpm"))]);
    swtpm.args(["--ctrl", &format!("type=unixio,path={}", path("tpm.ctrl"))]);
    swtpm
}

/// A resource manager, once it answers.
async fn manager(directory: &Path, _of: &Process) -> Process {
    let socket = directory.join("tpm.ctrl");
    eventually("a TPM", || std::future::ready(socket.exists().then_some(()))).await;
    let bus = format!("unix:path={}", directory.join("bus").display());
    let mut manager = system("tpm2-abrmd");
    manager.env("DBUS_SESSION_BUS_ADDRESS", &bus).args([
        "--session",
        "--allow-root",
        "--flush-all",
    ]);
    manager.arg(format!("--tcti=swtpm:path={}", directory.join("tpm").display()));
    let manager = Process::start(manager);
    eventually("a resource manager", || {
        let mut ask = system("tpm2_getcap");
        ask.env("DBUS_SESSION_BUS_ADDRESS", &bus).env("TPM2TOOLS_TCTI", "tabrmd:bus_type=session");
        let answered = ask.arg("properties-fixed").output().unwrap().status.success();
        std::future::ready(answered.then_some(()))
    })
    .await;
    manager
}

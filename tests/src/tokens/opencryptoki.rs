//! opencryptoki with its soft token. Its places are compiled in, so it lives in a mount namespace of
//! its own, where the worker joins it; its shared memory in one of its own too.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use super::{library, public_key};
use crate::process::Process;
use crate::programs::{ours, system};
use crate::softhsm::done;
use crate::wait::eventually;

/// What the slot daemon finds where it looks.
const ROOM: &str = r#"set -e
for place in /var/lib/opencryptoki /run /dev/shm; do mount -t tmpfs none "$place"; done
mkdir -p /run/lock /var/lib/opencryptoki/swtok/TOK_OBJ
mkdir -p /var/lock/opencryptoki/swtok
chgrp -R pkcs11 /var/lib/opencryptoki /var/lock/opencryptoki
chmod -R 0770 /var/lib/opencryptoki /var/lock/opencryptoki
mount --bind "$1" /etc/opencryptoki
echo ready
exec sleep infinity
"#;

/// What a new token of opencryptoki's has.
const SO_PIN: &str = "87654321";

#[derive(Debug)]
pub(super) struct Opencryptoki {
    directory: PathBuf,
    room: Process,
    daemon: Process,
}

impl Opencryptoki {
    pub(super) fn module() -> PathBuf {
        library("opencryptoki/libopencryptoki.so.0")
    }

    /// A new token, not set up yet.
    pub(super) async fn new(directory: &Path) -> Self {
        let settings = directory.join("etc");
        std::fs::create_dir(&settings).unwrap();
        let slots = "version opencryptoki-3.1\nslot 0\n{\nstdll = libpkcs11_sw.so\n}\n";
        std::fs::write(settings.join("opencryptoki.conf"), slots).unwrap();
        let mut room = system("unshare");
        room.args(["--mount", "--ipc", "--propagation", "private", "bash", "-c", ROOM, "room"]);
        let mut room = Process::start({
            room.arg(&settings);
            room
        });
        room.line("a room", |line| (line == "ready").then_some(())).await;
        let daemon = daemon(&room).await;
        let token = Self { directory: directory.to_owned(), room, daemon };
        token.write_worker();
        token
    }

    /// A worker that joins the daemon's room.
    fn write_worker(&self) {
        let (file, worker) = (self.worker(), ours("pkcs11-worker"));
        let room = self.room.pid();
        let script =
            format!("#!/bin/sh\nexec nsenter -m -i -t {room} -- {} \"$@\"\n", worker.display());
        std::fs::write(&file, script).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(super) fn worker(&self) -> PathBuf {
        self.directory.join("worker.sh")
    }

    /// Sets the token up, which makes an RSA key; its public key.
    pub(super) fn make_key(&self, label: &str, pin: &str) -> Vec<u8> {
        let so = ["--login", "--login-type", "so", "--so-pin", SO_PIN];
        for arguments in [
            vec!["--init-token", "--label", label, "--so-pin", SO_PIN],
            [&so[..], &["--init-pin", "--new-pin", pin]].concat(),
            vec![
                "--login",
                "--pin",
                pin,
                "--keypairgen",
                "--key-type",
                "rsa:2048",
                "--label",
                label,
            ],
        ] {
            let mut tool = self.tool();
            tool.arg("--module").arg(Self::module()).args(["--slot", "0"]).args(arguments);
            done(tool.output());
        }
        public_key(self.tool(), &Self::module(), &self.directory)
    }

    fn tool(&self) -> Command {
        let mut tool = inside(&self.room);
        let _ = system("pkcs11-tool");
        tool.arg("pkcs11-tool");
        tool
    }

    pub(super) async fn kill(&mut self) {
        self.daemon.signal(Signal::SIGKILL);
        self.daemon.ended().await;
    }

    pub(super) async fn start(&mut self) {
        self.daemon = daemon(&self.room).await;
    }
}

fn inside(room: &Process) -> Command {
    let mut inside = system("nsenter");
    inside.args(["-m", "-i", "-t", &room.pid().to_string(), "--"]);
    inside
}

/// The slot daemon, once it shows its slot.
async fn daemon(room: &Process) -> Process {
    let _ = (system("pkcsslotd"), system("pkcs11-tool"));
    let mut daemon = inside(room);
    daemon.args(["pkcsslotd", "-f"]);
    let daemon = Process::start(daemon);
    eventually("a slot", || {
        let mut list = inside(room);
        list.args(["pkcs11-tool", "--list-slots", "--module"]).arg(Opencryptoki::module());
        let output = list.output().unwrap();
        let listed = String::from_utf8_lossy(&output.stdout).contains("Slot 0");
        std::future::ready(listed.then_some(()))
    })
    .await;
    daemon
}

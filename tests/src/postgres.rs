//! A PostgreSQL of Debian's, in a directory of its own, on a unix socket: it can be killed and started
//! again as a real one.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::process::Process;
use crate::programs::system;
use crate::scratch::Scratch;

/// The user that it runs as: it refuses to run as root.
const NOBODY: u32 = 65534;

/// A server. It ends with its owner.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    scratch: Scratch,
    settings: Vec<String>,
}

impl Postgres {
    /// Makes a cluster and starts it.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with settings: `fsync=off`.
    pub async fn start_with(settings: &[&str]) -> Self {
        let scratch = Scratch::new();
        chown(scratch.dir(), Some(NOBODY), Some(NOBODY)).unwrap();
        let made = as_nobody(&programs().join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"])
            .arg("-D")
            .arg(scratch.path("data"))
            .current_dir(scratch.dir())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { process: None, scratch, settings };
        server.up().await;
        server
    }

    /// Starts it again where it was.
    pub async fn up(&mut self) {
        let _ = fs::remove_file(self.scratch.path("data/postmaster.pid"));
        let mut command = as_nobody(&programs().join("postgres"));
        command
            .arg("-D")
            .arg(self.scratch.path("data"))
            .arg("-k")
            .arg(self.scratch.dir())
            .args(["-c", "listen_addresses="])
            .current_dir(self.scratch.dir());
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let process = Process::start(command);
        process.says("database system is ready to accept connections").await;
        self.process = Some(process);
    }

    /// Whether it was started and not killed since.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Settings of the next start.
    pub fn set(&mut self, settings: &[&str]) {
        self.settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
    }

    /// Kills it, and every process that it has, at once: a machine that lost its power.
    pub async fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let postmaster = process.pid();
        let children = Command::new("pgrep").args(["-P", &postmaster.to_string()]).output();
        process.signal(Signal::SIGKILL);
        let children = children.map(|output| output.stdout).unwrap_or_default();
        for child in String::from_utf8_lossy(&children).lines() {
            let _ = Command::new("kill").args(["-9", child]).status();
        }
        process.ended().await;
    }

    /// Keeps a copy of all that it has, while it is down.
    ///
    /// # Panics
    /// If it is up.
    pub fn back_up(&self) {
        self.copied("data", "backup");
    }

    /// Puts that copy in the place of all that it has, while it is down.
    ///
    /// # Panics
    /// If it is up.
    pub fn restore(&self) {
        self.copied("backup", "data");
    }

    fn copied(&self, from: &str, to: &str) {
        assert!(!self.is_up(), "its files are not of one moment");
        let _ = fs::remove_dir_all(self.scratch.path(to));
        let mut copy = system("cp");
        copy.arg("-a").args([self.scratch.path(from), self.scratch.path(to)]);
        assert!(copy.status().unwrap().success(), "{from} is not copied to {to}");
    }

    /// The directory of its socket.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.scratch.dir()
    }

    /// Where it is, for a client.
    #[must_use]
    pub fn url(&self) -> String {
        let directory = self.scratch.dir().display().to_string().replace('/', "%2F");
        let port = self.port().map_or(String::new(), |port| format!(":{port}"));
        format!("postgres://postgres@{directory}{port}/postgres")
    }

    /// Its port, if that is not the usual one: its socket is named after it.
    #[must_use]
    pub fn port(&self) -> Option<&str> {
        self.settings.iter().find_map(|setting| setting.strip_prefix("port="))
    }

    /// What `psql` prints for statements, unaligned and without headings.
    #[expect(clippy::must_use_candidate, reason = "some statements print nothing")]
    pub fn sql(&self, statements: &str) -> String {
        let output = self.psql(statements);
        assert!(
            output.status.success(),
            "{statements}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The same, of statements that may fail.
    #[must_use]
    pub fn psql(&self, statements: &str) -> std::process::Output {
        system("psql")
            .env("PGPORT", self.port().unwrap_or("5432"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(self.scratch.dir())
            .args(["-c", statements, "postgres"])
            .output()
            .unwrap()
    }
}

fn as_nobody(program: &Path) -> Command {
    let mut command = system("setpriv");
    command.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string()]);
    // The server ends with its test, whatever ends that.
    command.args(["--clear-groups", "--pdeathsig", "KILL"]).arg(program);
    command
}

/// Where Debian has the server's programs of its version.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found =
        versions.map(|entry| entry.path().join("bin")).find(|bin| bin.join("initdb").exists());
    found.unwrap_or_else(|| panic!("PostgreSQL is missing: run ./tests/run.sh, which installs it"))
}

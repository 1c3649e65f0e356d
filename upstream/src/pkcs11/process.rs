//! The worker as a child process: started with what it needs and nothing else, killed
//! without asking, always reaped.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use host::clock::now;
use host::log_limit::LogLimit;
use host::signals::spawn_held;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use signing_core::worker::printable;

/// Variables with these beginnings are none of a vendor's business.
const KEPT_FROM_IT: [&str; 2] = ["AWS_", "SIGNING_PROXY__"];

/// A running worker. Dropping it kills and reaps it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    is_reaped: bool,
}

impl Process {
    /// Starts the worker at `path`; returns our end of the socket that is its standard input.
    pub(super) fn start(path: &Path, name: &str) -> io::Result<(Self, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(path);
        // A group of its own: Ctrl-C in a terminal stops the proxy, which still needs it.
        command.process_group(0);
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        for (variable, _) in std::env::vars_os().filter(|(variable, _)| is_kept(variable)) {
            command.env_remove(variable);
        }
        // A service manager's SIGTERM goes to all processes of the unit: it is not to end one that
        // has not come to hold it back yet.
        let mut process = Self { child: spawn_held(&mut command)?, is_reaped: false };
        process.watch(ours.try_clone()?)?;
        if let Some(stderr) = process.child.stderr.take() {
            let name = name.to_owned();
            let body = move || relay(stderr, &name);
            std::thread::Builder::new().name("pkcs11-words".into()).spawn(body)?;
        }
        Ok((process, ours))
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its death on a thread of its own, and then ends the socket: what a library of a
    /// vendor's has started may hold the other end for ever. What it answered before is still read.
    fn watch(&self, ours: UnixStream) -> io::Result<()> {
        let group = self.group();
        let body = move || {
            // It stays to be reaped, so that its number is nobody else's meanwhile. An error says
            // that it has been reaped, and then its end of the socket is nobody's business any more.
            let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            while waitid(Id::Pid(group), ended) == Err(Errno::EINTR) {}
            let _ = ours.shutdown(Shutdown::Both);
        };
        std::thread::Builder::new().name("pkcs11-death".into()).spawn(body).map(drop)
    }

    /// Its number, and that of the group of processes that it leads.
    pub(super) fn group(&self) -> Pid {
        // A child that the system gave a number beyond any has none; 0 would be ourselves.
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// Kills it and all that it started, stopped or not. That it may have ended by itself is no
    /// error. Only before [`Self::reap`]: until then the group's number is its own.
    pub(super) fn kill(&mut self) {
        if !self.is_reaped {
            let _ = killpg(self.group(), Signal::SIGKILL);
            let _ = self.child.kill();
        }
    }

    /// Waits until it is gone. Only after [`Self::kill`]: a system call that does not
    /// return can keep it alive, and whoever waits here.
    pub(super) fn reap(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait();
        self.is_reaped = status.is_ok();
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = self.reap();
    }
}

fn is_kept(variable: &OsStr) -> bool {
    let variable = variable.to_string_lossy();
    KEPT_FROM_IT.iter().any(|beginning| variable.starts_with(beginning))
}

/// Puts a library's own words into the log, a line a second at most.
fn relay(mut stderr: ChildStderr, name: &str) {
    let limit = LogLimit::default();
    let mut piece = [0; 1024];
    while let Ok(length) = stderr.read(&mut piece) {
        let Some(words) = piece.get(..length).filter(|words| !words.is_empty()) else { return };
        if let Some(left_out) = limit.pass(now()) {
            let words = printable(&String::from_utf8_lossy(words));
            tracing::warn!(target: "pkcs11", signer_kid = name, left_out, %words, "the worker says");
        }
    }
}

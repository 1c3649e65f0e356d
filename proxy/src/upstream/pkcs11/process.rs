//! The worker as a child process: started with what it needs and nothing else, killed
//! without asking, always reaped.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use signing_core::worker::printable;

use crate::log_limit::LogLimit;
use crate::time::now;

/// Variables with these beginnings are none of a vendor's business.
const KEPT_FROM_IT: [&str; 2] = ["AWS_", "SIGNING_PROXY__"];

/// A running worker. Dropping it kills and reaps it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
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
        let mut process = Self { child: command.spawn()? };
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

    /// Kills it, stopped or not. That it may have ended by itself is no error.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Waits until it is gone. Only after [`Self::kill`]: a system call that does not
    /// return can keep it alive, and whoever waits here.
    pub(super) fn reap(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
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

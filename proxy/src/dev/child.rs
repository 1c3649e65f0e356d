//! A process beside `dev`: started, watched and stopped. It ends with this one, however this one ends.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use host::signals::spawn_held;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long it may take to end before it is killed.
const STOP_MAX: Duration = Duration::from_secs(5);

/// A process; it ends with this value, and with this process.
#[derive(Debug)]
pub struct Running {
    /// Closing it stops the process, whoever closes it: also the kernel, for a process that died.
    lifeline: Option<ChildStdin>,
    stopping: Arc<AtomicBool>,
    /// Closed once it ended.
    ended: Receiver<()>,
    pid: Pid,
}

/// A program of ours, which lies beside this one.
pub(super) fn beside_me(name: &str) -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.with_file_name(name))
}

impl Running {
    /// Starts `command`, which serves for `program`. `unasked` is told how it ended, if nobody asked for that.
    pub(super) fn start(
        program: &str,
        mut command: Command,
        unasked: impl FnOnce(String) + Send + 'static,
    ) -> Result<Self, String> {
        command.arg("--while-stdin-open").stdin(Stdio::piped()).stdout(Stdio::null());
        // Ctrl-C at a terminal is for this process, which then stops the other one in its turn.
        command.process_group(0);
        let failed = |error: io::Error| format!("{program} does not start: {error}");
        let mut child = spawn_held(&mut command).map_err(failed)?;
        let lifeline = child.stdin.take();
        let pid = i32::try_from(child.id()).map(Pid::from_raw);
        let pid = pid.map_err(|error| failed(io::Error::other(error)))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (is_over, ended) = sync_channel(1);
        let told_to = Arc::clone(&stopping);
        let watch = move || {
            watch(child, &told_to, unasked);
            drop(is_over);
        };
        let watched = std::thread::Builder::new().name(format!("{program}-watch")).spawn(watch);
        // Without a watcher the lifeline is dropped here, and the process ends.
        watched.map_err(failed)?;
        Ok(Self { lifeline, stopping, ended, pid })
    }

    /// Waits so long for its end.
    pub(super) fn has_ended_within(&self, patience: Duration) -> bool {
        self.ended.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.lifeline = None;
        if !self.has_ended_within(STOP_MAX) {
            // It is not waited for yet, so the number is still its own.
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.ended.recv_timeout(STOP_MAX);
        }
    }
}

/// Waits for its end, and says so if nobody asked for it.
fn watch(mut child: Child, told_to: &AtomicBool, unasked: impl FnOnce(String)) {
    let ended = child.wait();
    if !told_to.load(Ordering::SeqCst) {
        unasked(ended.map_or_else(|error| error.to_string(), |status| status.to_string()));
    }
}

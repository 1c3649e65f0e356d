//! The emergency signer of `dev`: a child process, started, watched and stopped. It makes its own
//! keys and journal, so that this process never holds an emergency key (I4).

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use development::{EmergencyKey, Material, MaterialError};
use host::clock::now;
use host::signals::spawn_held;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Places, config};
use crate::app::App;

/// Opens every emergency key of `dev`. No secret: it is printed.
pub(super) const DEVELOPMENT_PASSPHRASE: &str = "development-passphrase";
/// The emergency signer's configuration.
pub(super) const CONFIG: &str = "breakglass-signer.toml";
const PROGRAM: &str = "breakglass-signer";
/// How long it may take to end before it is killed.
const STOP_MAX: Duration = Duration::from_secs(5);

/// What the emergency signer runs with.
#[derive(Debug)]
pub(super) struct Emergency {
    program: PathBuf,
    config: PathBuf,
    ready: Ready,
}

/// What a person has to know of it.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    /// The Ed25519 emergency key.
    pub(super) kid: String,
    /// Every emergency key, this one too.
    pub(super) kids: Vec<String>,
    /// How long an outage has to last.
    pub(super) min_outage: Duration,
}

/// The emergency signer's process; it ends with this value, and with this process.
#[derive(Debug)]
pub struct Running {
    /// Closing it stops the signer, whoever closes it: also the kernel, for a process that died.
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

impl Emergency {
    /// Has the signer make what is missing: its keys, which are registered, and its journal. The
    /// inner error says why there is no break-glass.
    pub(super) fn prepare(
        material: &Material,
        places: &Places,
    ) -> Result<Result<Self, String>, MaterialError> {
        let Some(program) = beside_me(PROGRAM).filter(|program| program.exists()) else {
            let why = format!(
                "{PROGRAM} is not beside signing-proxy; build it (cargo build --release --locked), \
                 then start `dev` again"
            );
            return Ok(Err(why));
        };
        let keys = material.emergency_keys()?;
        for key in keys.iter().filter(|key| !key.is_made) {
            match keygen(&program, key) {
                Ok(printed) => material.register_emergency_key(&printed)?,
                Err(why) => return Ok(Err(why)),
            }
        }
        material.write(CONFIG, config::signer(material, places, &keys).as_bytes())?;
        let kids: Vec<_> = keys.into_iter().map(|key| key.kid).collect();
        let kid = kids.first().cloned().unwrap_or_default();
        let ready = Ready { kid, kids, min_outage: places.min_outage };
        let emergency = Self { program, config: material.path(CONFIG), ready };
        // One that is gone is not replaced silently: the start says what to do.
        let was_here = holds_anything(&material.path("breakglass/state"));
        if !was_here && !material.path("breakglass/journal").exists() {
            let init = emergency.verb("init").stdin(Stdio::null()).output();
            if let Err(why) = succeeded(init, "init") {
                return Ok(Err(why));
            }
        }
        Ok(Ok(emergency))
    }

    pub(super) fn ready(&self) -> Ready {
        self.ready.clone()
    }

    fn verb(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).arg("--config").arg(&self.config);
        command
    }

    /// Starts it, watched.
    pub(super) fn start(&self) -> Result<Running, String> {
        let mut command = self.verb("serve");
        command.arg("--while-stdin-open").stdin(Stdio::piped()).stdout(Stdio::null());
        // Ctrl-C at a terminal is for this process, which then stops the other one in its turn.
        command.process_group(0);
        let failed = |error: io::Error| format!("{PROGRAM} does not start: {error}");
        let mut child = spawn_held(&mut command).map_err(failed)?;
        let lifeline = child.stdin.take();
        let pid = i32::try_from(child.id()).map(Pid::from_raw);
        let pid = pid.map_err(|error| failed(io::Error::other(error)))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (is_over, ended) = sync_channel(1);
        let told_to = Arc::clone(&stopping);
        let again = format!("{} serve --config {}", self.program.display(), self.config.display());
        let watch = move || {
            watch(child, &told_to, &again);
            drop(is_over);
        };
        let watched = std::thread::Builder::new().name("signer-watch".into()).spawn(watch);
        // Without a watcher the lifeline is dropped here, and the signer ends.
        watched.map_err(failed)?;
        Ok(Running { lifeline, stopping, ended, pid })
    }
}

impl Running {
    /// Waits until the proxy is connected to it.
    pub(super) fn wait_until_connected(
        &self,
        app: &mut App,
        patience: Duration,
    ) -> Result<(), String> {
        let deadline = now().after(patience);
        while app.emergency().known().is_none() && !app.is_stop_asked() {
            match self.ended.recv_timeout(Duration::from_millis(20)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("{PROGRAM} ended; above it says why"));
                }
            }
            if now() >= deadline {
                return Err(format!("{PROGRAM} is not connected; the log above says why"));
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.lifeline = None;
        if self.ended.recv_timeout(STOP_MAX) == Err(RecvTimeoutError::Timeout) {
            // It is not waited for yet, so the number is still its own.
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.ended.recv_timeout(STOP_MAX);
        }
    }
}

/// Waits for its end, and says so if nobody asked for it.
fn watch(mut child: Child, told_to: &AtomicBool, again: &str) {
    let ended = child.wait();
    if !told_to.load(Ordering::SeqCst) {
        let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
        tracing::error!(
            target: "breakglass", how, again,
            "THE EMERGENCY SIGNER ENDED: no break-glass until it is started again, by the command `again`"
        );
    }
}

fn keygen(program: &Path, key: &EmergencyKey) -> Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    command
        .args(["keygen", "--algorithm", key.algorithm, "--kid", &key.kid, "--out"])
        .arg(&key.file);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let made = command.spawn().and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            // One that ended without reading it says why by itself.
            let _ = writeln!(stdin, "{DEVELOPMENT_PASSPHRASE}");
        }
        child.wait_with_output()
    });
    succeeded(made, "keygen").map(|output| output.stdout)
}

fn succeeded(output: io::Result<Output>, verb: &str) -> Result<Output, String> {
    match output {
        Ok(output) if output.status.success() => Ok(output),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("{PROGRAM} {verb}: {said}"))
        }
        Err(error) => Err(format!("{PROGRAM} {verb} does not start: {error}")),
    }
}

fn holds_anything(dir: &Path) -> bool {
    // What cannot be read may be there.
    std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_some())
}

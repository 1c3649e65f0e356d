//! The emergency signer of `dev`: a child process, started, watched and stopped. It makes its own
//! keys and journal, so that this process never holds an emergency key (I4).

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use development::{EmergencyKey, Material, MaterialError};
use host::clock::now;

use super::child::{Running, beside_me};
use super::{Places, config};
use crate::app::App;

/// Opens every emergency key of `dev`. No secret: it is printed.
pub(super) const DEVELOPMENT_PASSPHRASE: &str = "development-passphrase";
/// The emergency signer's configuration.
pub(super) const CONFIG: &str = "breakglass-signer.toml";
const PROGRAM: &str = "breakglass-signer";

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
        let again = format!("{} serve --config {}", self.program.display(), self.config.display());
        Running::start(PROGRAM, self.verb("serve"), move |how| {
            tracing::error!(
                target: "breakglass", how, again,
                "THE EMERGENCY SIGNER ENDED: no break-glass until it is started again, by the command `again`"
            );
        })
    }

    /// Waits until the proxy is connected to it.
    pub(super) fn wait_until_connected(
        running: &Running,
        app: &mut App,
        patience: Duration,
    ) -> Result<(), String> {
        let deadline = now().after(patience);
        while app.emergency().known().is_none() && !app.is_stop_asked() {
            if running.has_ended_within(Duration::from_millis(20)) {
                return Err(format!("{PROGRAM} ended; above it says why"));
            }
            if now() >= deadline {
                return Err(format!("{PROGRAM} is not connected; the log above says why"));
            }
        }
        Ok(())
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

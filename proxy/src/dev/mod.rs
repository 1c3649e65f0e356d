//! `signing-proxy dev`: the whole product on one machine with one command, on
//! material made up for it.

mod child;
mod config;
mod emergency;
mod environment;
mod guide;
mod trail;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use configuration::Config;
use development::{Material, MaterialError};
use host::out;
use monitor::Store;
use serde_json::json;

pub use self::child::Running;

use self::emergency::Emergency;
use self::trail::Trail;
use crate::app::App;
use crate::init::{InitError, init};
use crate::materials::Materials;

const CONFIG: &str = "signing-proxy.toml";

/// How long `dev` waits for its gates before it says that they do not open.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long an outage has to last before break-glass, unless told otherwise.
const MIN_OUTAGE: Duration = Duration::from_secs(1_800);
/// The longest, as the configuration takes it.
const MIN_OUTAGE_MAX: Duration = Duration::from_secs(604_800);

/// What `dev` is asked for.
#[derive(Clone, Debug)]
pub struct Places {
    /// Where everything is made and kept.
    pub dir: PathBuf,
    /// The data plane.
    pub listen: SocketAddr,
    /// Metrics and health.
    pub metrics: SocketAddr,
    /// How long an outage has to last before break-glass.
    pub min_outage: Duration,
    /// The database that the trail carries both journals to.
    pub trail: Option<String>,
    /// Where the trail shows its status.
    pub trail_metrics: SocketAddr,
    /// The fleet that it is a member of.
    pub fleet: Option<Fleet>,
}

/// A fleet, and who may end its freezes.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Its name.
    pub name: String,
    /// Their allowed_signers file; none: that of this `dev`.
    pub approvers: Option<PathBuf>,
}

/// What `dev` runs with.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration it wrote.
    pub config_file: PathBuf,
    material: Material,
    /// What break-glass runs with, or why there is no break-glass.
    emergency: Result<Emergency, String>,
    /// What the trail runs with, where one is asked for, or why it does not run.
    trail: Option<Result<Trail, String>>,
    /// Whether it is a member of a fleet.
    is_in_fleet: bool,
}

/// Reads `10s`, `2m` or `1h`.
///
/// # Errors
/// What is expected.
pub fn min_outage(text: &str) -> Result<Duration, String> {
    let units = [('s', 1), ('m', 60), ('h', 3_600)];
    let read = units.iter().find_map(|(unit, seconds)| {
        text.strip_suffix(*unit)?.parse::<u64>().ok()?.checked_mul(*seconds)
    });
    let outage = read.map(Duration::from_secs);
    outage.filter(|outage| (Duration::from_secs(1)..=MIN_OUTAGE_MAX).contains(outage)).ok_or_else(
        || "expected seconds, minutes or hours such as 10s, 2m or 1h, at most a week".to_owned(),
    )
}

/// Makes what is missing, and writes the configurations.
///
/// # Errors
/// [`MaterialError`]. Without emergency signer it goes on without break-glass.
pub fn prepare(places: &Places) -> Result<Prepared, MaterialError> {
    let material = Material::prepare(&places.dir)?;
    let emergency = Emergency::prepare(&material, places)?;
    let text = config::proxy(&material, places, emergency.is_ok());
    material.write(CONFIG, text.as_bytes())?;
    let trail = match &places.trail {
        Some(url) => {
            let place = (url.as_str(), places.trail_metrics);
            let is_in_fleet = places.fleet.is_some();
            Some(Trail::prepare(&material, place, (emergency.is_ok(), is_in_fleet))?)
        }
        None => None,
    };
    let (config_file, is_in_fleet) = (material.path(CONFIG), places.fleet.is_some());
    Ok(Prepared { config_file, material, emergency, trail, is_in_fleet })
}

impl Prepared {
    /// Starts the emergency signer, where there is one.
    ///
    /// # Errors
    /// Why there is no break-glass.
    pub fn start_signer(&self) -> Result<Running, String> {
        self.emergency.as_ref().map_err(String::clone)?.start()
    }

    /// Starts the trail, where one is asked for.
    ///
    /// # Errors
    /// Why there is none.
    pub fn start_trail(&self) -> Result<Option<Running>, String> {
        let Some(trail) = &self.trail else { return Ok(None) };
        trail.as_ref().map_err(String::clone)?.start().map(Some)
    }
}

/// Makes the journal if there never was one here. One that is gone is not replaced
/// silently: the start says what to do.
///
/// # Errors
/// [`InitError`].
pub fn journal(materials: &Materials) -> Result<(), InitError> {
    let Config { audit, state_dir, .. } = &materials.config;
    let was_here = Store::open(state_dir)?.1.is_some_and(|stored| stored.witness.is_some());
    if !was_here && !audit.dir.exists() {
        init(materials)?;
    }
    Ok(())
}

/// Says what runs where and what to paste, for a person on stderr, and in one
/// line `ready {json}` on stdout for a program. `running` is the emergency signer. Whoever asks for a
/// stop meanwhile is told neither.
///
/// # Errors
/// [`MaterialError`] if the example message or the caller's variables cannot be written.
pub fn announce(
    prepared: &Prepared,
    app: &mut App,
    running: Result<&Running, &str>,
) -> Result<(), MaterialError> {
    let material = &prepared.material;
    material.write("message.txt", b"hello from signing-proxy dev\n")?;
    let variables = environment::of_caller(material, (app.listen, app.metrics_listen))?;
    material.write(environment::FILE, variables.as_bytes())?;
    let healthy = app.wait_until_healthy(PATIENCE);
    let breakglass = match (running, &prepared.emergency) {
        (Ok(running), Ok(emergency)) => {
            let connected = Emergency::wait_until_connected(running, app, PATIENCE);
            connected.map(|()| emergency.ready())
        }
        (Err(why), _) => Err(why.to_owned()),
        (_, Err(why)) => Err(why.clone()),
    };
    if app.is_stop_asked() {
        return Ok(());
    }
    let breakglass = breakglass.as_ref().map_err(String::as_str);
    let trail = prepared.trail.as_ref().and_then(|trail| trail.as_ref().ok());
    let trail = trail.map(|trail| trail.status);
    let with = (trail, prepared.is_in_fleet);
    out::say(&guide::guide(material, app, healthy, (breakglass, with)));
    let path = |name: &str| material.path(name).display().to_string();
    let ready = json!({
        "url": format!("https://{}", app.listen),
        "metrics_url": format!("http://{}/metrics", app.metrics_listen),
        "health_url": format!("http://{}/health", app.metrics_listen),
        "healthy": healthy,
        "admin_socket": path("run/admin.sock"),
        "local_door": config::has_local_door().then(|| path(config::LOCAL_DOOR)),
        "ca": path("pki/ca.pem"),
        "client_certificate": path("pki/client.pem"),
        "client_key": path("pki/client.key"),
        "registry": path("signers.json"),
        "journal": path("journal"),
        "config": path(CONFIG),
        "env": path(environment::FILE),
        "signers": material.signers().map(|(kid, _)| kid).collect::<Vec<_>>(),
        "breakglass": breakglass.ok().map(|ready| json!({
            "signer_socket": path("run/signer.sock"),
            "operator_socket": path("run/operator.sock"),
            "approvers": material
                .approvers()
                .map(|approver| (approver.role, approver.key_file.display().to_string()))
                .collect::<BTreeMap<_, _>>(),
            "emergency_kid": ready.kid,
            "emergency_kids": ready.kids,
            "emergency_public_key": path(&format!("keys/{}.pub.pem", ready.kid)),
            "min_outage_s": ready.min_outage.as_secs(),
            "journal": path("breakglass/journal"),
            "config": path(emergency::CONFIG),
        })),
        "trail": trail.map(|status| json!({
            "config": path(trail::CONFIG),
            "status_url": format!("http://{status}/status"),
        })),
    });
    // Who started it may not look. What serves is not stopped for that.
    if let Err(error) = out::show(&format!("ready {}", text::json(&ready.to_string()))) {
        tracing::warn!(%error, "the line `ready` was not printed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimum_outage_is_a_number_with_its_unit() {
        for (text, seconds) in
            [("1s", 1), ("10s", 10), ("2m", 120), ("1h", 3_600), ("168h", 604_800)]
        {
            assert_eq!(min_outage(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in [
            "",
            "s",
            "10",
            "0s",
            "-1s",
            "1.5h",
            "169h",
            "10 s",
            "99999999999999999999s",
            "10000000000000000000h",
        ] {
            assert!(min_outage(bad).is_err(), "{bad:?}");
        }
    }
}

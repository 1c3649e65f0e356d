//! Looks at every component once a second, keeps since when it is as it is, and says each change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use host::clock::{now, wall_now};
use host::socket::{Bound, Seen, Watched};
use signing_core::Moment;
use time::OffsetDateTime;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::judge::{self, Verdict};
use crate::handles::Handles;
use crate::log::Log;
use crate::reload::Reloader;
use breakglass::emergency::Emergency;
use breakglass::heads::Heads;
use monitor::Monitor;
use mtls::ServerTls;
use sign::required::Required;
use telemetry::conditions::{Condition, Conditions, Level};

/// How often every component is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How long the emergency signer may be away before that counts.
const AWAY_MIN: Duration = Duration::from_secs(4);
/// How often the path of the admin socket is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where the evidence comes from.
#[derive(Debug)]
pub struct Sources {
    /// The TLS material in force.
    tls: Arc<ArcSwap<ServerTls>>,
    /// What became of the newest reload.
    reloader: Arc<Reloader>,
    /// The emergency signer.
    emergency: Emergency,
    /// What is heard of the fleet.
    monitor: Monitor,
    /// The required sink.
    required: Required,
    /// The log.
    log: Log,
    /// When this machine last wrote the journal before the start.
    journal_written: Option<OffsetDateTime>,
}

impl Sources {
    /// The evidence of a proxy whose journal was last written at `journal_written`.
    #[must_use]
    pub fn new(
        handles: &Handles,
        tls: Arc<ArcSwap<ServerTls>>,
        reloader: Arc<Reloader>,
        log: Log,
        journal_written: Option<OffsetDateTime>,
    ) -> Self {
        let (emergency, monitor) = (handles.emergency.clone(), handles.monitor.clone());
        let required = handles.required.clone();
        Self { tls, reloader, emergency, monitor, required, log, journal_written }
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    wall: OffsetDateTime,
    boot: Moment,
}

/// Looks for ever. The first look is done when the first await is reached.
pub async fn watch(conditions: Arc<Conditions>, sources: Sources) {
    let mut generation = sources.reloader.generation();
    let mut start = Clocks { wall: wall_now(), boot: now() };
    let mut connected_at = now();
    loop {
        // A signer that starts anew, as after an update, is away for a moment.
        let connected = sources.emergency.is_connected();
        if connected != Some(false) {
            connected_at = now();
        }
        let is_away = now().since(connected_at) > AWAY_MIN;
        let connected = connected.map(|connected| connected || !is_away);
        let newest = sources.reloader.generation();
        if newest != generation {
            // Whoever reloads has looked at the conditions: the clock counts as right from here.
            (generation, start) = (newest, Clocks { wall: wall_now(), boot: now() });
        }
        judge_all(&conditions, &sources, start, connected);
        tokio::time::sleep(EVERY).await;
    }
}

fn judge_all(conditions: &Conditions, sources: &Sources, start: Clocks, connected: Option<bool>) {
    let wall = wall_now();
    let tls = sources.tls.load();
    let awake = time::Duration::try_from(now().since(start.boot)).unwrap_or(time::Duration::MAX);
    let set = (wall - start.wall).checked_sub(awake).unwrap_or(time::Duration::MAX);
    let lost = conditions.why_admin_socket_lost();
    let refused = sources.reloader.refusal();
    let refused_files = sources.reloader.certificates_refusal();
    let refused_log = sources.emergency.heads().and_then(Heads::refused);
    let verdicts = [
        judge::server_certificate(tls.certificate(), wall),
        judge::client_authorities(tls.authorities(), wall),
        judge::revocation_lists(tls.revocation_lists(), wall),
        judge::admin_socket(lost.as_ref().map(|why| why.as_str())),
        judge::emergency_signer(connected, refused_log.as_ref().map(|log| log.why.as_str())),
        judge::fleet(&sources.monitor.fleet(), now()),
        judge::required_trail(sources.required.error().as_ref()),
        judge::log(sources.log.state()),
        judge::tls_files(refused_files.as_deref().map(String::as_str)),
        judge::reload(refused.as_deref().map(String::as_str)),
        judge::clock(wall, sources.journal_written, set),
    ];
    let before = conditions.all();
    let all = verdicts.map(|verdict| condition(verdict, &before, wall));
    conditions.set(all.into());
}

/// The condition that follows from a verdict. A change of its level is said once.
fn condition(verdict: Verdict, before: &[Condition], now: OffsetDateTime) -> Condition {
    let Verdict { component, level, detail } = verdict;
    let before = before.iter().find(|condition| condition.component == component);
    let was = before.map_or(Level::Ok, |condition| condition.level);
    let since = before.filter(|_| was == level).map_or(now, |condition| condition.since);
    let word = component.word();
    if level != was {
        match level {
            Level::Ok => tracing::info!(target: "condition", component = word, "ok again"),
            Level::Degraded => {
                tracing::warn!(target: "condition", component = word, detail, "degraded")
            }
            Level::Failed => {
                tracing::error!(target: "condition", component = word, detail, "failed")
            }
        }
    }
    Condition { component, level, detail, since }
}

/// Looks for ever whether the admin socket's path still leads here, and sends the socket that is
/// bound in its place. A thread that may block looks: a file system that hangs stops nobody else.
pub async fn watch_socket(
    bound: Arc<Mutex<Bound>>,
    again: mpsc::Sender<UnixListener>,
    conditions: Arc<Conditions>,
) {
    let mut watched = Watched::new(locked(&bound).clone());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let looked = tokio::task::spawn_blocking(watched.inspection()).await;
        let looked = looked.map_err(|error| error.to_string());
        let lost = match watched.looked(looked, UnixListener::from_std) {
            Seen::Ours | Seen::Back => None,
            Seen::BoundAgain(listener) => {
                tracing::warn!(target: "admin", "the admin socket was removed, and is bound again");
                // Whoever accepts is alive as long as this task.
                let _ = again.send(listener).await;
                None
            }
            Seen::Lost(failure) => Some(failure.why),
            Seen::Unseen(failure) => Some(format!("its path cannot be looked at: {}", failure.why)),
        };
        // For the stop, which removes it.
        *locked(&bound) = watched.bound().clone();
        conditions.admin_socket_lost(lost);
    }
}

fn locked(bound: &Mutex<Bound>) -> MutexGuard<'_, Bound> {
    // It is replaced whole: a panic leaves a whole value.
    bound.lock().unwrap_or_else(PoisonError::into_inner)
}

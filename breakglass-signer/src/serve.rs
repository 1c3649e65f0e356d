//! The process: what it denies itself, what it reads, then its tasks, all on one thread
//! beside the journal's and those of `worker.rs`. When any of them ends, so does the process.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, bail};
use audit::{Claims, Clock, Identity, Opened, TreeFile, WriterKeys};
use host::clock::{now, wall_now};
use host::places::Places;
use host::service_manager::ServiceManager;
use host::user::LocalUsers;
use nix::unistd::geteuid;
use serde_json::json;
use signing_core::breakglass::End;
use signing_core::journal::{AuditKeys, InForce};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::task::{LocalSet, spawn_local, yield_now};

use crate::config::Socket;
use crate::history::Unended;
use crate::keyfile;
use crate::lifeline::Lifeline;
use crate::listening::{Door, Listening};
use crate::log::Log;
use crate::materials::Materials;
use crate::memory::{self, Room};
use crate::sandbox::{self, Landlock};
use crate::saver::Saver;
use crate::seal;
use crate::service::{Known, Service};
use crate::signals::Signals;
use crate::store::Store;
use crate::{arming, connection, operator};

/// Connections of one user of `signer.socket`; a proxy needs one.
const PER_PROXY_MAX: usize = 8;
/// Connections of one user of `operator.socket`; each has one ask.
const PER_OPERATOR_MAX: usize = 16;

/// Serves until a signal, until the lifeline closes if there is one, or until it cannot go on. `open`
/// is what others may do to its files, which is said first. `manager`, which was reached before this process denied itself to
/// connect, hears of it.
///
/// # Errors
/// Why it did not start, or cannot go on.
pub fn serve(
    (materials, audit_keys): (Materials, WriterKeys),
    open: &[String],
    (lifeline, manager): (Option<Lifeline>, Result<ServiceManager, String>),
    signals: (Signals, Runtime),
) -> anyhow::Result<()> {
    let config = &materials.config;
    let unlocked = sandbox::lock_memory();
    if !config.development {
        unlocked.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    let listeners = (
        host::socket::bind("signer.socket", &config.signer.path)?,
        host::socket::bind("operator.socket", &config.operator.path)?,
    );
    let sockets = [config.signer.path.as_path(), config.operator.path.as_path()];
    let changed: Vec<PathBuf> = vec![config.state_dir.clone(), config.journal_dir.clone()];
    let keys: Vec<&Path> = materials.keys.values().map(|held| held.file.as_path()).collect();
    if !config.journal_dir.is_dir() {
        bail!(
            "audit.dir {}: there is no journal here; if there never was one, make it: \
             breakglass-signer init --config FILE; if there was, bring it back",
            config.journal_dir.display()
        );
    }
    if let Some(group) = config.reader_group {
        audit::let_in(&config.journal_dir, group)?;
    }
    // Out of reach after that.
    let users = LocalUsers::read();
    let memory = memory::notes(&materials.keys, Room::of_process());
    let landlock = sandbox::confine(&[&config.approvers_file], &changed, &keys, &sockets)?;
    // Every thread that is started from here on is confined too.
    let log = Log::start()?;
    for note in materials.notes().iter().chain(open).chain(&memory) {
        log.warn(note, json!({}));
    }
    unreadable(&materials, &log);
    if let Err(error) = &unlocked {
        log.warn("secrets may be swapped out", json!({"error": error.to_string()}));
    }
    match landlock {
        Landlock::Full => {}
        Landlock::Partial => log.warn("this kernel's landlock is old: only some of its rules are in force", json!({})),
        Landlock::None => log.error(
            "this kernel has no landlock: which files this process reaches is not bounded; seccomp is in force",
            json!({}),
        ),
    }
    let manager = manager.unwrap_or_else(|error| {
        log.error("systemd does not hear of this process", json!({"trouble": error}));
        ServiceManager::default()
    });
    let lives = (lifeline, manager);
    let ended = run((materials, audit_keys, users), listeners, lives, signals, &log);
    if let Err(error) = &ended {
        log.error("it cannot go on", json!({"error": format!("{error:#}")}));
    }
    log.flush();
    ended
}

/// Says now, and not in the emergency, which keys this process cannot open as it is confined.
fn unreadable(materials: &Materials, log: &Log) {
    for (kid, error) in arming::probe(&materials.keys) {
        if let Some(held) = materials.keys.get(&kid).filter(|held| keyfile::is_there(&held.file)) {
            log.warn(
                "an emergency key cannot be opened here, so no session can use it; give its file, which \
                 has to be the file itself in a directory of its own, to this process's user",
                json!({"emergency_kid": kid.as_str(), "file": held.file.display().to_string(),
                       "error": error}),
            );
        }
    }
}

fn run(
    (materials, audit_keys, users): (Materials, WriterKeys, LocalUsers),
    listeners: (Door, Door),
    (lifeline, manager): (Option<Lifeline>, ServiceManager),
    (signals, runtime): (Signals, Runtime),
    log: &Log,
) -> anyhow::Result<()> {
    let config = &materials.config;
    let store = Store::new(&config.state_dir);
    let stored = store.read(&config.journal_dir)?;
    store.begin(&stored)?;
    let keys = AuditKeys::of_registry(&materials.registry);
    let known = stored.witness.as_ref().map(|witness| {
        witness.parse().context("state.dir: the head of the journal in it cannot be read")
    });
    // The proxy connects here, so it cannot be asked: its journal can (`signctl audit verify --with`).
    let known = known.transpose()?.map(audit::Known::of_state);
    let known = materials.known_heads.iter().cloned().chain(known).collect();
    let claims = Claims { known, ask: None };
    let opened = Opened::open(&config.journal_dir, audit_keys, &keys, claims)?;
    let mut history = stored.history;
    let tree = TreeFile::open(&config.state_dir).context("state.dir: the nodes of the tree")?;
    let summary = history.read(&config.journal_dir, Some(&tree))?;
    // No reason to refuse the start: the next emergency needs the other keys.
    for why in materials.orphans(&history).into_values() {
        log.warn(&why, json!({}));
    }
    let identity = Identity {
        deployment: &config.deployment,
        audit_kid: materials.audit_kid.as_str(),
        version: env!("CARGO_PKG_VERSION"),
        required_trail: None,
        in_force: &InForce::default(),
    };
    let clock = Clock { now, wall: wall_now };
    let journal = opened.start(&identity, config.segment_bytes, clock, tree.observer())?;
    // A journal that says nothing of its beginning remembers nothing.
    let (since, latest) =
        (summary.since.unwrap_or_else(wall_now), summary.latest.unwrap_or_else(wall_now));
    // Once sealed it stays so: by the clock of a later start the doubt may have passed.
    let seal = stored.seal.or_else(|| seal::by_clock(wall_now(), latest));
    let known = Known { history, since, latest, users, seal };
    let saver = Saver::start(store, tree, log.clone())?;
    let service = Service::new(materials, journal.clone(), log.clone(), saver, known)?;
    // Dying before the seal is stored: the next start finds the same clock and the same records.
    runtime.block_on(service.note_seal());
    let tasks = tasks(&service, listeners, (signals, lifeline, manager), summary.unended);
    let ended = LocalSet::new().block_on(&runtime, tasks);
    let reason = if ended.is_ok() { "a signal" } else { "it cannot go on" };
    if let Err(trouble) = journal.stop(reason) {
        log.error("the stop is not recorded", json!({"error": trouble.to_string()}));
    }
    runtime.block_on(service.note_stop());
    ended
}

async fn tasks(
    service: &Rc<Service>,
    (signer, operators): (Door, Door),
    (mut signals, lifeline, manager): (Signals, Option<Lifeline>, ServiceManager),
    unended: Option<Unended>,
) -> anyhow::Result<()> {
    let (mut signer, mut operators) = (Listening::new(signer)?, Listening::new(operators)?);
    if let Some(unended) = unended {
        // Nothing is armed after a restart; what was is said to be over.
        service
            .ended(&unended, End::Restarted, "breakglass-signer", End::Restarted.sentence())
            .await;
    }
    let config = &service.materials.config;
    service.log.info(
        "serving",
        json!({"signer_socket": config.signer.path.display().to_string(),
               "operator_socket": config.operator.path.display().to_string(),
               "instance": service.instance(), "deployment": config.deployment}),
    );
    spawn_local(stay_alive(manager.clone()));
    manager.serving();
    tokio::select! {
        () = service.tick() => bail!("the clock task ended"),
        () = service.watch_arming() => bail!("the task that looks at the keys' files ended"),
        () = accept_proxies(service, &mut signer) => bail!("signer.socket is not served any more"),
        () = accept_operators(service, &mut operators) => bail!("operator.socket is not served any more"),
        why = service.sealed() => bail!("the journal is sealed: {why}; restart reads the disk anew"),
        () = signals.stop(&service.log) => {}
        closed = let_go(lifeline) => closed?,
    }
    manager.stopping();
    service.end(End::Restarted, "breakglass-signer", End::Restarted.sentence()).await;
    Ok(())
}

/// Tells the watchdog that the one thread moves.
async fn stay_alive(manager: ServiceManager) {
    let Some(every) = manager.alive_every() else { return };
    let mut beat = tokio::time::interval(every);
    loop {
        beat.tick().await;
        manager.alive();
    }
}

async fn let_go(lifeline: Option<Lifeline>) -> std::io::Result<()> {
    match lifeline {
        Some(lifeline) => lifeline.closed().await,
        None => std::future::pending().await,
    }
}

async fn accept_proxies(service: &Rc<Service>, listening: &mut Listening) {
    let socket = &service.materials.config.signer;
    let places = shares(socket, PER_PROXY_MAX);
    loop {
        let Some((stream, uid)) = next(listening, service, socket, &places).await else { continue };
        if uid == geteuid().as_raw() && !service.materials.config.development {
            service.log.warn(
                "refused on signer.socket: a proxy has to run as another user than this signer",
                json!({"peer": service.users.named(uid)}),
            );
            continue;
        }
        let Some(place) = places.begin(uid) else { continue };
        let service = Rc::clone(service);
        spawn_local(async move {
            tokio::select! {
                // First what has arrived: whoever said hello does not give way.
                biased;
                () = connection::serve(Rc::clone(&service), stream, &place) => {}
                () = place.gave_way() => service.gave_way(uid, &service.materials.config.signer.path),
            }
        });
    }
}

async fn accept_operators(service: &Rc<Service>, listening: &mut Listening) {
    let socket = &service.materials.config.operator;
    let places = shares(socket, PER_OPERATOR_MAX);
    loop {
        let Some((stream, uid)) = next(listening, service, socket, &places).await else { continue };
        let Some(place) = places.begin(uid) else { continue };
        let service = Rc::clone(service);
        spawn_local(async move {
            tokio::select! {
                // First what has arrived: whoever has asked does not give way.
                biased;
                () = operator::serve(Rc::clone(&service), stream, uid, &place) => {}
                () = place.gave_way() => service.gave_way(uid, &service.materials.config.operator.path),
            }
        });
    }
}

/// Every user who may use the socket has all of its places always, whoever else comes.
fn shares(socket: &Socket, per_user_max: usize) -> Places<u32> {
    Places::new(socket.allowed_uids.len() * per_user_max, per_user_max)
}

/// The next peer that may use the socket.
async fn next(
    listening: &mut Listening,
    service: &Rc<Service>,
    socket: &Socket,
    places: &Places<u32>,
) -> Option<(UnixStream, u32)> {
    // Whoever has asked already is heard before the next one can take its place.
    yield_now().await;
    listening.accept(service, socket, places).await
}

//! The composition root: builds everything, spawns last.

mod admin_thread;
mod journal;
mod recorder;
pub mod signals;
mod start_error;
mod stop;
pub mod upstreams;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use audit::{Clock, Identity};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::clock::{now, wall_now};
use host::log_limit::LogLimit;
use host::socket::Bound;
use release::Probes;
use signing_core::gate::{Gates, Slots};
use signing_core::key::Purpose;
use signing_core::{Registry, Rulebook};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, oneshot, watch};

use crate::admin::Admin;
use crate::app::signals::Signals;
use crate::app::upstreams::Upstreams;
use crate::breakglass::Breakglass;
use crate::breakglass::emergency::{self, Emergency, Notice};
use crate::caller_rates::CallerRates;
use crate::conditions::{Conditions, Sources};
use crate::config::{self, Environment};
use crate::doctor::Doctor;
use crate::drill::Drills;
use crate::health::Health;
use crate::log::Log;
use crate::materials::Materials;
use crate::metrics::{JournalObserver, Metrics};
use crate::monitor::{Monitor, Store, StoreError, calls_for_warmth};
use crate::observe::Observed;
use crate::reload::Reloader;
use crate::server::refusals::Refusals;
use crate::server::{self, Connections, DataPlane, RegistryAnswer};
use crate::sign::SigningRoom;
use crate::sign::finish::Finisher;
use crate::sign::idempotency::Idempotency;
use crate::workers::Worker;
use admin_thread::AdminThread;
use journal::{newest_write, open_journal};
use recorder::Recorder;

pub use start_error::StartError;

/// What may wait to be heard about sessions.
const NOTICES_MAX: usize = 64;

/// A proxy that serves.
#[derive(Debug)]
pub struct App {
    data: Runtime,
    room: Arc<SigningRoom>,
    recorder: Recorder,
    connections: Connections,
    reloader: Arc<Reloader>,
    drain: watch::Sender<bool>,
    drain_timeout: Duration,
    conditions: Arc<Conditions>,
    admin_socket: Arc<std::sync::Mutex<Bound>>,
    workers: Arc<[Worker]>,
    /// Taken by the one who waits.
    signals: Option<Signals>,
    /// Resolves if the admin thread ends; taken by the one who waits.
    admin_ended: Option<oneshot::Receiver<()>>,
    /// Where the data plane listens.
    pub listen: SocketAddr,
    /// Where metrics and health are served.
    pub metrics_listen: SocketAddr,
}

impl App {
    /// Builds and starts everything. When it returns, the listeners accept; the
    /// gates open once their canaries have succeeded.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(
        config_file: PathBuf,
        materials: Materials,
        environment: &Environment,
        log: Log,
        signals: Signals,
    ) -> Result<Self, StartError> {
        let Materials { config, registry, policy, tls, audit_key, development_keys } = materials;

        // What can fail for good is claimed first, and the socket before any thread.
        let (store, stored) = Store::open(&config.state_dir)?;
        let audit_key_id = audit_key.key.id();
        let audit_keys = audit_public_keys(&registry);
        let (audit_kid, opened) = open_journal(&config, audit_key, &registry, stored.as_ref())?;
        let stored = stored.ok_or_else(|| StoreError::Missing(store.file()))?;
        let state = stored.clone().with(opened.in_force()).frozen_by(environment);
        let state = state.sealed_by_clock(opened.written_at(), wall_now());
        if state != stored {
            store.save(&state)?;
        }
        let journal_written = newest_write(&config.audit.dir);
        let admin_listener = host::socket::bind("admin.socket", &config.admin.socket)?;
        let (admin_listener, admin_socket) = admin_listener;
        let admin_socket = Arc::new(std::sync::Mutex::new(admin_socket));
        let data_listener = listen("server.listen", config.server.listen)?;
        let metrics_listener = listen("metrics.listen", config.metrics_listen)?;
        let listen = data_listener.local_addr()?;
        let metrics_listen = metrics_listener.local_addr()?;
        let data = Builder::new_multi_thread().thread_name("data").enable_all().build()?;

        let upstreams = data.block_on(Upstreams::new(&config, &registry, development_keys))?;
        let slots = Slots::new(config.server.requests_in_flight_max)
            .per_caller(config.server.requests_in_flight_per_caller_max);
        let Upstreams { data: served, monitor: probed, watched, measured, patients, workers } =
            upstreams;
        let metrics = Arc::new(Metrics::new(measured, &workers, slots.clone()));
        metrics.loaded(wall_now().unix_timestamp(), &tls);
        let tls = Arc::new(ArcSwap::from_pointee(tls));
        let observer = Box::new(JournalObserver::new(Arc::clone(&metrics)));
        let identity = Identity {
            deployment: &config.deployment,
            audit_kid: audit_kid.as_str(),
            version: env!("CARGO_PKG_VERSION"),
            in_force: &state.in_force,
        };
        let clock = Clock { now, wall: wall_now };
        let journal = opened.start(&identity, config.audit.segment_bytes, clock, observer)?;
        let gates = Gates::new(
            config.thresholds.clone(),
            watched,
            Arc::new(Rulebook::new(registry, policy)),
            now(),
        );
        let probes = Probes::new(now());
        let (monitor, monitor_tasks) = Monitor::new(
            gates,
            (store, state),
            journal.clone(),
            probed,
            (config.probe.clone(), config.thresholds.window.slow_call),
            (Arc::clone(&metrics), probes.clone()),
        )?;
        let (emergency, notices) = emergency(&config, &audit_keys, &data);
        let breakglass = Arc::new(Breakglass {
            emergency: emergency.clone(),
            monitor: monitor.clone(),
            journal: journal.clone(),
            min_outage: config.breakglass.min_outage,
            one: Mutex::default(),
        });
        let (drain, draining) = watch::channel(false);
        let drills = Drills::build(&served, monitor.clone(), journal.clone(), draining.clone());
        let connections = Connections::new(&config.server, Arc::clone(&metrics));
        let room = Arc::new(SigningRoom {
            monitor: monitor.clone(),
            slots: slots.clone(),
            upstreams: served,
            emergency: emergency.clone(),
            idempotency: Idempotency::default(),
            journal: journal.clone(),
            metrics: Arc::clone(&metrics),
            finisher: Finisher::new(data.handle().clone()),
        });
        let rates = Arc::new(CallerRates::new(&config.caller_rates));
        let reloader = Arc::new(Reloader {
            file: config_file,
            environment: environment.clone(),
            running: Mutex::new(config.clone()),
            monitor: monitor.clone(),
            tls: Arc::clone(&tls),
            connections: connections.clone(),
            rates: Arc::clone(&rates),
            journal: journal.clone(),
            audit_key: audit_key_id,
            metrics: Arc::clone(&metrics),
            refusal: ArcSwapOption::empty(),
        });
        let conditions = Arc::new(Conditions::default());
        let sources = Sources {
            tls: Arc::clone(&tls),
            reloader: Arc::clone(&reloader),
            emergency: emergency.clone(),
            log,
            journal_written,
        };
        let refusals = Arc::new(Refusals::default());
        let plane = Arc::new(DataPlane {
            tls,
            limits: config.server.clone(),
            room: Arc::clone(&room),
            connections: connections.clone(),
            rates,
            conditions: Arc::clone(&conditions),
            draining: draining.clone(),
            registry: RegistryAnswer::default(),
            refusals: Arc::clone(&refusals),
            handshake_log: LogLimit::default(),
            refusal_log: LogLimit::default(),
        });
        let admin = Arc::new(Admin {
            access: config.admin.clone(),
            deployment: config.deployment.clone(),
            monitor: monitor.clone(),
            journal: journal.clone(),
            slots,
            connections: connections.clone(),
            reloader: Arc::clone(&reloader),
            breakglass: Arc::clone(&breakglass),
            conditions: Arc::clone(&conditions),
            doctor: Doctor::new(monitor.clone(), patients, Arc::clone(&conditions), probes.clone()),
            workers: Arc::clone(&workers),
            drills,
            started: now(),
        });
        let stops = monitor.stops();
        let observed = Arc::new(Observed {
            monitor,
            journal: journal.clone(),
            emergency,
            conditions: Arc::clone(&conditions),
            metrics,
            draining,
        });

        let data_listener = {
            let _entered = data.enter();
            tokio::net::TcpListener::from_std(data_listener)?
        };
        let recorder = Recorder { refusals, probes, journal };
        let admin_ended = AdminThread {
            monitor_tasks,
            admin_listener: (admin_listener, Arc::clone(&admin_socket)),
            conditions: (Arc::clone(&conditions), sources),
            admin,
            metrics_listener,
            observed,
            recorder: recorder.clone(),
            settling: (connections.clone(), stops),
            keeping: notices.map(|notices| (breakglass, notices)),
        }
        .start()?;
        for (kid, served) in &room.upstreams {
            for reached in served.iter() {
                let upstream = Arc::clone(&reached.upstream);
                let calls = calls_for_warmth(&recorder.probes, kid);
                data.spawn(async move { upstream.keep_warm(calls).await });
            }
        }
        data.spawn(server::accept(data_listener, plane));
        Ok(Self {
            data,
            room,
            recorder,
            connections,
            reloader,
            drain,
            drain_timeout: config.server.drain_timeout,
            conditions,
            admin_socket,
            workers,
            signals: Some(signals),
            admin_ended: Some(admin_ended),
            listen,
            metrics_listen,
        })
    }

    /// The client of the emergency signer.
    #[must_use]
    pub fn emergency(&self) -> &Emergency {
        &self.room.emergency
    }

    /// Whether it was told to stop before anybody waits for that.
    pub fn is_stop_asked(&mut self) -> bool {
        self.signals.as_mut().is_some_and(Signals::is_stop_asked)
    }

    /// Waits until every gate has opened once, or until `patience` is over, or a stop is asked
    /// for. Returns whether all are open.
    #[must_use]
    pub fn wait_until_healthy(&mut self, patience: Duration) -> bool {
        let deadline = now().after(patience);
        loop {
            let healthy =
                Health::of(&self.room.monitor.gates(), &self.conditions.all(), now(), wall_now())
                    .ok;
            if healthy || now() >= deadline || self.is_stop_asked() {
                return healthy;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The client of the emergency signer, where one is configured, and what it hears.
fn emergency(
    config: &config::Config,
    audit_keys: &[String],
    data: &Runtime,
) -> (Emergency, Option<tokio::sync::mpsc::Receiver<Notice>>) {
    let Some(socket) = config.breakglass.signer_socket.clone() else {
        return (Emergency::default(), None);
    };
    let (hear, notices) = tokio::sync::mpsc::channel(NOTICES_MAX);
    let settings = emergency::Settings {
        socket,
        deployment: config.deployment.clone(),
        audit_keys: audit_keys.to_vec(),
        sign_timeout: config.breakglass.sign_timeout,
    };
    let (emergency, connected) = Emergency::new(settings, hear);
    data.spawn(connected);
    (emergency, Some(notices))
}

/// Base64 of the public keys that sign journals.
fn audit_public_keys(registry: &Registry) -> Vec<String> {
    let audit = registry.iter().filter(|signer| signer.purpose == Purpose::Audit);
    audit.map(|signer| STANDARD.encode(signer.public_key.spki_der())).collect()
}

fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| StartError::Listen { key, address, error })
}
